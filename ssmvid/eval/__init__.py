"""From a trained run to numbers. A checkpoint is read as data: nothing in it is run."""

from ssmvid.eval.evaluate import evaluate
from ssmvid.eval.needle_map import needle_map
from ssmvid.eval.restore import Trained, build_data, restore

__all__ = ["Trained", "build_data", "evaluate", "needle_map", "restore"]
