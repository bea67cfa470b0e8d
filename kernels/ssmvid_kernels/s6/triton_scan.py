"""Triton implementation: the launchers of the kernels. Importing it needs no triton and touches no driver."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .op import define
from .segments import BACKWARD, FORWARD, segment_steps

CHUNK = 64  # steps between the states the forward keeps
MULTIPROCESSORS = 132  # of an H100: where kernels are interpreted, or compiled without a GPU, they are cut as there


class Tile(NamedTuple):
    """What a program works on where there are at most `n` states: fixed by n alone, so that no shape recompiles."""

    n: int
    channels: int
    warps: int
    state_steps: int  # whose loads are under way at once, in `segment_states`
    forward_steps: int  # and in the forward
    backward_steps: int  # whose states stand in registers at once


# Chosen by what the compiler reports: no spill on sm_80, sm_90 and sm_100, and fewest instructions a state and step.
# 32 channels give every thread of a warp one of its own; more threads than states keep B and C from steering the
# layout.
TILES = (Tile(4, 64, 1, 4, 4, 2), Tile(16, 32, 1, 8, 4, 2), Tile(64, 32, 8, 8, 4, 1), Tile(256, 8, 8, 8, 2, 1))


class Cut(NamedTuple):
    """A sequence in segments: how many, and the steps of each."""

    segments: int
    steps: int


def forward(
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
    dt_softplus: bool,
    y: Tensor,
    h: Tensor,
    states: Tensor | None,
) -> None:
    """Launch the forward kernel: `op.Forward`."""
    from .triton_forward import scan_forward

    k, n = dt.shape[1], A.shape[2]
    merged = y.dim() == 3 and k > 1
    # Paths reach a row in orders of their own: each writes its own copy, and one sum merges them, always alike.
    out = x.new_empty(dt.shape, dtype=h.dtype) if merged else y.view(dt.shape)
    x = _per_path(x, k)
    inputs = (x, dt, A, B, C, D, dt_bias, h0)
    tile, options = _tile(n), _options(n, h.dtype, dt_softplus)
    cut = _cut(dt, h, FORWARD)
    ends = _segment_states(True, x, dt, A, B, dt_bias, paths, cu_seqlens, h, cut, options)
    scan_forward[_programs(h, cut.segments),](
        *inputs, paths, cu_seqlens, *ends, out, h, states,
        *map(_strides, inputs), out.stride(),
        *_sizes(dt, A, states, cut), **options, CHUNK=CHUNK, STEPS=tile.forward_steps,
    )  # fmt: skip
    if merged:
        torch.sum(out, 1, out=y) if y.dtype == out.dtype else y.copy_(out.sum(1))


def backward(
    dy: Tensor,
    dh: Tensor,
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
    dt_softplus: bool,
    states: Tensor,
) -> tuple[Tensor | None, ...]:
    """Launch the backward kernel and sum its partial results: `op.Backward`."""
    from .triton_backward import scan_backward

    (b, k, l, d), (s, _, _, n) = dt.shape, dh.shape
    real = states.dtype
    tile, options = _tile(n), _options(n, real, dt_softplus)
    blocks = -(-d // tile.channels)
    cut = _cut(dt, dh, BACKWARD)
    empty = lambda *shape, dtype=real: x.new_empty(shape, dtype=dtype)
    shared = x.shape[1] < k
    dx, ddt = empty(b, k, l, d, dtype=real if shared else x.dtype), empty(b, k, l, d, dtype=dt.dtype)
    dB, dC = empty(b, k, l, blocks, n), empty(b, k, l, blocks, n)
    dA, dh0 = empty(s, k, cut.segments, d, n), empty(s, k, cut.segments, d, n)
    dD, dbias = empty(s, k, cut.segments, d), empty(s, k, cut.segments, d)
    parts = CHUNK // tile.backward_steps
    scratch = empty(s * k * cut.segments, blocks, parts, _power_of_2(n), tile.channels)
    dy = _per_path(dy, k)
    inputs = (dy, dh, _per_path(x, k), dt, A, B, C, D, dt_bias)
    ends = _segment_states(False, dy, dt, A, C, dt_bias, paths, cu_seqlens, dh, cut, options)
    scan_backward[_programs(dh, cut.segments),](
        *inputs, paths, cu_seqlens, *ends, states, scratch,
        dx, ddt, dA, dB, dC, dD, dbias, dh0,
        *map(_strides, inputs),
        *_sizes(dt, A, states, cut), **options, CHUNK=CHUNK, STEPS=tile.backward_steps,
    )  # fmt: skip
    return (
        dx.sum(1, keepdim=True) if shared else dx,
        ddt,
        dA.sum((0, 2)),
        dB.sum(3),
        dC.sum(3),
        None if D is None else dD.sum((0, 2)),
        None if dt_bias is None else dbias.sum((0, 2)),
        None if h0 is None else dh0[:, :, 0],
    )


selective_scan_triton = define("selective_scan_triton", forward, backward, chunk=CHUNK)


def _tile(n: int) -> Tile:
    return next((tile for tile in TILES if n <= tile.n), TILES[-1])


def _cut(dt: Tensor, h: Tensor, step: int) -> Cut:
    """The segments of one pass; packed clips are cut as if all were as long, and the longest may fill the row."""
    l, gpu = dt.shape[2], MULTIPROCESSORS
    if dt.device.type == "cuda":
        gpu = torch.cuda.get_device_properties(dt.device).multi_processor_count
    mean = -(-l * dt.shape[0] // max(h.shape[0], 1))
    steps = segment_steps(mean, _programs(h, 1), _tile(h.shape[-1]).warps, gpu, CHUNK, step)
    return Cut(1, l) if steps == mean else Cut(max(-(-l // steps), 1), steps)


def _programs(h: Tensor, segments: int) -> int:
    s, k, d, n = h.shape
    return s * k * segments * -(-d // _tile(n).channels)


def _segment_states(
    forward: bool, v: Tensor, dt: Tensor, A: Tensor, w: Tensor, dt_bias: Tensor | None,
    paths: Tensor | None, cu_seqlens: Tensor | None, h: Tensor, cut: Cut, options: dict[str, Any],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What each segment adds to the state of the next, or its gradient, and its sum of dt."""
    from .triton_segments import segment_states

    s, k, d, n = h.shape
    ends, sums = h.new_empty((s, k, cut.segments - 1, n, d)), h.new_empty((s, k, cut.segments - 1, d))
    inputs = (v, dt, A, w, dt_bias)
    if ends.numel():
        segment_states[_programs(h, cut.segments - 1),](
            *inputs, paths, cu_seqlens, ends, sums, *map(_strides, inputs),
            dt.shape[2], *cut, 1, k, d, n, **options, FORWARD=forward, STEPS=_tile(n).state_steps,
        )  # fmt: skip
    return ends, sums


