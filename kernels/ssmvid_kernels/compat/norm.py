"""mamba_ssm's gated RMSNorm (`mamba_ssm.ops.triton.layernorm_gated`) over `rms_norm`."""

from __future__ import annotations

from torch import Tensor

from ..norm import rms_norm


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

    Raises:
        ValueError, TypeError: as `rms_norm`.

    Source: rmsnorm_fn of github.com/state-spaces/mamba, version 2.3.2.
    """
    y, _ = rms_norm(x, weight, bias, z=z, group_size=group_size, norm_before_gate=norm_before_gate, eps=eps)
    return y
