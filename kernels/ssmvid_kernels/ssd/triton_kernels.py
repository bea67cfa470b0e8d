"""What the SSD kernels share: which chunk a program works on, its steps and decays, and states passed over chunks.

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
def open_chunk(slot, cu_seqlens, clip_of, length, slots, chunk):  # type: ignore[no-untyped-def]
    """Batch row of a slot, its first step and its end; an end before the first step where the slot is empty."""
    batch = slot // slots
    first = slot % slots * chunk
    end = tl.zeros((), tl.int64) + length
    if cu_seqlens is not None:
        clip = tl.load(clip_of + slot).to(tl.int64)
        batch, start, end = open_clip(cu_seqlens, clip, length)
        first = start + (slot - (start // chunk + clip)) * chunk
    return batch, first, tl.minimum(first + chunk, end)


@triton.jit
def open_rows(paths, path, first, end, length, BLOCK_Q: tl.constexpr):  # type: ignore[no-untyped-def]
    """The row every step of a chunk reads (q,), and whether the step is inside its clip."""
    step = first + tl.arange(0, BLOCK_Q)
    inside = step < end
    row = row_of(open_walk(paths, path, length), tl.where(inside, step, 0), length)
    return row, inside


@triton.jit
def load_tile(ptr, row_stride, column_stride, row, inside, column, in_columns, REAL: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rows of x or dy (q, p), or of B or C (q, n); `ptr` is at batch, path and head or group."""
    at = row[:, None] * row_stride + column[None, :].to(tl.int64) * column_stride
    return tl.load(ptr + at, mask=inside[:, None] & in_columns[None, :], other=0.0).to(REAL)


@triton.jit
def add_exactly(hi_1, lo_1, hi_2, lo_2):  # type: ignore[no-untyped-def]
    """Sum of two numbers of twice the width (Knuth's two-sum): hi rounded, lo what rounding left out."""
    hi = hi_1 + hi_2
    part = hi - hi_1
    return hi, (hi_1 - (hi - part)) + (hi_2 - part) + (lo_1 + lo_2)


@triton.jit
def load_steps(  # type: ignore[no-untyped-def]
    dt_ptr, dt_stride, A_ptr, A_stride, bias_ptr, bias_stride, low, high, batch, path, head, row, inside,
    REAL: tl.constexpr, SOFTPLUS: tl.constexpr, LIMITED: tl.constexpr,
):  # fmt: skip
    """dt as the recurrence takes it, its derivative, A, and the running sums (hi, lo) of dt A along the chunk.

    A difference of hi carries the rounding of all sums before it; with lo it is as exact as a sum of its own steps.
    """
    at = batch * dt_stride[0] + path * dt_stride[1] + row * dt_stride[2] + head * dt_stride[3]
    dt = tl.load(dt_ptr + at, mask=inside, other=0.0).to(REAL)
    slope = tl.where(inside, 1.0, 0.0).to(REAL)
    if bias_ptr is not None:
        dt += tl.load(bias_ptr + path * bias_stride[0] + head * bias_stride[1]).to(REAL)
    if SOFTPLUS:
        dt, slope = softplus(dt)
    if LIMITED:
        slope = tl.where((dt < low) | (dt > high), 0.0, slope)
        dt = tl.minimum(tl.maximum(dt, low), high).to(REAL)
    dt, slope = tl.where(inside, dt, 0.0), tl.where(inside, slope, 0.0)
    A = tl.load(A_ptr + path * A_stride[0] + head * A_stride[1]).to(REAL)
    hi, lo = tl.associative_scan((dt * A, tl.zeros(dt.shape, REAL)), 0, add_exactly)
    return dt, slope, A, hi, lo


@triton.jit
def last(values):  # type: ignore[no-untyped-def]
    """The last of (q,)."""
    step = tl.arange(0, values.shape[0])
    return tl.sum(tl.where(step == values.shape[0] - 1, values, 0.0), axis=0)


@triton.jit
def decays_to_end(hi, lo):  # type: ignore[no-untyped-def]
    """(j,): the decay from step j to the end of the chunk."""
    return tl.exp((last(hi) - hi) + (last(lo) - lo))


@triton.jit
def decays_between(hi, lo):  # type: ignore[no-untyped-def]
    """(i, j): the decay from step j to step i, 0 where i < j: masked before exp, which could be infinite there."""
    i = tl.arange(0, hi.shape[0])[:, None]
    j = tl.arange(0, hi.shape[0])[None, :]
    sums = (hi[:, None] - hi[None, :]) + (lo[:, None] - lo[None, :])
    return tl.exp(tl.where(i >= j, sums, float("-inf")))


