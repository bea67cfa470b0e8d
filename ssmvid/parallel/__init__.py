"""Context parallelism: each rank holds a stretch of a sequence's frames. Maths and use: docs/parallel.md."""

from ssmvid.parallel.context import Piece, active_context, context_parallel, refuse_context, split_frames
from ssmvid.parallel.keys import gather_keys
from ssmvid.parallel.mean import mean_tokens
from ssmvid.parallel.ops import causal_conv1d, selective_scan, ssd_scan
from ssmvid.parallel.orders import path_directions

__all__ = [
    "Piece",
    "active_context",
    "causal_conv1d",
    "context_parallel",
    "gather_keys",
    "mean_tokens",
    "path_directions",
    "refuse_context",
    "selective_scan",
    "split_frames",
    "ssd_scan",
]
