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
    """As `norm_reference`, over torch's own kernel."""
    dtype, d = stream_dtype(x, residual), x.shape[-1]
    stream = x.to(dtype) if residual is None else x.to(dtype) + residual
    gate = None if z is None else F.silu(z.to(dtype))
    u = stream * gate if gate is not None and gate_first else stream
    size, alone = d // groups, groups == 1
    weight, bias = (None if parameter is None else parameter.to(dtype) for parameter in (weight, bias))
    if u.numel():  # torch norms nothing of width 0
        u = u.unflatten(-1, (groups, size))
        if centred:  # F.layer_norm multiplies before it takes the mean away: few channels cancel into its rounding
            u = u - u.mean(-1, keepdim=True)
        u = F.rms_norm(u, (size,), weight if alone else None, eps).flatten(-2)
    if weight is not None and not alone:
        u = u * weight
    if bias is not None:
        u = u + bias
    if gate is not None and not gate_first:
        u = u * gate
    return u.to(x.dtype), None if residual is None else stream
