"""What a model is trained for: clips and targets in, a loss and outputs back. Tasks know no data set."""

from ssmvid.tasks.classify import Classify

__all__ = ["Classify"]
