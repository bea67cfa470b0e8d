"""Triton implementation: the launchers of the kernels. Importing it needs no triton and touches no driver."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .op import define
from .triton_plan import LONGEST, PASS_BLOCK, PROGRAMS, STEP_BLOCK, Plan, plan, tile_of

LONGEST_LOOP = 512  # chunks that pass in one loop; more pass in groups, side by side


class Steps(NamedTuple):
    """What `chunk_steps` makes."""

    each: Tensor  # (b, k, heads, 5, l)
    decay: Tensor  # (slots, k, heads): over each chunk


def _steps(dt: Tensor, A: Tensor, dt_bias: Tensor | None, call: Plan) -> Steps:
    from .triton_kernels import chunk_steps

    length, slots, chunk, k, heads, *_ = call.sizes
    empty = partial(dt.new_empty, dtype=call.real)
    steps = Steps(empty((dt.shape[0], k, heads, 5, length)), empty((call.total, k, heads)))
    if steps.decay.numel():
        inputs = (dt, A, dt_bias)
        chunk_steps[call.total * k * -(-heads // STEP_BLOCK),](
            *inputs, *call.where, *steps, *map(_strides, inputs), *call.limit,
            length, slots, chunk, k, heads, **call.steps, REAL=call.options["REAL"],
            BLOCK_Q=call.options["BLOCK_Q"], BLOCK_H=STEP_BLOCK, num_warps=call.tile.warps,
        )  # fmt: skip
    return steps


def _chunk_states(forward: bool, v: Tensor, w: Tensor, steps: Steps, call: Plan) -> Tensor:
    from .triton_forward import chunk_states

    *_, k, heads, _, p, n = call.sizes
    out = v.new_empty((call.total, k, heads, p, n), dtype=call.real)
    programs = call.total * call.sets * heads * call.blocks("p") * call.blocks("n")
    if programs:
        chunk_states[programs,](
            v, w, steps.each, *call.where, *call.shared, out, v.stride(), w.stride(), call.sets, *call.sizes,
            **call.options, FORWARD=forward, num_warps=call.tile.warps,
        )  # fmt: skip
    return out


def groups_of(call: Plan) -> tuple[int, int]:
    """Chunks that pass in one loop, and such loops a batch row or clip, side by side."""
    if call.slots > LONGEST_LOOP:
        span = math.isqrt(call.slots)
        groups = -(-call.slots // span)
        if call.sequences * groups <= call.total:  # else clips are many, and side by side as they are
            return span, groups
    return call.slots, 1


def _pass(
    forward: bool, start: Tensor | None, states: Tensor, decay: Tensor, end: Tensor, call: Plan,
    before: Tensor | None = None,
) -> Tensor | None:  # fmt: skip
    """Put in place of what each chunk adds the state (or gradient) it meets, from `start`; fills `end`.

    Where `before`, the state before every chunk, is given: for every chunk the sum over it, decayed, times that met.
    """
    from .triton_pass import pass_states

    *_, k, heads, _, p, n = call.sizes
    cu_seqlens, *sizes = call.borders
    blocks = -(-p * n // PASS_BLOCK)
    span, groups = groups_of(call)
    # 0 stays in slots that no clip needs.
    across = None if before is None else states.new_zeros((call.total, k, heads, blocks))

    def launch(parts: int, *args: object, store: bool = True) -> None:
        if parts * k * heads * blocks:
            options = dict(FORWARD=forward, STORE=store, REAL=call.options["REAL"], BLOCK=PASS_BLOCK, num_warps=2)
            pass_states[parts * k * heads * blocks,](*args, k, heads, p, n, **options)

    chunks = (*sizes, span, groups)
    if groups == 1:
        launch(call.sequences, start, decay, states, end, None, before, across, cu_seqlens, _strides(start), *chunks)
    else:
        parts = call.sequences * groups
        met, total = states.new_empty((parts, k, heads, p, n)), states.new_empty((parts, k, heads))
        launch(parts, None, decay, states, met, total, None, None, cu_seqlens, None, *chunks, store=False)
        one_a_group = (groups, groups, 1, groups, 1)
        launch(call.sequences, start, total, met, end, None, None, None, None, _strides(start), *one_a_group)
        launch(parts, met, decay, states, None, None, before, across, cu_seqlens, met.stride(), *chunks)
    return None if across is None else across.sum(-1)


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
    bundles: Sequence[Tensor],
    dt_softplus: bool,
    dt_limit: Sequence[float] | None,
    chunk: int,
    y: Tensor,
    h: Tensor,
    states: Tensor | None,
) -> None:
    """`op.Forward`; no state is kept: the backward computes them again."""
    from .triton_forward import chunk_outputs

    (b, k, l, heads), p = dt.shape, x.shape[-1]
    call = plan(x, dt, B, paths, cu_seqlens, bundles, dt_softplus, dt_limit, chunk)
    steps = _steps(dt, A, dt_bias, call)
    x = _per_path(x, k)
    before = _chunk_states(True, x, B, steps, call)
    _pass(True, h0, before, steps.decay, h, call)
    summed = y.dim() == 4
    merged = summed and call.sets > 1
    # Bundles reach a row in orders of their own: each writes its own copy, and one sum merges them, always alike.
    out = x.new_empty((b, call.sets, l, heads, p), dtype=h.dtype) if merged else y.unsqueeze(1) if summed else y
    programs = call.total * call.sets * heads * call.blocks("p")
    if programs:
        inputs = (x, B, C, D)
        chunk_outputs[programs,](
            *inputs, steps.each, *call.where, *call.shared, before, out, *map(_strides, inputs), out.stride(),
            call.sets, *call.sizes, **call.options, SUMMED=summed or not bundles,
            num_warps=call.tile.warps, **call.stages,
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
    bundles: Sequence[Tensor],
    dt_softplus: bool,
    dt_limit: Sequence[float] | None,
    chunk: int,
    states: Tensor,
) -> tuple[Tensor | None, ...]:
    """Launch the backward kernels and sum their partial results: `op.Backward`."""
    from .triton_backward import input_gradients, step_gradients

    (b, k, l, heads), p = dt.shape, x.shape[-1]
    shared = x.shape[1] < k
    call = plan(x, dt, B, paths, cu_seqlens, bundles, dt_softplus, dt_limit, chunk)
    x, dy = _per_path(x, k), _per_path(dy, k)
    empty = lambda *shape, dtype=call.real: x.new_empty(shape, dtype=dtype)
    steps = _steps(dt, A, dt_bias, call)
    before = _chunk_states(True, x, B, steps, call)
    dh0 = empty(*dh.shape)
    _pass(True, h0, before, steps.decay, dh0, call)  # its end is not needed: dh0 comes into its place
    d_states = _chunk_states(False, dy, C, steps, call)
    across = _pass(False, dh, d_states, steps.decay, dh0, call, before)

    blocks = call.blocks("p")
    parts = shared and call.sets > 1
    dx = empty(b, call.sets, l, heads, p, dtype=call.real if parts else x.dtype)
    ddt, dA = empty(b, k, l, heads, blocks), empty(call.total, k, heads, blocks)
    dD = None if D is None else empty(call.total, k, heads, p)
    into = empty(*ddt.shape) if bundles else None
    warps = dict(num_warps=call.tile.backward_warps, num_stages=1)
    if dA.numel() and bundles:
        without_A = (dy, x, B, C, D)
        input_gradients[call.total * call.sets * heads * blocks,](
            *without_A, steps.each, *call.where, *call.shared, d_states, dx, into, ddt, dD,
            *map(_strides, without_A), call.sets, *call.sizes, **call.options, **warps,
        )  # fmt: skip
    if dA.numel():
        inputs = (dy, x, A, B, C, D)
        step_gradients[dA.numel(),](
            *inputs, steps.each, *call.where, before, d_states, across, into, None if bundles else dx, ddt, dA, dD,
            *map(_strides, inputs), *call.sizes, **call.options, **warps,
        )  # fmt: skip
    dB, dC = _gate_gradients(dy, x, B, C, steps, before, d_states, call)
    ddt = ddt.sum(-1)
    return (
        dx.sum(1, keepdim=True) if parts else dx,
        ddt,
        dA.sum((0, 3)),
        dB,
        dC,
        None if dD is None else dD.sum(0),
        None if dt_bias is None else ddt.sum((0, 2)),
        None if h0 is None else dh0,
    )


def _gate_gradients(
    dy: Tensor, x: Tensor, B: Tensor, C: Tensor, steps: Steps, before: Tensor, d_states: Tensor, call: Plan
) -> tuple[Tensor, Tensor]:  # fmt: skip
    from .triton_backward import gate_gradients

    length, _, _, k, heads, groups, _, n = call.sizes
    programs = call.total * k * groups * call.blocks("n")
    parts = min(heads // groups, -(-PROGRAMS // max(programs, 1)))
    dB, dC = (x.new_empty((x.shape[0], k, length, groups, parts, n), dtype=call.real) for _ in "BC")
    if programs:
        inputs = (dy, x, B, C)
        gate_gradients[programs * parts,](
            *inputs, steps.each, *call.where, before, d_states, dB, dC, *map(_strides, inputs),
            *call.sizes, parts, **call.options, num_warps=call.tile.backward_warps, num_stages=1,
        )  # fmt: skip
    return dB.sum(4), dC.sum(4)


def _per_path(tensor: Tensor, k: int) -> Tensor:
    """(b, l, heads, p) or (b, 1 or k, l, heads, p) as a view (b, k, l, heads, p)."""
    tensor = tensor.unsqueeze(1) if tensor.dim() == 4 else tensor
    return tensor.expand(-1, k, -1, -1, -1)


def _strides(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tensor.stride()


ssd_scan_triton = define(
    "ssd_scan_triton", forward, backward, lambda dtype: tile_of(dtype).chunk, keeps_states=False, longest=LONGEST
)


def compile_cases() -> dict[str, Callable[[], object]]:
    """Launches that together need every kernel in every configuration; the tensors hold no memory."""
    cases: dict[str, Callable[[], object]] = {}
    for n in (16, 64, 128):
        for dtype in (torch.float32, torch.bfloat16, *[torch.float16] * (n == 64)):
            name = f"n={n} {str(dtype).removeprefix('torch.')}"
            cases[name] = partial(_launch_both, n, dtype)
            if n == 64:
                cases[f"{name} walks"] = partial(_launch_both, n, dtype, walks=True)
                cases[f"{name} bundles"] = partial(_launch_both, n, dtype, walks=True, bundles=True)
    cases["n=64 bfloat16 bundles apart"] = partial(
        _launch_both, 64, torch.bfloat16, walks=True, bundles=True, summed=False
    )
    cases["n=64 bfloat16 long"] = partial(_launch_both, 64, torch.bfloat16, l=65536)
    return cases


def _launch_both(
    n: int, dtype: torch.dtype, walks: bool = False, bundles: bool = False, summed: bool = True, l: int = 1568
) -> None:
    """Both passes at a clip's shape: as a plain model calls them, or with walks, packed clips, a limit and an h0."""
    empty = lambda *shape, dtype=torch.float32: torch.empty(shape, dtype=dtype, device="meta")
    heads, p, k, s = 12, 64, 4 if walks else 1, 3 if walks else 1
    x, dt = empty(1, 1, l, heads, p, dtype=dtype), empty(1, k, l, heads, dtype=dtype)
    A, D, dt_bias, h = empty(k, heads), empty(k, heads, p), empty(k, heads), empty(s, k, heads, p, n)
    B = C = empty(1, k, l, 1, n, dtype=dtype)
    y = empty(1, *[k] * (not summed), l, heads, p, dtype=dtype)
    paths = empty(k, 8, dtype=torch.int64) if walks else None
    cu_seqlens = empty(s + 1, dtype=torch.int32) if walks else None
    chunk = tile_of(dtype).chunk
    pairs = [empty(*shape, dtype=torch.int32) for shape in ((k, l // chunk + s, 4), (3,), (s + 1,))] * bundles
    inputs = (x, dt, A, B, C, D, dt_bias, h if walks else None, paths, cu_seqlens, pairs, True)
    options = ((0.001, 0.1) if walks else None, chunk)
    forward(*inputs, *options, y, h, None)
    backward(y, h, *inputs, *options, empty(0))
