"""The convolution by causal_conv1d's CUDA kernel, which mamba_ssm uses, where that package is installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from ..backends import reasons_of
from ..walk import Walk

STRIDE = 8  # elements: what its channel-last layout, the one that has states, wants rows to be a multiple of


def limits(x: Tensor, walks: Sequence[Walk] | None, cu_seqlens: Tensor | None) -> tuple[str, ...]:
    """Every reason why this call of `causal_conv1d` cannot be given to the package causal_conv1d."""
    d = x.shape[-1]
    return reasons_of(
        (find_spec("causal_conv1d") is None, "causal_conv1d is not installed (pip install causal-conv1d)"),
        (walks is not None, "it cannot follow walks"),
        (cu_seqlens is not None, "it has no states of packed clips (cu_seqlens)"),
        (x.dtype == torch.float64, "it cannot compute in float64"),
        (d % STRIDE != 0, f"it wants channels in multiples of {STRIDE}, got d = {d}"),
        (0 in x.shape, f"it takes no empty tensors, got x {tuple(x.shape)}"),
    )


def causal_conv1d_mamba_ssm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    paths: Tensor | None,
    cu_seqlens: Tensor | None,
    *,
    silu: bool,
) -> tuple[Tensor, Tensor]:
    """As `causal_conv1d_reference`, for calls without `limits`: one path, no packing; h0 in x's dtype."""
    from causal_conv1d import causal_conv1d_fn

    x, weight = x[:, 0], weight[0]
    if x.stride(-1) != 1 or x.stride(0) % STRIDE or x.stride(1) % STRIDE:
        x = x.contiguous()
    y, h = causal_conv1d_fn(
        x.mT,
        weight,
        None if bias is None else bias[0].to(weight.dtype),
        initial_states=None if h0 is None else h0[:, 0].to(x.dtype).mT.contiguous().mT,
        return_final_states=True,
        activation="silu" if silu else None,
    )
    return y.mT.unsqueeze(1), h.float().unsqueeze(1)
