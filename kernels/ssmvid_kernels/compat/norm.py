"""mamba_ssm's gated RMSNorm (`mamba_ssm.ops.triton.layernorm_gated`)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rmsnorm_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    z: Tensor | None = None,
    eps: float = 1e-6,
    group_size: int | None = None,
    norm_before_gate: bool = True,
) -> Tensor:
    """Norm the last axis of x by its root mean square; all in fp32 at least.

    Args:
        x: (..., d); z, the gate, as x.
        weight, bias: (d,).
        eps: added to the mean square.
        group_size: channels that are normed together, a divisor of d. None: all d.
        norm_before_gate: norm(x) * silu(z); else norm(x * silu(z)).

    Returns:
        y, as x.

    Source: rmsnorm_fn of github.com/state-spaces/mamba, version 2.3.2.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    gate = None if z is None else F.silu(z.to(wide.dtype))
    if gate is not None and not norm_before_gate:
        wide = wide * gate
    groups = wide.unflatten(-1, (-1, group_size or x.shape[-1]))
    y = (groups * torch.rsqrt(groups.square().mean(-1, keepdim=True) + eps)).flatten(-2) * weight
    if bias is not None:
        y = y + bias
    if gate is not None and norm_before_gate:
        y = y * gate
    return y.to(x.dtype)
