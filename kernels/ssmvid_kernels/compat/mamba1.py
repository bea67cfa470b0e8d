"""mamba_ssm's whole inside of a Mamba block (`mamba_ssm.ops.selective_scan_interface`) over our ops."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..conv import causal_conv1d
from .norm import rmsnorm_fn
from .selective_scan import refuse_complex, scan_channel_first


def mamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
    checkpoint_lvl: int = 1,
    b_rms_weight: Tensor | None = None,
    c_rms_weight: Tensor | None = None,
    dt_rms_weight: Tensor | None = None,
    b_c_dt_rms_eps: float = 1e-6,
) -> Tensor:
    """Convolve, project to B, C and the step size, scan, gate, project.

    Args:
        xz: input and gate, (b, 2 * d, l).
        conv1d_weight, conv1d_bias: (d, 1, width) and (d,).
        x_proj_weight: (rank + n where B is None + n where C is None, d).
        delta_proj_weight: (d, rank).
        out_proj_weight, out_proj_bias: (out, d) and (out,).
        A: state decay (d, n), real.
        B, C: None: projected from the input. Else as in `selective_scan_fn`.
        D, delta_bias, delta_softplus: as in `selective_scan_fn`.
        B_proj_bias, C_proj_bias: (n,), added to what is projected.
        checkpoint_lvl: 0 or 1: what mamba_ssm's backward computes again; memory there, never the result. Not read.
        b_rms_weight, c_rms_weight, dt_rms_weight: (n,), (n,) and (d,): B, C and the step size are RMS-normed. Unlike
            there, they have their gradients.
        b_c_dt_rms_eps: of these norms.

    Returns:
        (b, l, out).

    Raises:
        ValueError: a shape does not fit.
        TypeError: a tensor is complex, or not floating point.

    Source: mamba_inner_fn of github.com/state-spaces/mamba, version 2.3.2.
    """
    op = "mamba_inner_fn"
    refuse_complex(op, A=A)
    for name, given, *extras in (("B", B, B_proj_bias, b_rms_weight), ("C", C, C_proj_bias, c_rms_weight)):
        if given is not None and any(extra is not None for extra in extras):
            raise ValueError(f"{op}: {name} is given, so {name}_proj_bias and its rms_weight must be None")
    rank, n = delta_proj_weight.shape[1], A.shape[1]
    x, z = xz.chunk(2, dim=1)
    x = causal_conv1d(x.mT, conv1d_weight.squeeze(1), conv1d_bias, activation="silu").y
    projected = F.linear(x, x_proj_weight)  # (b, l, rank + n + n)

    def normed(tensor: Tensor, bias: Tensor | None, weight: Tensor | None) -> Tensor:
        tensor = tensor if bias is None else tensor + bias.to(tensor.dtype)
        return (tensor if weight is None else rmsnorm_fn(tensor, weight, None, eps=b_c_dt_rms_eps)).mT

    delta = normed(F.linear(projected[..., :rank], delta_proj_weight), None, dt_rms_weight)
    if B is None:
        B = normed(projected[..., rank : rank + n], B_proj_bias, b_rms_weight)
    if C is None:
        C = normed(projected[..., -n:], C_proj_bias, c_rms_weight)
    y, _ = scan_channel_first(x.mT, delta, A, B, C, D, z, delta_bias, delta_softplus)
    return F.linear(y, out_proj_weight, out_proj_bias)
