"""Forward kernel: one program a (segment of a sequence, path, channel block); its states stay in registers."""

from __future__ import annotations

import triton
import triton.language as tl

from ..triton_walk import open_clip, open_walk, row_of

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def softplus(v):  # type: ignore[no-untyped-def]
    """log(1 + exp(v)), v itself above 20 (as torch), and its derivative."""
    e = tl.exp(tl.minimum(v, 20.0, propagate_nan=tl.PropagateNan.ALL))
    u = 1.0 + e
    # log(u) alone loses a small e; scaled by e / (u - 1), what was rounded away in u comes back (Kahan's log1p).
    log1p = tl.where(u == 1.0, e, tl.log(u) * (e / tl.where(u == 1.0, 1.0, u - 1.0)))
    return tl.where(v > 20.0, v, log1p), tl.where(v > 20.0, 1.0, e / u)


@triton.jit
def place(segments, k, d, BLOCK_D: tl.constexpr):  # type: ignore[no-untyped-def]
    """Block of channels, segment, path and sequence of this program, int64."""
    pid = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(d, BLOCK_D)
    slot = pid // blocks
    return pid % blocks, slot % segments, slot // segments % k, slot // segments // k


@triton.jit
def tile_indices(block, d, n, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):  # type: ignore[no-untyped-def]
    """States (n, 1) and channels (1, d) of a tile, int64, each with its mask.

    Channels come last, so neighbouring threads hold neighbouring channels and a thread holds all states of its own.
    """
    channel = block * BLOCK_D + tl.arange(0, BLOCK_D)[None, :]
    state = tl.arange(0, BLOCK_N)[:, None].to(tl.int64)
    return channel, state, channel < d, state < n


@triton.jit
def load_decay(A_ptr, A_stride, path, channel, state, inside, REAL: tl.constexpr):  # type: ignore[no-untyped-def]
    """A of one path, times log2(e): exp2 is the instruction, exp is not."""
    at = path * A_stride[0] + channel * A_stride[1] + state * A_stride[2]
    return tl.load(A_ptr + at, mask=inside, other=0.0).to(REAL) * LOG2_E


@triton.jit
def load_bias(bias_ptr, bias_stride, path, channel, in_d, REAL: tl.constexpr):  # type: ignore[no-untyped-def]
    """What is added to dt: zeros where there is no bias."""
    bias = tl.zeros(channel.shape, REAL)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + path * bias_stride[0] + channel * bias_stride[1], mask=in_d, other=0.0).to(REAL)
    return bias


@triton.jit
def load_step(  # type: ignore[no-untyped-def]
    step, end, walk, length, x_ptr, x_stride, dt_ptr, dt_stride, bias, B_ptr, B_stride, in_d, in_n,
    REAL: tl.constexpr, SOFTPLUS: tl.constexpr,
):  # fmt: skip
    """One step's row, masks and inputs; dt as the recurrence takes it, and its derivative in the dt given.

    Past the end all of them are 0: then the state stays as it is and so does every sum.
    """
    alive = step < end
    row = row_of(walk, step, length)
    in_d, in_n = in_d & alive, in_n & alive
    x = tl.load(x_ptr + row * x_stride[2], mask=in_d, other=0.0).to(REAL)
    dt = tl.load(dt_ptr + row * dt_stride[2], mask=in_d, other=0.0).to(REAL) + bias
    B = tl.load(B_ptr + row * B_stride[2], mask=in_n, other=0.0).to(REAL)
    slope = tl.where(in_d, 1.0, 0.0).to(REAL)
    if SOFTPLUS:
        dt, slope = softplus(dt)
        slope = tl.where(in_d, slope, 0.0)
    return row, in_d, in_n, x, tl.where(in_d, dt, 0.0), slope, B


@triton.jit
def carry(  # type: ignore[no-untyped-def]
    h, A, ends_ptr, sums_ptr, slot, by, count, channel, state, inside, in_d, d, n, one
):
    """The state, or its gradient, carried over `count` whole segments: from `slot` on, `by` slots at a time."""
    for j in tl.range(0, count):
        at = slot + tl.cast(j, tl.int64) * by
        end = tl.load(ends_ptr + at * n * d + state * d + channel * one, mask=inside, other=0.0)
        total = tl.load(sums_ptr + at * d + channel * one, mask=in_d, other=0.0)
        h = tl.exp2(total * A) * h + end
    return h


