"""SSM kernels: one folder an op, one signature an op, one way to choose an implementation."""

from .backends import BackendError, choose, use_backend
from .conv import Conv, causal_conv1d, causal_conv1d_step
from .graphs import warmup
from .norm import Norm, layer_norm, rms_norm
from .s6 import Scan, selective_scan, selective_scan_step
from .ssd import ssd_scan, ssd_step
from .walk import Walk

__all__ = [
    "BackendError",
    "Conv",
    "Norm",
    "Scan",
    "Walk",
    "causal_conv1d",
    "causal_conv1d_step",
    "choose",
    "layer_norm",
    "rms_norm",
    "selective_scan",
    "selective_scan_step",
    "ssd_scan",
    "ssd_step",
    "use_backend",
    "warmup",
]
