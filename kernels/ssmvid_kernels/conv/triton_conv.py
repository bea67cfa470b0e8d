"""Triton implementation: the launchers of the two kernels. Importing it needs no triton and touches no driver."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .op import define

AHEAD = 4  # steps whose loads are all under way before the arithmetic of the first; at least the width of the window
TILES = ((32, 16), (128, 4))  # channels of a program, and its stripes; the first that holds d, else the last
# Steps of a stripe, from so many elements of y on: long stripes read less twice, short ones keep a GPU busy.
STEPS = ((1 << 22, 32), (0, 8))


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    paths: Tensor | None,
    cu_seqlens: Tensor | None,
    silu: bool,
    y: Tensor,
    h: Tensor,
) -> None:
    """Launch the forward kernel: `op.Forward`."""
    from .triton_kernels import conv_forward

    inputs = (_per_path(x, y), weight, bias, h0)
    launch, clip_of, sizes, options = _launch(y, h, cu_seqlens, silu, edges=True)
    if launch:
        conv_forward[launch,](
            *inputs, paths, cu_seqlens, clip_of, y, h, *map(_strides, inputs), *sizes, **options
        )  # fmt: skip


def backward(
    dy: Tensor,
    dh: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    paths: Tensor | None,
    cu_seqlens: Tensor | None,
    silu: bool,
) -> tuple[Tensor | None, ...]:
    """Launch the backward kernel and sum its partial results: `op.Backward`."""
    from .triton_kernels import conv_backward

    (b, k, l, d), width, real = dy.shape, weight.shape[-1], torch.promote_types(x.dtype, torch.float32)
    shared = x.shape[1] < k
    s = b if cu_seqlens is None else cu_seqlens.shape[0] - 1
    dh0 = x.new_empty((s, k, d, width - 1), dtype=real)
    launch, clip_of, sizes, options = _launch(dy, dh0, cu_seqlens, silu, edges=h0 is not None)
    busy = -(-l // (options["STRIPES"] * sizes[3]))
    dx = x.new_empty((b, k, l, d), dtype=real if shared else x.dtype)
    dweight, dbias = (x.new_empty(shape, dtype=real) for shape in ((b, busy, k, d, width), (b, busy, k, d)))
    inputs = (dy, dh, _per_path(x, dy), weight, bias, h0)
    if launch:
        conv_backward[launch,](
            *inputs, paths, cu_seqlens, clip_of, dx, dweight, dbias, dh0, *map(_strides, inputs), *sizes, **options
        )  # fmt: skip
    return (
        dx.sum(1, keepdim=True) if shared else dx,
        dweight.sum((0, 1)),
        None if bias is None else dbias.sum((0, 1)),
        None if h0 is None else dh0,
    )


def _launch(
    y: Tensor, h: Tensor, cu_seqlens: Tensor | None, silu: bool, edges: bool
) -> tuple[int, Tensor | None, tuple[int, ...], dict[str, Any]]:
    """Programs, the clip of every step where clips are packed, the sizes, and the compile-time options.

    `edges`: whether programs for what stands before or after a clip are wanted.
    """
    import triton.language as tl

    (b, k, l, d), taps = y.shape, h.shape[-1]
    block_d, stripes = next((tile for tile in TILES if d <= tile[0]), TILES[-1])
    steps = next(steps for elements, steps in STEPS if y.numel() >= elements)
    clips, clip_of = 1, None
    if cu_seqlens is not None:
        clips = cu_seqlens.shape[0] - 1
        step = torch.arange(l, dtype=torch.int32, device=y.device)
        clip_of = torch.searchsorted(cu_seqlens, step, right=True, out_int32=True) - 1
    blocks = -(-l // (stripes * steps)) + (-(-clips * taps // stripes) if edges else 0)
    options = dict(
        REAL=tl.float64 if h.dtype == torch.float64 else tl.float32,
        SILU=silu,
        WIDTH=taps + 1,
        STRIPES=stripes,
        BLOCK_D=block_d,
        AHEAD=AHEAD,
        num_warps=4,
    )
    return b * k * blocks * -(-d // block_d), clip_of, (l, clips, blocks, steps, k, d), options


def compile_cases() -> dict[str, Callable[[], object]]:
    """Launches that together need every kernel in every configuration; the tensors hold no memory."""
    cases: dict[str, Callable[[], object]] = {}
    for channels, _ in TILES:
        for dtype in (torch.float32, torch.bfloat16):
            name = f"channels={channels} {str(dtype).removeprefix('torch.')}"
            cases[name] = partial(_launch_both, channels, dtype, walks=False)
            if channels > 32:
                cases[f"{name} walks"] = partial(_launch_both, channels, dtype, walks=True)
    return cases


def _launch_both(d: int, dtype: torch.dtype, walks: bool, l: int = 1568, width: int = 4) -> None:
    """Both kernels at a clip's shape: as a plain model calls them, or with walks, packed clips and an h0."""
    empty = lambda *shape, dtype=torch.float32: torch.empty(shape, dtype=dtype, device="meta")
    k, s = 4 if walks else 1, 3 if walks else 1
    x, y = empty(1, 1, l, d, dtype=dtype), empty(1, k, l, d, dtype=dtype)
    weight, bias, h = empty(k, d, width), empty(k, d), empty(s, k, d, width - 1)
    paths = empty(k, 8, dtype=torch.int64) if walks else None
    cu_seqlens = empty(s + 1, dtype=torch.int32) if walks else None
    inputs = (x, weight, bias, h if walks else None, paths, cu_seqlens, True)
    forward(*inputs, y, h)
    backward(y, h if walks else None, *inputs)


def _per_path(x: Tensor, y: Tensor) -> Tensor:
    """x (b, 1 or k, l, d) as a view (b, k, l, d)."""
    return x.expand(y.shape)


def _strides(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tensor.stride()


causal_conv1d_triton = define("causal_conv1d_triton", forward, backward)
