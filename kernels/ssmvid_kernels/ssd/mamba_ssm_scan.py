"""SSD by mamba_ssm's Triton kernels, where that package is installed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..backends import reasons_of
from ..walk import Walk

MOST_STATES = 256
CHUNK = 256  # Mamba-2's own


def limits(x: Tensor, B: Tensor, C: Tensor, walks: Sequence[Walk] | None, cu_seqlens: Tensor | None) -> tuple[str, ...]:
    """Every reason why this call of `ssd_scan` cannot be given to mamba_ssm."""
    dtypes, n = [tensor.dtype for tensor in (x, B, C)], B.shape[-1]
    return reasons_of(
        (walks is not None, "it cannot follow walks"),
        (cu_seqlens is not None, "it has no gradient of the states of packed clips (cu_seqlens)"),
        (torch.float64 in dtypes, "it cannot compute in float64"),
        (len(set(dtypes)) > 1, f"it wants one dtype of x, B and C, got {dtypes}"),
        (n > MOST_STATES, f"it holds at most {MOST_STATES} states, got n = {n}"),
        (0 in (*x.shape, n), f"it takes no empty tensors, got x {tuple(x.shape)} and n = {n}"),
    )


def ssd_scan_mamba_ssm(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt_bias: Tensor | None,
    h0: Tensor | None,
    paths: Tensor | None,
    cu_seqlens: Tensor | None,
    *,
    dt_softplus: bool,
    dt_limit: tuple[float, float] | None,
    summed: bool,
    chunk: int | None,
    walks: Sequence[Walk] | None,
) -> tuple[Tensor, Tensor]:
    """As `ssd_scan_reference`, for calls without `limits`: one path, no packing."""
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    own = lambda tensor: None if tensor is None else tensor[0].float()
    x, dt, B, C = (tensor[:, 0] for tensor in (x, dt, B, C))
    y, h = mamba_chunk_scan_combined(
        x,
        dt,
        own(A),
        B,
        C,
        chunk or CHUNK,
        D=own(D),
        dt_bias=own(dt_bias),
        initial_states=None if h0 is None else h0[:, 0],
        dt_softplus=dt_softplus,
        dt_limit=dt_limit or (-math.inf, math.inf),
        return_final_states=True,
    )
    return y, h.unsqueeze(1)
