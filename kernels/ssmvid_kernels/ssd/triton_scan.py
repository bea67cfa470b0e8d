"""Triton implementation: the launchers of the kernels. Importing it needs no triton and touches no driver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..backends import interpreting
from .op import define

LONGEST = 256  # chunk: the squares of a longer one do not fit a program
PASS_BLOCK = 256  # elements of a state that a program passes over the chunks


class Tile(NamedTuple):
    """What a program works on where a factor of its matmuls is no wider than `bytes`."""

    bytes: int
    chunk: int  # steps, where the caller does not say
    p: int
    n: int
    warps: int
    backward_warps: int


# Chosen by what the compiler reports: the largest without a spill on sm_90, sm_100 and gfx942 (in bf16 one kernel
# spills a few hundred bytes on sm_80, and 80 on sm_90 with walks), in the 64 kB of shared memory that gfx942 has.
TILES = (Tile(2, 64, 64, 32, 4, 8), Tile(8, 32, 32, 32, 4, 8))


class Plan(NamedTuple):
    """What all launches of a call share; a slot is where one chunk of one batch row or clip stands."""

    slots: int  # of a batch row
    total: int  # of all rows
    sequences: int
    clip_of: Tensor | None  # (slots,): the clip of each slot where clips are packed
    tile: Tile
    sizes: tuple[int, ...]  # length, slots, chunk, k, heads, groups, p, n
    limit: tuple[float, float]
    options: dict[str, Any]

    def blocks(self, axis: str) -> int:
        """Tiles along p or n."""
        return -(-self.sizes["pn".index(axis) - 2] // self.options[f"BLOCK_{axis.upper()}"])


def plan(
    x: Tensor, dt: Tensor, B: Tensor, cu_seqlens: Tensor | None, dt_softplus: bool,
    dt_limit: Sequence[float] | None, chunk: int,
) -> Plan:  # fmt: skip
    """Chunks never cross the border of a clip; their list is made on the device, without waiting for it.

    Raises:
        ValueError: the chunk is longer than a program holds.
    """
    import triton.language as tl

    if chunk > LONGEST:
        raise ValueError(f"ssd_scan: chunk must be at most {LONGEST} on backend 'triton', got {chunk}: leave it out")
    (b, k, l, heads), p, (g, n) = dt.shape, x.shape[-1], B.shape[-2:]
    slots, sequences, clip_of = -(-l // chunk), b, None
    if cu_seqlens is not None:
        sequences = cu_seqlens.shape[0] - 1
        slots = l // chunk + sequences  # as many as any borders may need: some stand empty
        clips = torch.arange(sequences, device=dt.device)
        first = torch.div(cu_seqlens[:-1], chunk, rounding_mode="floor") + clips
        clip_of = torch.searchsorted(first, torch.arange(slots, device=dt.device), right=True, out_int32=True) - 1
    real, tile = torch.promote_types(x.dtype, torch.float32), _tile(x.dtype)
    # The interpreter has no half-precision arithmetic to speak of.
    factors = real if interpreting() else x.dtype
    types = {torch.float64: tl.float64, torch.float32: tl.float32, torch.float16: tl.float16}
    options = dict(
        SOFTPLUS=dt_softplus,
        LIMITED=dt_limit is not None,
        REAL=types[real],
        DOT=types.get(factors, tl.bfloat16),
        BLOCK_Q=_block(chunk, LONGEST),
        BLOCK_P=_block(p, tile.p),
        BLOCK_N=_block(n, tile.n),
    )
    low, high = (0.0, 0.0) if dt_limit is None else dt_limit
    return Plan(slots, b * slots, sequences, clip_of, tile, (l, slots, chunk, k, heads, g, p, n), (low, high), options)


def _block(size: int, most: int) -> int:
    """The tile that holds `size`: a power of 2, at least the 16 a matmul takes, at most `most`."""
    return min(max(1 << max(size - 1, 0).bit_length(), 16), most)


def _tile(factors: torch.dtype) -> Tile:
    return next(tile for tile in TILES if factors.itemsize <= tile.bytes)


def _chunk_states(
    forward: bool, v: Tensor, w: Tensor, dt: Tensor, A: Tensor, dt_bias: Tensor | None,
    paths: Tensor | None, cu_seqlens: Tensor | None, call: Plan, decay: Tensor | None,
) -> Tensor:  # fmt: skip
    from .triton_kernels import chunk_states

    *_, k, heads, _, p, n = call.sizes
    out = dt.new_empty((call.total, k, heads, p, n), dtype=torch.promote_types(v.dtype, torch.float32))
    programs = call.total * k * heads * call.blocks("p") * call.blocks("n")
    if programs:
        inputs = (v, w, dt, A, dt_bias)
        chunk_states[programs,](
            *inputs, paths, cu_seqlens, call.clip_of, out, decay, *map(_strides, inputs), *call.limit, *call.sizes,
            **call.options, FORWARD=forward, num_warps=call.tile.warps,
        )  # fmt: skip
    return out


def states_before(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, dt_bias: Tensor | None, h0: Tensor | None, paths: Tensor | None,
    cu_seqlens: Tensor | None, call: Plan, h: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The state before every chunk (slots, k, heads, p, n) and its decay over it (slots, k, heads); fills h."""
    from .triton_kernels import pass_states

    length, slots, chunk, k, heads, _, p, n = call.sizes
    decay = h.new_empty((call.total, k, heads))
    states = _chunk_states(True, _per_path(x, k), B, dt, A, dt_bias, paths, cu_seqlens, call, decay)
    if h.numel():
        pass_states[h.shape[0] * k * heads * -(-p * n // PASS_BLOCK),](
            h0, cu_seqlens, decay, states, h, _strides(h0), length, slots, chunk, k, heads, p, n,
            REAL=call.options["REAL"], BLOCK=PASS_BLOCK, num_warps=2,
        )  # fmt: skip
    return states, decay


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
    dt_limit: Sequence[float] | None,
    chunk: int,
    y: Tensor,
    h: Tensor,
    states: Tensor | None,
) -> None:
    """`op.Forward`; no state is kept: the backward computes them again."""
    from .triton_forward import chunk_outputs

    (b, k, l, heads), p = dt.shape, x.shape[-1]
    call = plan(x, dt, B, cu_seqlens, dt_softplus, dt_limit, chunk)
    before, _ = states_before(x, dt, A, B, dt_bias, h0, paths, cu_seqlens, call, h)
    merged = y.dim() == 4 and k > 1
    # Paths reach a row in orders of their own: each writes its own copy, and one sum merges them, always alike.
    out = x.new_empty((b, k, l, heads, p), dtype=h.dtype) if merged else y.view(b, k, l, heads, p)
    programs = call.total * k * heads * call.blocks("p")
    if programs:
        inputs = (_per_path(x, k), dt, A, B, C, D, dt_bias)
        chunk_outputs[programs,](
            *inputs, paths, cu_seqlens, call.clip_of, before, out, *map(_strides, inputs), out.stride(),
            *call.limit, *call.sizes, **call.options, num_warps=call.tile.warps,
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
    dt_limit: Sequence[float] | None,
    chunk: int,
    states: Tensor,
) -> tuple[Tensor | None, ...]:
    """Launch the backward kernels and sum their partial results: `op.Backward`."""
    from .triton_backward import chunk_gradients

    (b, k, l, heads), p, (g, n) = dt.shape, x.shape[-1], B.shape[-2:]
    real, shared = torch.promote_types(x.dtype, torch.float32), x.shape[1] < k
    call = plan(x, dt, B, cu_seqlens, dt_softplus, dt_limit, chunk)
    x, dy = _per_path(x, k), _per_path(dy, k)
    empty = lambda *shape, dtype=real: x.new_empty(shape, dtype=dtype)
    before, decay = states_before(x, dt, A, B, dt_bias, h0, paths, cu_seqlens, call, empty(*dh.shape))
    d_states = _chunk_states(False, dy, C, dt, A, dt_bias, paths, cu_seqlens, call, None)
    dh0, across = _pass_gradients(dh, cu_seqlens, decay, before, d_states, call)

    blocks = call.blocks("p")
    dx = empty(b, k, l, heads, p, dtype=real if shared else x.dtype)
    ddt, dA = empty(b, k, l, heads, blocks), empty(call.total, k, heads, blocks)
    dB, dC = empty(b, k, l, heads, blocks, n), empty(b, k, l, heads, blocks, n)
    dD = None if D is None else empty(call.total, k, heads, p)
    if dA.numel():
        inputs = (dy, x, dt, A, B, C, D, dt_bias)
        chunk_gradients[dA.numel(),](
            *inputs, paths, cu_seqlens, call.clip_of, before, d_states, across, dx, ddt, dA, dB, dC, dD,
            *map(_strides, inputs), *call.limit, *call.sizes, **call.options,
            num_warps=call.tile.backward_warps, num_stages=1,
        )  # fmt: skip
    ddt = ddt.sum(-1)
    return (
        dx.sum(1, keepdim=True) if shared else dx,
        ddt,
        dA.sum((0, 3)),
        dB.unflatten(3, (g, -1)).sum((4, 5)),
        dC.unflatten(3, (g, -1)).sum((4, 5)),
        None if dD is None else dD.sum(0),
        None if dt_bias is None else ddt.sum((0, 2)),
        None if h0 is None else dh0,
    )


