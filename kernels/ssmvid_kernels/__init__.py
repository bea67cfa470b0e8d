"""SSM kernels: one folder an op, one signature an op, one way to choose an implementation."""

from .backends import BackendError, choose, use_backend
from .conv import Conv, causal_conv1d, causal_conv1d_step
from .graphs import warmup
from .s6 import Scan, selective_scan, selective_scan_step
from .ssd import ssd_scan, ssd_step
from .walk import Walk

__all__ = [
    "BackendError",
    "Conv",
    "Scan",
    "Walk",
    "causal_conv1d",
    "causal_conv1d_step",
    "choose",
    "selective_scan",
    "selective_scan_step",
    "ssd_scan",
    "ssd_step",
    "use_backend",
    "warmup",
]
