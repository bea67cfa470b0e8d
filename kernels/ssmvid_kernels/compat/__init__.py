"""mamba_ssm's and causal_conv1d's functions over our ops: code written for them runs by changing the import.

Names, arguments, layouts and defaults are theirs; no CUDA extension is needed, and `use_backend` chooses what runs.
What has no meaning here is refused by name.
"""

from .conv import causal_conv1d_fn, causal_conv1d_update, causal_conv1d_varlen_states
from .mamba1 import mamba_inner_fn
from .mamba2 import mamba_split_conv1d_scan_combined
from .norm import rmsnorm_fn
from .selective_scan import selective_scan_fn
from .ssd import mamba_chunk_scan_combined
from .state_update import selective_state_update

__all__ = [
    "causal_conv1d_fn",
    "causal_conv1d_update",
    "causal_conv1d_varlen_states",
    "mamba_chunk_scan_combined",
    "mamba_inner_fn",
    "mamba_split_conv1d_scan_combined",
    "rmsnorm_fn",
    "selective_scan_fn",
    "selective_state_update",
]
