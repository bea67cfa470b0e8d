"""mamba_ssm's whole inside of a Mamba-2 block (`mamba_ssm.ops.triton.ssd_combined`) over our ops."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..conv import causal_conv1d
from .conv import conv_packed, to_activation
from .norm import rmsnorm_fn
from .ssd import NO_LIMIT, refuse_state_dtype, scan_rows


def mamba_split_conv1d_scan_combined(
    zxbcdt: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    chunk_size: int,
    initial_states: Tensor | None = None,
    seq_idx: Tensor | None = None,
    dt_limit: tuple[float, float] = NO_LIMIT,
    return_final_states: bool = False,
    activation: str | None = "silu",
    rmsnorm_weight: Tensor | None = None,
    rmsnorm_eps: float = 1e-6,
    outproj_weight: Tensor | None = None,
    outproj_bias: Tensor | None = None,
    headdim: int | None = None,
    ngroups: int = 1,
    norm_before_gate: bool = True,
    state_dtype: torch.dtype | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Split, convolve, scan, gate, and, where they are given, norm and project.

    Args:
        zxbcdt: (b, l, 2 * mlp + 2 * d + 2 * ngroups * n + heads): a gated MLP's two halves (mlp may be 0), the gate
            z, x, B, C, and the step size; d = heads * headdim.
        conv1d_weight, conv1d_bias: of x, B and C (d + 2 * ngroups * n, width) and (d + 2 * ngroups * n,).
        dt_bias, A: (heads,).
        D: (heads, headdim), or (heads,) and `headdim` says the other.
        chunk_size, initial_states, seq_idx, dt_limit, return_final_states, state_dtype: as in
            `mamba_chunk_scan_combined`; softplus of dt + dt_bias is always taken.
        activation: of the convolution: 'silu', the same as 'swish', or None.
        rmsnorm_weight: (d,): y is normed in `ngroups` groups of channels, before or after the gate. None: gated only.
        outproj_weight, outproj_bias: (out, mlp + d) and (out,).

    Returns:
        y (b, l, mlp + d), or (b, l, out); with `return_final_states` the state (b, heads, headdim, n) too.

    Raises:
        ValueError: a shape does not fit, or `headdim` is missing; as `mamba_chunk_scan_combined`.
        NotImplementedError: `activation` is another.

    Source: mamba_split_conv1d_scan_combined of github.com/state-spaces/mamba, version 2.3.2.
    """
    op = "mamba_split_conv1d_scan_combined"
    refuse_state_dtype(op, state_dtype)
    act = to_activation(op, activation)
    if D.dim() == 1 and headdim is None:
        raise ValueError(f"{op}: D (heads,) = {tuple(D.shape)} needs headdim, got None")
    if outproj_bias is not None and outproj_weight is None:
        raise ValueError(f"{op}: outproj_bias needs outproj_weight, got None")
    heads, p = D.shape[0], headdim if D.dim() == 1 and headdim is not None else D.shape[-1]
    width, d = conv1d_weight.shape[0], heads * p
    mlp, odd = divmod(zxbcdt.shape[-1] - d - width - heads, 2)
    if zxbcdt.dim() != 3 or mlp < 0 or odd or width <= d or (width - d) % (2 * ngroups):
        raise ValueError(
            f"{op}: zxbcdt must be (b, l, 2 * mlp + d + width + heads) and conv1d_weight (width, taps) with width = "
            f"d + 2 * ngroups * n, got {tuple(zxbcdt.shape)} and {tuple(conv1d_weight.shape)} "
            f"(heads = {heads}, d = {d}, ngroups = {ngroups})"
        )
    gated, z, xBC, dt = zxbcdt.split([2 * mlp, d, width, heads], -1)
    if seq_idx is None:
        xBC = causal_conv1d(xBC, conv1d_weight, conv1d_bias, activation=act).y
    else:
        xBC = conv_packed(op, xBC, conv1d_weight, conv1d_bias, seq_idx, act)
    x, B, C = xBC.split([d, (width - d) // 2, (width - d) // 2], -1)
    by_head = lambda tensor: tensor.unflatten(-1, (heads, p))
    by_group = lambda tensor: tensor.unflatten(-1, (ngroups, -1))
    gate = by_head(z) if rmsnorm_weight is None else None
    y, h, _ = scan_rows(
        op, by_head(x), dt, A, by_group(B), by_group(C), D, gate, dt_bias, initial_states, seq_idx, True, dt_limit
    )
    y = y.flatten(2)
    if rmsnorm_weight is not None:
        y = rmsnorm_fn(y, rmsnorm_weight, None, z, rmsnorm_eps, d // ngroups, norm_before_gate)
    if mlp:
        left, right = gated.chunk(2, -1)
        y = torch.cat([F.silu(left) * right, y], -1)
    if outproj_weight is not None:
        y = F.linear(y, outproj_weight, outproj_bias)
    return (y, h) if return_final_states else y
