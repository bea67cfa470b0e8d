"""The norms in plain PyTorch: any device, any transform of torch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .op import stream_dtype


def norm_torch(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    z: Tensor | None,
    *,
    groups: int,
    gate_first: bool,
    centred: bool,
    eps: float,
) -> tuple[Tensor, Tensor | None]:
    """As `norm_reference`, over torch's own kernels for one group."""
    dtype, d = stream_dtype(x, residual), x.shape[-1]
    stream = x.to(dtype) if residual is None else x.to(dtype) + residual
    gate = None if z is None else F.silu(z.to(dtype))
    u = stream * gate if gate is not None and gate_first else stream
    size = d // groups
    if u.numel():  # torch norms nothing of width 0
        norm = F.layer_norm if centred else F.rms_norm
        u = norm(u.unflatten(-1, (groups, size)), (size,), eps=eps).flatten(-2)
    if weight is not None:
        u = u * weight.to(dtype)
    if bias is not None:
        u = u + bias.to(dtype)
    if gate is not None and not gate_first:
        u = u * gate
    return u.to(x.dtype), None if residual is None else stream
