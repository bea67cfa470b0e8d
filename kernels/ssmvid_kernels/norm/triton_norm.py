"""Triton implementation: the launchers of the two kernels. Importing it needs no triton and touches no driver."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .op import define, stream_dtype

BLOCK = 4096  # channels of a row a program holds in registers, at most; what is over is read again from cache
TILE = 2048  # elements of narrow rows side by side
WARP = 256  # elements a warp: with more, the backward's registers spill
PROGRAMS = 512  # of the backward, about: each has its own sums for weight and bias; fixed, so that results repeat


def forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    z: Tensor | None,
    groups: int,
    gate_first: bool,
    centred: bool,
    eps: float,
    y: Tensor,
    stream: Tensor | None,
) -> None:
    """Launch the forward kernel: `op.Forward`."""
    from .triton_kernels import norm_forward

    sizes, options = _launch(x, groups, gate_first, centred, eps, stream_dtype(x, residual))
    inputs = (x, residual, z, weight, bias)
    if y.numel():
        norm_forward[_tiles(y, options) * groups,](*inputs, stream, y, *map(_strides, inputs), *sizes, **options)


def backward(
    dy: Tensor,
    dsum: Tensor | None,
    stream: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    z: Tensor | None,
    groups: int,
    gate_first: bool,
    centred: bool,
    eps: float,
    dx: Tensor | None,
    dstream: Tensor | None,
    dz: Tensor | None,
) -> tuple[Tensor | None, Tensor | None]:
    """Launch the backward kernel and sum its partial results: `op.Backward`."""
    from .triton_kernels import norm_backward

    d, real = stream.shape[-1], torch.promote_types(stream.dtype, torch.float32)
    sizes, options = _launch(stream, groups, gate_first, centred, eps, real)
    tiles = _tiles(stream, options)
    per_part = max(1, -(-tiles * groups // PROGRAMS))
    parts = -(-tiles // per_part)
    part = lambda parameter: None if parameter is None else stream.new_empty((parts, d), dtype=real)
    dweight, dbias = part(weight), part(bias)
    inputs = (dy, dsum, stream, z, weight, bias)
    if stream.numel():
        norm_backward[parts * groups,](
            *inputs, dx, dstream, dz, dweight, dbias, *map(_strides, inputs), *sizes, per_part, **options
        )  # fmt: skip
    return (None if dweight is None else dweight.sum(0)), (None if dbias is None else dbias.sum(0))


def _launch(
    x: Tensor, groups: int, gate_first: bool, centred: bool, eps: float, real: torch.dtype
) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The sizes and the compile-time options."""
    import triton
    import triton.language as tl

    b, l, d = x.shape
    size = d // groups
    block = min(triton.next_power_of_2(max(size, 1)), BLOCK)
    rows = max(1, TILE // block)
    options = dict(
        REAL=tl.float64 if real == torch.float64 else tl.float32,
        GATE_FIRST=gate_first,
        CENTRED=centred,
        EPS=eps,  # as an argument it would arrive in fp32
        ROWS=rows,
        BLOCK=block,
        num_warps=max(1, rows * block // WARP),
    )
    return (b * l, l, groups, size), options


def _tiles(x: Tensor, options: dict[str, Any]) -> int:
    return -(-x.shape[0] * x.shape[1] // options["ROWS"])


def compile_cases() -> dict[str, Callable[[], object]]:
    """Launches that together need every kernel in every configuration; the tensors hold no memory."""
    cases: dict[str, Callable[[], object]] = {}
    for d in (384, 5120):
        for dtype in (torch.float32, torch.bfloat16):
            name = f"channels={d} {str(dtype).removeprefix('torch.')}"
            cases[f"{name} add"] = partial(_launch_both, d, dtype, gated=False)
            cases[f"{name} gate"] = partial(_launch_both, d, dtype, gated=True)
    return cases


def _launch_both(d: int, dtype: torch.dtype, gated: bool, b: int = 1, l: int = 1568) -> None:
    """Both kernels at a clip's shape: a LayerNorm after the residual add, or Mamba-2's gate before an RMSNorm."""
    tokens = lambda dtype: torch.empty(b, l, d, dtype=dtype, device="meta")
    x, stream = tokens(dtype), None if gated else tokens(torch.float32)
    weight, bias = torch.empty(d, device="meta"), None if gated else torch.empty(d, device="meta")
    z = tokens(dtype) if gated else None
    settings = (1, gated, not gated, 1e-5)
    forward(x, weight, bias, stream, z, *settings, tokens(dtype), stream)
    dx = x if gated or dtype != torch.float32 else None
    backward(x, stream, x if stream is None else stream, weight, bias, z, *settings, dx, stream, z)


def _strides(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tensor.stride()


norm_triton = define("norm_triton", forward, backward)
