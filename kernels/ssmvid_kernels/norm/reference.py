"""The definition. One line of Python a line of the maths; every other implementation is held to it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .op import stream_dtype


def norm_reference(
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
    """Arithmetic in x's dtype, fp32 at least; autograd does the backward.

    The form every implementation takes: x, residual and z (b, l, d); weight and bias (d,). Returns y in x's dtype, and
    x + residual, or None without a residual.
    """
    dtype, d = stream_dtype(x, residual), x.shape[-1]
    stream = x.to(dtype) if residual is None else x.to(dtype) + residual.to(dtype)
    gate = None if z is None else F.silu(z.to(dtype))

    u = stream * gate if gate is not None and gate_first else stream
    u = u.unflatten(-1, (groups, d // groups))
    if centred:
        u = u - u.mean(-1, keepdim=True)
    n = u / torch.sqrt(u.square().mean(-1, keepdim=True) + eps)
    y = n.flatten(-2)
    if weight is not None:
        y = y * weight.to(dtype)
    if bias is not None:
        y = y + bias.to(dtype)
    if gate is not None and not gate_first:
        y = y * gate
    return y.to(x.dtype), None if residual is None else stream