def _pass_gradients(
    dh: Tensor, cu_seqlens: Tensor | None, decay: Tensor, states: Tensor, d_states: Tensor, call: Plan
) -> tuple[Tensor, Tensor]:
    """dh0, and for every chunk the sum over its decayed state before times the gradient of the state after."""
    from .triton_backward import pass_state_gradients

    length, slots, chunk, k, heads, _, p, n = call.sizes
    blocks = -(-p * n // PASS_BLOCK)
    across = states.new_zeros((call.total, k, heads, blocks))  # 0 stays in slots no clip needs
    dh0 = states.new_empty(dh.shape)
    if dh0.numel():
        pass_state_gradients[dh.shape[0] * k * heads * blocks,](
            dh, cu_seqlens, decay, states, d_states, across, dh0, _strides(dh), length, slots, chunk, k, heads, p, n,
            REAL=call.options["REAL"], BLOCK=PASS_BLOCK, num_warps=2,
        )  # fmt: skip
    return dh0, across.sum(-1)


def _per_path(tensor: Tensor, k: int) -> Tensor:
    """(b, l, heads, p) or (b, 1 or k, l, heads, p) as a view (b, k, l, heads, p)."""
    tensor = tensor.unsqueeze(1) if tensor.dim() == 4 else tensor
    return tensor.expand(-1, k, -1, -1, -1)


def _strides(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tensor.stride()


ssd_scan_triton = define("ssd_scan_triton", forward, backward, lambda dtype: _tile(dtype).chunk, keeps_states=False)


def compile_cases() -> dict[str, Callable[[], object]]:
    """Launches that together need every kernel in every configuration; the tensors hold no memory."""
    cases: dict[str, Callable[[], object]] = {}
    for n in (16, 64, 128):
        for dtype in (torch.float32, torch.bfloat16):
            name = f"n={n} {str(dtype).removeprefix('torch.')}"
            cases[name] = partial(_launch_both, n, dtype, walks=False)
            if n == 64:
                cases[f"{name} walks"] = partial(_launch_both, n, dtype, walks=True)
    return cases


def _launch_both(n: int, dtype: torch.dtype, walks: bool, l: int = 1568) -> None:
    """Both passes at a clip's shape: as a plain model calls them, or with walks, packed clips, a limit and an h0."""
    empty = lambda *shape, dtype=torch.float32: torch.empty(shape, dtype=dtype, device="meta")
    heads, p, k, s = 12, 64, 4 if walks else 1, 3 if walks else 1
    x, dt = empty(1, 1, l, heads, p, dtype=dtype), empty(1, k, l, heads, dtype=dtype)
    A, D, dt_bias, h = empty(k, heads), empty(k, heads, p), empty(k, heads), empty(s, k, heads, p, n)
    B = C = empty(1, k, l, 1, n, dtype=dtype)
    y = empty(1, l, heads, p, dtype=dtype)
    paths = empty(k, 8, dtype=torch.int64) if walks else None
    cu_seqlens = empty(s + 1, dtype=torch.int32) if walks else None
    inputs = (x, dt, A, B, C, D, dt_bias, h if walks else None, paths, cu_seqlens, True)
    options = ((0.001, 0.1) if walks else None, _tile(dtype).chunk)
    forward(*inputs, *options, y, h, None)
    backward(y, h, *inputs, *options, empty(0))
