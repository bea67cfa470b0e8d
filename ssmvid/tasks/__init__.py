"""What a model is trained for: clips and targets in, a loss and outputs back. Tasks know no data set."""

from ssmvid.tasks.classify import Classify
from ssmvid.tasks.needle import Needle

__all__ = ["Classify", "Needle"]
