"""mamba_ssm's SSD (`mamba_ssm.ops.triton.ssd_combined`) over `ssd_scan`."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from ..ssd import ssd_scan
from .packing import pack

NO_LIMIT = (0.0, math.inf)


def mamba_chunk_scan_combined(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    seq_idx: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = NO_LIMIT,
    return_final_states: bool = False,
    return_varlen_states: bool = False,
    state_dtype: torch.dtype | None = None,
) -> Tensor | tuple[Tensor, ...]:
    """Run `ssd_scan`; all tensors as there.

    Args:
        x, dt, A, B, C, D, z, dt_bias, dt_softplus, dt_limit: as in `ssd_scan`.
        chunk_size: what suits mamba_ssm's kernels; speed there, never the result. Ours take what suits them.
        initial_states: state before the first step (b, heads, p, n); with `seq_idx`, of each row's first sequence.
        seq_idx: int (b, l): which sequence a step belongs to; the state starts anew with each run of equal numbers.
        cu_seqlens: int (s + 1,): the borders of `seq_idx`, read where `return_varlen_states` asks for states.
        return_final_states: return the state after the last step (b, heads, p, n) in fp32.
        return_varlen_states: return the state after each of the s sequences (s, heads, p, n); b = 1. Unlike there,
            it has its gradient.
        state_dtype: None or fp32, which states are in either case.

    Returns:
        y (b, l, heads, p) in x's dtype, followed by the states asked for.

    Raises:
        ValueError: a shape does not fit, `state_dtype` is another, or `cu_seqlens` says other than `seq_idx`.

    Source: mamba_chunk_scan_combined of github.com/state-spaces/mamba, version 2.3.2.
    """
    op = "mamba_chunk_scan_combined"
    refuse_state_dtype(op, state_dtype)
    if return_varlen_states and (cu_seqlens is None or seq_idx is None):
        raise ValueError(f"{op}: return_varlen_states needs cu_seqlens and the seq_idx of the same sequences")
    y, h, each = scan_rows(op, x, dt, A, B, C, D, z, dt_bias, initial_states, seq_idx, dt_softplus, dt_limit)
    states = (h,) if return_final_states else ()
    if return_varlen_states and cu_seqlens is not None:
        if each.shape[0] != cu_seqlens.shape[0] - 1:
            raise ValueError(
                f"{op}: cu_seqlens borders {cu_seqlens.shape[0] - 1} sequences, seq_idx numbers {each.shape[0]}: "
                "make both of the same sequences, none of them empty"
            )
        states = (*states, each)
    return (y, *states) if states else y


def scan_rows(
    op: str,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    h0: Tensor | None,
    seq_idx: Tensor | None,
    dt_softplus: bool,
    dt_limit: tuple[float, float],
) -> tuple[Tensor, Tensor, Tensor]:
    """y, the state after each row, and the state after each sequence of `seq_idx` (None: a row is a sequence)."""
    scan = partial(ssd_scan, dt_bias=dt_bias, dt_softplus=dt_softplus, dt_limit=dt_limit)
    if seq_idx is None:
        y, h = scan(x, dt, A, B, C, D, z=z, h0=h0)
        return y, h, h
    packed = pack(op, seq_idx, x.shape[0], x.shape[1])
    if h0 is not None:
        if seq_idx[:, 0].any():  # there, a state goes on into number 0 only
            raise ValueError(f"{op}: with initial_states every row of seq_idx must start with 0")
        h0 = h0.new_zeros(packed.cu_seqlens.shape[0] - 1, *h0.shape[1:]).index_copy(0, packed.first, h0)
    x_row, dt_row, B_row, C_row = (tensor.flatten(0, 1).unsqueeze(0) for tensor in (x, dt, B, C))
    z_row = None if z is None else z.flatten(0, 1).unsqueeze(0)
    y, h = scan(x_row, dt_row, A, B_row, C_row, D, z=z_row, h0=h0, cu_seqlens=packed.cu_seqlens)
    return y.view(x.shape), h[packed.last], h


def refuse_state_dtype(op: str, state_dtype: torch.dtype | None) -> None:
    if state_dtype not in (None, torch.float32):
        raise ValueError(f"{op}: state_dtype must be None or torch.float32, got {state_dtype}: states are fp32 here")