@triton.jit(do_not_specialize=["length", "slots", "chunk"])
def chunk_states(  # type: ignore[no-untyped-def]
    v_ptr, w_ptr, dt_ptr, A_ptr, bias_ptr, paths, cu_seqlens, clip_of, out_ptr, decay_ptr,
    v_stride, w_stride, dt_stride, A_stride, bias_stride,
    low, high, length, slots, chunk, k, heads, groups, p, n,
    FORWARD: tl.constexpr, SOFTPLUS: tl.constexpr, LIMITED: tl.constexpr, REAL: tl.constexpr, DOT: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Sums over a chunk of v_j w_j^T (slots, k, heads, p, n), one program a (slot, path, head, block of p, of n).

    FORWARD: what the chunk adds to the state, v = x and w = B, each step weighted by dt and its decay to the end;
    the chunk's whole decay goes to decay_ptr. Else: what the outputs give back to the gradient of the state before
    the chunk, v = dy and w = C, weighted by the decay from the start.
    """
    pid = tl.program_id(0).to(tl.int64)
    blocks_p, blocks_n = tl.cdiv(p, BLOCK_P), tl.cdiv(n, BLOCK_N)
    block, pid = pid % (blocks_p * blocks_n), pid // (blocks_p * blocks_n)
    head, path, slot = pid % heads, pid // heads % k, pid // heads // k
    group = head // (heads // groups)
    batch, first, end = open_chunk(slot, cu_seqlens, clip_of, length, slots, chunk)
    row, inside = open_rows(paths, path, first, end, length, BLOCK_Q)
    channel = block // blocks_n * BLOCK_P + tl.arange(0, BLOCK_P)
    state = block % blocks_n * BLOCK_N + tl.arange(0, BLOCK_N)

    dt, _, _, hi, lo = load_steps(
        dt_ptr, dt_stride, A_ptr, A_stride, bias_ptr, bias_stride, low, high, batch, path, head, row, inside,
        REAL, SOFTPLUS, LIMITED,
    )  # fmt: skip
    if FORWARD:
        weight = dt * decays_to_end(hi, lo)
        tl.store(decay_ptr + pid, tl.exp(last(hi)), mask=block == 0)
    else:
        weight = tl.exp(hi)
    v_ptr += batch * v_stride[0] + path * v_stride[1] + head * v_stride[3]
    w_ptr += batch * w_stride[0] + path * w_stride[1] + group * w_stride[3]
    v = load_tile(v_ptr, v_stride[2], v_stride[4], row, inside, channel, channel < p, REAL)
    w = load_tile(w_ptr, w_stride[2], w_stride[4], row, inside, state, state < n, REAL)
    out = dot(tl.trans(v * weight[:, None]), w, DOT, REAL)
    to = (pid * p + channel[:, None]) * n + state[None, :]
    tl.store(out_ptr + to, out, mask=(channel < p)[:, None] & (state < n)[None, :])


@triton.jit
def open_sequence(sequence, cu_seqlens, length, slots, chunk):  # type: ignore[no-untyped-def]
    """First slot of a batch row or clip, and how many chunks it has."""
    _, start, end = open_clip(cu_seqlens, sequence, length)
    slot = sequence * slots
    if cu_seqlens is not None:
        slot = start // chunk + sequence
    return slot, tl.cdiv(end - start, chunk)


@triton.jit(do_not_specialize=["length", "slots", "chunk", "h0_stride"])
def pass_states(  # type: ignore[no-untyped-def]
    h0_ptr, cu_seqlens, decay_ptr, states_ptr, h_ptr, h0_stride, length, slots, chunk, k, heads, p, n,
    REAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Put in place of what each chunk adds the state before it; one program a (sequence, path, head, block of p n)."""
    pid = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(p * n, BLOCK)
    element, pid = pid % blocks * BLOCK + tl.arange(0, BLOCK), pid // blocks
    head, path, sequence = pid % heads, pid // heads % k, pid // heads // k
    slot, count = open_sequence(sequence, cu_seqlens, length, slots, chunk)
    inside = element < p * n
    h = tl.zeros((BLOCK,), REAL)
    if h0_ptr is not None:
        at = sequence * h0_stride[0] + path * h0_stride[1] + head * h0_stride[2]
        at += element // n * h0_stride[3] + element % n * h0_stride[4]
        h = tl.load(h0_ptr + at, mask=inside, other=0.0).to(REAL)
    for j in tl.range(0, count):
        chunk_id = ((slot + j) * k + path) * heads + head
        new = tl.load(states_ptr + chunk_id * p * n + element, mask=inside, other=0.0)
        tl.store(states_ptr + chunk_id * p * n + element, h, mask=inside)
        h = tl.load(decay_ptr + chunk_id) * h + new
    tl.store(h_ptr + pid * p * n + element, h, mask=inside)
