"""What the SSD kernels share: which chunk a program works on, its tiles and decays; and what makes the steps.

Axes of a tile: q (steps of a chunk), p, n. Past the end of its clip a chunk reads zeros and its steps are 0, which
changes no state, no sum and no gradient.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..s6.triton_forward import softplus
from ..triton_walk import open_clip, open_walk, row_of


@triton.jit
def dot(a, b, DOT: tl.constexpr, REAL: tl.constexpr):  # type: ignore[no-untyped-def]
    """a @ b from factors in DOT, summed in REAL; fp32 factors keep all their bits."""
    return tl.dot(a.to(DOT), b.to(DOT), input_precision="ieee", out_dtype=REAL)


@triton.jit
def open_bundle(bundles, bundle):  # type: ignore[no-untyped-def]
    """The first member of a bundle of paths that share their chunks, and the end; without bundles each path alone."""
    first, end = bundle, bundle + 1
    if bundles is not None:
        first, end = tl.load(bundles + bundle).to(tl.int64), tl.load(bundles + bundle + 1).to(tl.int64)
    return first, end


@triton.jit
def open_member(chunks, member, slot, slots):  # type: ignore[no-untyped-def]
    """Which path a member is, and the slot at which the chunk stands along it."""
    path, own = member, slot
    if chunks is not None:
        at = chunks + (member * slots + slot % slots) * 4
        path, own = tl.load(at).to(tl.int64), slot - slot % slots + tl.load(at + 1)
    return path, own


@triton.jit
def open_chunk(chunks, member, slot, cu_seqlens, clip_of, length, slots, chunk):  # type: ignore[no-untyped-def]
    """Batch row of a slot, a member's first step there and its end; no step is before it where the slot is empty."""
    batch = slot // slots
    first = slot % slots * chunk
    end = tl.zeros((), tl.int64) + length
    if chunks is not None:
        at = chunks + (member * slots + slot % slots) * 4
        first, end = tl.load(at + 2).to(tl.int64), tl.load(at + 3).to(tl.int64)
    elif cu_seqlens is not None:
        clip = tl.load(clip_of + slot).to(tl.int64)
        batch, start, end = open_clip(cu_seqlens, clip, length)
        first = start + (slot - (start // chunk + clip)) * chunk
    return batch, first, tl.minimum(first + chunk, end)


@triton.jit
def open_shared(  # type: ignore[no-untyped-def]
    paths, chunks, bundles, bundle, slot, cu_seqlens, clip_of, length, slots, chunk, BLOCK_Q: tl.constexpr
):
    """First member and end of a bundle, the batch row of a slot, and of its chunk `open_rows` along the first path."""
    first_member, last_member = open_bundle(bundles, bundle)
    leader, _ = open_member(chunks, first_member, slot, slots)
    batch, first, end = open_chunk(chunks, first_member, slot, cu_seqlens, clip_of, length, slots, chunk)
    step, row, inside = open_rows(paths, leader, first, end, length, BLOCK_Q)
    return first_member, last_member, batch, step, row, inside


@triton.jit
def step_at(places, path, row, inside, step, length):  # type: ignore[no-untyped-def]
    """The step (q,) at which `path` reads each row that the first path of its bundle reads at `step`."""
    if places is not None:
        step = tl.load(places + path * length + row, mask=inside, other=0).to(tl.int64)
    return step


@triton.jit
def open_rows(paths, path, first, end, length, BLOCK_Q: tl.constexpr):  # type: ignore[no-untyped-def]
    """Every step of a chunk (q,), 0 past its end, the row it reads, and whether it is inside its clip."""
    step = first + tl.arange(0, BLOCK_Q)
    inside = step < end
    step = tl.where(inside, step, 0)
    return step, row_of(open_walk(paths, path, length), step, length), inside


@triton.jit
def load_tile(ptr, row_stride, column_stride, row, inside, column, in_columns, REAL: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rows of x or dy (q, p), or of B or C (q, n); `ptr` is at batch, path and head or group."""
    at = row[:, None] * row_stride + column[None, :].to(tl.int64) * column_stride
    return tl.load(ptr + at, mask=inside[:, None] & in_columns[None, :], other=0.0).to(REAL)


@triton.jit
def load_states(ptr, chunk_id, channel, in_p, state, in_n, p, n):  # type: ignore[no-untyped-def]
    """A tile (p, n) of the states, or their gradients, of one chunk, path and head."""
    at = (chunk_id * p + channel[:, None]) * n + state[None, :]
    return tl.load(ptr + at, mask=in_p[:, None] & in_n[None, :], other=0.0)


@triton.jit
def gates_times_states(  # type: ignore[no-untyped-def]
    gate_ptr, row_stride, column_stride, states_ptr, chunk_id, row, inside, channel, in_p, p, n,
    REAL: tl.constexpr, DOT: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Rows of B or C times the states of a chunk, or their gradients (q, p). A loop of its own spares registers."""
    out = tl.zeros((row.shape[0], channel.shape[0]), REAL)
    for start in tl.range(0, n, BLOCK_N):
        state = start + tl.arange(0, BLOCK_N)
        in_n = state < n
        gate = load_tile(gate_ptr, row_stride, column_stride, row, inside, state, in_n, REAL)
        h = load_states(states_ptr, chunk_id, channel, in_p, state, in_n, p, n)
        out += dot(gate, tl.trans(h), DOT, REAL)
    return out


@triton.jit
def gate_products(  # type: ignore[no-untyped-def]
    B_ptr, C_ptr, B_stride, C_stride, row, inside, n, REAL: tl.constexpr, DOT: tl.constexpr, BLOCK_N: tl.constexpr
):
    """C B^T (i, j) of a chunk; the pointers are at batch, path and group."""
    out = tl.zeros((row.shape[0], row.shape[0]), REAL)
    for start in tl.range(0, n, BLOCK_N):
        state = start + tl.arange(0, BLOCK_N)
        in_n = state < n
        B = load_tile(B_ptr, B_stride[2], B_stride[4], row, inside, state, in_n, REAL)
        C = load_tile(C_ptr, C_stride[2], C_stride[4], row, inside, state, in_n, REAL)
        out += dot(C, tl.trans(B), DOT, REAL)
    return out


@triton.jit
def add_exactly(hi_1, lo_1, hi_2, lo_2):  # type: ignore[no-untyped-def]
    """Sum of two numbers of twice the width (Knuth's two-sum): hi rounded, lo what rounding left out."""
    hi = hi_1 + hi_2
    part = hi - hi_1
    return hi, (hi_1 - (hi - part)) + (hi_2 - part) + (lo_1 + lo_2)


@triton.jit
def step_size(dt, bias, low, high, SOFTPLUS: tl.constexpr, LIMITED: tl.constexpr):  # type: ignore[no-untyped-def]
    """dt as the recurrence takes it, and its derivative."""
    dt += bias
    slope = tl.full(dt.shape, 1.0, dt.dtype)
    if SOFTPLUS:
        dt, slope = softplus(dt)
    if LIMITED:
        slope = tl.where((dt < low) | (dt > high), 0.0, slope)
        dt = tl.minimum(tl.maximum(dt, low), high).to(slope.dtype)
    return dt, slope


@triton.jit(do_not_specialize=["length", "slots", "chunk"])
def chunk_steps(  # type: ignore[no-untyped-def]
    dt_ptr, A_ptr, bias_ptr, paths, chunks, cu_seqlens, clip_of, steps_ptr, decay_ptr,
    dt_stride, A_stride, bias_stride, low, high, length, slots, chunk, k, heads,
    SOFTPLUS: tl.constexpr, LIMITED: tl.constexpr, REAL: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    """Steps (b, k, heads, 5, l) along each path: dt, running sums hi and lo of dt A, decay to the end, slope of dt.

    One program a (slot, member, block of heads). A difference of hi carries the rounding of all sums before it; with lo
    it is as exact as a sum of its own steps. Sums begin anew in each chunk; its decay goes to decay (slots, k, heads).
    """
    pid = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(heads, BLOCK_H)
    block, pid = pid % blocks, pid // blocks
    member, slot = pid % k, pid // k
    path, own = open_member(chunks, member, slot, slots)
    batch, first, end = open_chunk(chunks, member, slot, cu_seqlens, clip_of, length, slots, chunk)
    step, row, inside = open_rows(paths, path, first, end, length, BLOCK_Q)
    head = block * BLOCK_H + tl.arange(0, BLOCK_H)
    in_heads = head < heads

    dt_ptr += batch * dt_stride[0] + path * dt_stride[1]
    dt = load_tile(dt_ptr, dt_stride[2], dt_stride[3], row, inside, head, in_heads, REAL)
    A = tl.load(A_ptr + path * A_stride[0] + head * A_stride[1], mask=in_heads, other=0.0).to(REAL)
    bias = tl.zeros((BLOCK_H,), REAL)
    if bias_ptr is not None:
        at = path * bias_stride[0] + head * bias_stride[1]
        bias = tl.load(bias_ptr + at, mask=in_heads, other=0.0).to(REAL)
    dt, slope = step_size(dt, bias[None, :], low, high, SOFTPLUS, LIMITED)
    dt = tl.where(inside[:, None], dt, 0.0)
    hi, lo = tl.associative_scan((dt * A[None, :], tl.zeros(dt.shape, REAL)), 0, add_exactly)
    last = tl.arange(0, BLOCK_Q)[:, None] == BLOCK_Q - 1
    hi_end = tl.sum(tl.where(last, hi, 0.0), axis=0)
    lo_end = tl.sum(tl.where(last, lo, 0.0), axis=0)
    to_end = tl.exp((hi_end[None, :] - hi) + (lo_end[None, :] - lo))
    tl.store(decay_ptr + (own * k + path) * heads + head, tl.exp(hi_end), mask=in_heads)
    to = steps_ptr + ((batch * k + path) * heads + head[None, :]) * 5 * length + step[:, None]
    both = inside[:, None] & in_heads[None, :]
    tl.store(to, dt, mask=both)
    tl.store(to + length, hi, mask=both)
    tl.store(to + 2 * length.to(tl.int64), lo, mask=both)
    tl.store(to + 3 * length.to(tl.int64), to_end, mask=both)
    tl.store(to + 4 * length.to(tl.int64), slope, mask=both)


@triton.jit
def decays_between(hi, lo, place):  # type: ignore[no-untyped-def]
    """(i, j): the decay from step j to step i, 0 where i is before j: masked before exp, which may be infinite there.

    `place` is where each step stands along its path, -1 where there is none: rows may be in any order.
    """
    sums = (hi[:, None] - hi[None, :]) + (lo[:, None] - lo[None, :])
    return tl.exp(tl.where(place[:, None] >= place[None, :], sums, float("-inf")))
