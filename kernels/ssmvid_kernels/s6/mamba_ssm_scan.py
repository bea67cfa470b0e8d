"""The selective scan by mamba_ssm's CUDA kernel, where that package is installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from ..backends import reasons_of
from ..walk import Walk

MOST_STATES = 256


def limits(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    walks: Sequence[Walk] | None,
    h0: Tensor | None,
    cu_seqlens: Tensor | None,
) -> tuple[str, ...]:
    """Every reason why this call of `selective_scan` cannot be given to mamba_ssm."""
    dtypes, n = [tensor.dtype for tensor in (x, dt, B, C)], A.shape[-1]
    return reasons_of(
        (
            find_spec("selective_scan_cuda") is None,
            "its selective_scan_cuda is not installed (MAMBA_KEEP_CUDA_BUILD=TRUE pip install mamba-ssm)",
        ),
        (walks is not None, "it cannot follow walks"),
        (h0 is not None, "it cannot start from h0"),
        (cu_seqlens is not None, "it cannot take packed clips (cu_seqlens)"),
        (torch.float64 in dtypes, "it cannot compute in float64"),
        (len(set(dtypes)) > 1, f"it wants one dtype of x, dt, B and C, got {dtypes}"),
        (n > MOST_STATES, f"it holds at most {MOST_STATES} states, got n = {n}"),
        (0 in (*x.shape, n), f"it takes no empty tensors, got x {tuple(x.shape)} and n = {n}"),
    )


def selective_scan_mamba_ssm(
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
    summed: bool,
) -> tuple[Tensor, Tensor]:
    """As `selective_scan_reference`, for calls without `limits`: one path, no h0, no packing. h has no gradient."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    fp32 = lambda tensor: None if tensor is None else tensor[0].float()
    x, dt, B, C = (tensor[:, 0].mT for tensor in (x, dt, B, C))
    y, h = selective_scan_fn(
        x, dt, fp32(A), B, C, fp32(D), None, fp32(dt_bias), delta_softplus=dt_softplus, return_last_state=True
    )
    return y.mT, h.detach().unsqueeze(1)  # its backward does not read the gradient of h: none rather than a wrong one
