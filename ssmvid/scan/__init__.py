"""What a path through a grid of tokens is: index arithmetic, no modules."""

from ssmvid.scan.blocks import padded_windows
from ssmvid.scan.curves import CURVES
from ssmvid.scan.grid import Grid
from ssmvid.scan.layout import Layout
from ssmvid.scan.naming import AXES
from ssmvid.scan.orders import ORDERS, ScanOrder
from ssmvid.scan.padding import padded_walks
from ssmvid.scan.patterns import MERGES, SCHEDULES, Merge, ScanPattern, patterns_by_layer
from ssmvid.scan.plans import PATTERNS, ScanPlan
from ssmvid.scan.prefix import Place, prefix_steps

__all__ = [
    "AXES",
    "CURVES",
    "MERGES",
    "ORDERS",
    "PATTERNS",
    "SCHEDULES",
    "Grid",
    "Layout",
    "Merge",
    "Place",
    "ScanOrder",
    "ScanPattern",
    "ScanPlan",
    "padded_walks",
    "padded_windows",
    "patterns_by_layer",
    "prefix_steps",
]