@triton.jit(do_not_specialize=["length", "chunks", "segments", "steps", "one", "A_stride", "h0_stride"])
def scan_forward(  # type: ignore[no-untyped-def]
    x_ptr, dt_ptr, A_ptr, B_ptr, C_ptr, D_ptr, bias_ptr, h0_ptr, paths, cu_seqlens, ends_ptr, sums_ptr,
    y_ptr, h_ptr, states_ptr,
    x_stride, dt_stride, A_stride, B_stride, C_stride, D_stride, bias_stride, h0_stride, y_stride,
    length, chunks, segments, steps, one, k, d, n,
    REAL: tl.constexpr, SOFTPLUS: tl.constexpr, CHUNK: tl.constexpr, STEPS: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Pointers are None where the argument is absent; strides are tuples in the order of the argument's axes.

    ends and sums are those of `segment_states`, which has nothing to do where a sequence is one segment.
    """
    block, segment, path, sequence = place(segments, k, d, BLOCK_D)
    batch, origin, limit = open_clip(cu_seqlens, sequence, length)
    start = origin + segment * steps
    end = tl.minimum(start + steps, limit)
    walk = open_walk(paths, path, length)
    channel, state, in_d, in_n = tile_indices(block, d, n, BLOCK_D, BLOCK_N)
    inside = in_d & in_n

    A = load_decay(A_ptr, A_stride, path, channel, state, inside, REAL)
    bias = load_bias(bias_ptr, bias_stride, path, channel, in_d, REAL)
    if D_ptr is not None:
        D = tl.load(D_ptr + path * D_stride[0] + channel * D_stride[1], mask=in_d, other=0.0).to(REAL)
    h = tl.zeros(A.shape, REAL)
    if h0_ptr is not None:
        at = sequence * h0_stride[0] + path * h0_stride[1] + channel * h0_stride[2] + state * h0_stride[3]
        h = tl.load(h0_ptr + at, mask=inside, other=0.0).to(REAL)
    slot = (sequence * k + path) * (segments - 1)
    h = carry(h, A, ends_ptr, sums_ptr, slot, 1, segment, channel, state, inside, in_d, d, n, one)

    x_ptr += batch * x_stride[0] + path * x_stride[1] + channel * x_stride[3]
    dt_ptr += batch * dt_stride[0] + path * dt_stride[1] + channel * dt_stride[3]
    B_ptr += batch * B_stride[0] + path * B_stride[1] + state * B_stride[3]
    C_ptr += batch * C_stride[0] + path * C_stride[1] + state * C_stride[3]
    y_ptr += batch * y_stride[0] + path * y_stride[1] + channel * y_stride[3]
    if states_ptr is not None:
        first_chunk = (batch * k + path) * chunks + origin // CHUNK + (sequence if cu_seqlens is not None else 0)
        first_chunk += segment * (steps // CHUNK)
        states_ptr += first_chunk * n * d + state * d + channel * one

    for part in tl.range(0, tl.cdiv(end - start, STEPS)):
        first = start + tl.cast(part, tl.int64) * STEPS
        if states_ptr is not None:
            if (first - start) % CHUNK == 0:
                tl.store(states_ptr + (first - start) // CHUNK * n * d, h, mask=inside)
        loads = ()  # of all steps before the arithmetic of any, so that their latencies overlap
        for i in tl.static_range(STEPS):
            row, here, along, x, dt, _, B = load_step(
                first + i, end, walk, length, x_ptr, x_stride, dt_ptr, dt_stride, bias, B_ptr, B_stride,
                in_d, in_n, REAL, SOFTPLUS,
            )  # fmt: skip
            C = tl.load(C_ptr + row * C_stride[2], mask=along, other=0.0).to(REAL)
            loads = loads + ((row, here, x, dt, B, C),)
        for i in tl.static_range(STEPS):
            row, here, x, dt, B, C = loads[i]
            h = tl.exp2(dt * A) * h + (dt * x) * B
            y = tl.sum(h * C, axis=0, keep_dims=True)
            if D_ptr is not None:
                y += D * x
            tl.store(y_ptr + row * y_stride[2], y.to(y_ptr.dtype.element_ty), mask=here)
    last = (start + steps >= limit) & ((start < limit) | (segment == 0))  # of the sequence, which may be empty
    to_h = ((sequence * k + path) * d + channel) * n + state * one
    tl.store(h_ptr + to_h, h, mask=inside & last)