def _power_of_2(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()


def _options(n: int, real: torch.dtype, dt_softplus: bool) -> dict[str, Any]:
    """The compile-time arguments every kernel takes; `real` is the type of all arithmetic."""
    import triton.language as tl

    tile = _tile(n)
    return dict(
        REAL=tl.float64 if real == torch.float64 else tl.float32,
        SOFTPLUS=dt_softplus,
        BLOCK_D=tile.channels,
        BLOCK_N=_power_of_2(n),
        num_warps=tile.warps,
    )


def compile_cases() -> dict[str, Callable[[], object]]:
    """Launches that together need every kernel in every configuration; the tensors hold no memory."""
    cases: dict[str, Callable[[], object]] = {}
    for n in (tile.n for tile in TILES):
        for dtype in (torch.float32, torch.bfloat16):
            name = f"n={n} {str(dtype).removeprefix('torch.')}"
            cases[name] = partial(_launch_both, n, dtype, walks=False)
            if n == 16:
                cases[f"{name} walks"] = partial(_launch_both, n, dtype, walks=True)
    return cases


def _launch_both(n: int, dtype: torch.dtype, walks: bool, l: int = 12544) -> None:
    """Both passes at a long clip's shape: as a plain model calls them, or with walks, packed clips and an h0."""
    empty = lambda *shape, dtype=torch.float32: torch.empty(shape, dtype=dtype, device="meta")
    d, k, s = 384, 4 if walks else 1, 3 if walks else 1
    x, dt = empty(1, 1, l, d, dtype=dtype), empty(1, k, l, d, dtype=dtype)
    A, D, dt_bias, h = empty(k, d, n), empty(k, d), empty(k, d), empty(s, k, d, n)
    B = C = empty(1, k, l, n, dtype=dtype)
    y, states = empty(1, l, d, dtype=dtype), empty(1, k, l // CHUNK + s, n, d)
    paths = empty(k, 8, dtype=torch.int64) if walks else None
    cu_seqlens = empty(s + 1, dtype=torch.int32) if walks else None
    inputs = (x, dt, A, B, C, D, dt_bias, h if walks else None, paths, cu_seqlens, True)
    forward(*inputs, y, h, states)
    backward(y, h, *inputs, states)


def _sizes(dt: Tensor, A: Tensor, states: Tensor | None, cut: Cut) -> tuple[int, ...]:
    k, d, n = A.shape
    return dt.shape[2], 0 if states is None else states.shape[2], *cut, 1, k, d, n


def _per_path(tensor: Tensor, k: int) -> Tensor:
    """(b, l, d) or (b, 1 or k, l, d) as a view (b, k, l, d)."""
    tensor = tensor.unsqueeze(1) if tensor.dim() == 3 else tensor
    return tensor.expand(-1, k, -1, -1)


def _strides(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tensor.stride()
