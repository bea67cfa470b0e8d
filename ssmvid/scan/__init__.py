"""What a path through a grid of tokens is: index arithmetic, no modules."""

from ssmvid.scan.orders import ORDERS, Grid, ScanOrder
from ssmvid.scan.patterns import SCHEDULES, ScanPattern, patterns_by_layer

__all__ = ["ORDERS", "SCHEDULES", "Grid", "ScanOrder", "ScanPattern", "patterns_by_layer"]
