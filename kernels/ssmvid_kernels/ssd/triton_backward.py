"""Backward kernels: gradients of states passed over chunks, then all gradients of a chunk, without atomics."""

from __future__ import annotations

import triton
import triton.language as tl

from .triton_kernels import (
    decays_between,
    decays_to_end,
    dot,
    load_steps,
    load_tile,
    open_chunk,
    open_rows,
    open_sequence,
)


@triton.jit(do_not_specialize=["length", "slots", "chunk", "dh_stride"])
def pass_state_gradients(  # type: ignore[no-untyped-def]
    dh_ptr, cu_seqlens, decay_ptr, states_ptr, grads_ptr, across_ptr, dh0_ptr,
    dh_stride, length, slots, chunk, k, heads, p, n, REAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`pass_states` backwards: in place of what each chunk's outputs give back, the gradient of the state after it.

    `across` (slots, k, heads, blocks): that gradient times the state before the chunk, decayed: one part a block.
    """
    pid = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(p * n, BLOCK)
    block, pid = pid % blocks, pid // blocks
    element = block * BLOCK + tl.arange(0, BLOCK)
    head, path, sequence = pid % heads, pid // heads % k, pid // heads // k
    slot, count = open_sequence(sequence, cu_seqlens, length, slots, chunk)
    inside = element < p * n
    at = sequence * dh_stride[0] + path * dh_stride[1] + head * dh_stride[2]
    at += element // n * dh_stride[3] + element % n * dh_stride[4]
    dh = tl.load(dh_ptr + at, mask=inside, other=0.0).to(REAL)
    for back in tl.range(0, count):
        chunk_id = ((slot + count - 1 - back) * k + path) * heads + head
        new = tl.load(grads_ptr + chunk_id * p * n + element, mask=inside, other=0.0)
        h = tl.load(states_ptr + chunk_id * p * n + element, mask=inside, other=0.0)
        tl.store(grads_ptr + chunk_id * p * n + element, dh, mask=inside)
        dh *= tl.load(decay_ptr + chunk_id)
        tl.store(across_ptr + chunk_id * blocks + block, tl.sum(dh * h, axis=0))
        dh += new
    tl.store(dh0_ptr + pid * p * n + element, dh, mask=inside)


@triton.jit
def load_states(ptr, pid, channel, in_p, state, in_n, p, n):  # type: ignore[no-untyped-def]
    """A tile (p, n) of the states, or their gradients, of one chunk, path and head."""
    at = (pid * p + channel[:, None]) * n + state[None, :]
    return tl.load(ptr + at, mask=in_p[:, None] & in_n[None, :], other=0.0)


@triton.jit(do_not_specialize=["length", "slots", "chunk"])
def chunk_gradients(  # type: ignore[no-untyped-def]
    dy_ptr, x_ptr, dt_ptr, A_ptr, B_ptr, C_ptr, D_ptr, bias_ptr, paths, cu_seqlens, clip_of,
    states_ptr, grads_ptr, across_ptr, dx_ptr, ddt_ptr, dA_ptr, dB_ptr, dC_ptr, dD_ptr,
    dy_stride, x_stride, dt_stride, A_stride, B_stride, C_stride, D_stride, bias_stride,
    low, high, length, slots, chunk, k, heads, groups, p, n,
    SOFTPLUS: tl.constexpr, LIMITED: tl.constexpr, REAL: tl.constexpr, DOT: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program a (slot, path, head, block of p). Outputs are dense, one part a block: to be summed.

    dx (b, k, l, heads, p), ddt (b, k, l, heads, blocks), dA (slots, k, heads, blocks), dD (slots, k, heads, p),
    dB and dC (b, k, l, heads, blocks, n).
    """
    pid = tl.program_id(0).to(tl.int64)
    blocks_p = tl.cdiv(p, BLOCK_P)
    block, pid = pid % blocks_p, pid // blocks_p
    head, path, slot = pid % heads, pid // heads % k, pid // heads // k
    group = head // (heads // groups)
    batch, first, end = open_chunk(slot, cu_seqlens, clip_of, length, slots, chunk)
    row, inside = open_rows(paths, path, first, end, length, BLOCK_Q)
    channel = block * BLOCK_P + tl.arange(0, BLOCK_P)
    in_p = channel < p
    dt, slope, A, hi, lo = load_steps(
        dt_ptr, dt_stride, A_ptr, A_stride, bias_ptr, bias_stride, low, high, batch, path, head, row, inside,
        REAL, SOFTPLUS, LIMITED,
    )  # fmt: skip
    B_ptr += batch * B_stride[0] + path * B_stride[1] + group * B_stride[3]
    C_ptr += batch * C_stride[0] + path * C_stride[1] + group * C_stride[3]

    CB = tl.zeros((BLOCK_Q, BLOCK_Q), REAL)
    from_after = tl.zeros((BLOCK_Q, BLOCK_P), REAL)
    from_before = tl.zeros((BLOCK_Q, BLOCK_P), REAL)
    for start in tl.range(0, n, BLOCK_N):
        state = start + tl.arange(0, BLOCK_N)
        in_n = state < n
        B = load_tile(B_ptr, B_stride[2], B_stride[4], row, inside, state, in_n, REAL)
        C = load_tile(C_ptr, C_stride[2], C_stride[4], row, inside, state, in_n, REAL)
        CB += dot(C, tl.trans(B), DOT, REAL)
        from_before += dot(C, tl.trans(load_states(states_ptr, pid, channel, in_p, state, in_n, p, n)), DOT, REAL)
        from_after += dot(B, tl.trans(load_states(grads_ptr, pid, channel, in_p, state, in_n, p, n)), DOT, REAL)

    # In an order that lets each tile go as soon as it can.
    x_ptr += batch * x_stride[0] + path * x_stride[1] + head * x_stride[3]
    dy_ptr += batch * dy_stride[0] + path * dy_stride[1] + head * dy_stride[3]
    x = load_tile(x_ptr, x_stride[2], x_stride[4], row, inside, channel, in_p, REAL)
    dy = load_tile(dy_ptr, dy_stride[2], dy_stride[4], row, inside, channel, in_p, REAL)
    from_start, to_end = tl.exp(hi)[:, None], decays_to_end(hi, lo)[:, None]
    into_y = tl.sum(dy * from_before * from_start, axis=1)
    drive = x * dt[:, None]
    d_drive = from_after * to_end
    into_state = tl.sum(drive * d_drive, axis=1)
    decay = decays_between(hi, lo)
    d_CB = dot(dy, tl.trans(drive), DOT, REAL) * decay
    d_drive += dot(tl.trans(decay * CB), dy, DOT, REAL)
    # A step's dt A is in the decay between every j before it and every i from it on: no difference of sums.
    over = tl.cumsum(d_CB * CB, axis=0, reverse=True) + into_state[None, :]
    before = tl.arange(0, BLOCK_Q)[None, :] < tl.arange(0, BLOCK_Q)[:, None]
    d_sums = tl.sum(tl.where(before, over, 0.0), axis=1) + tl.cumsum(into_y, axis=0, reverse=True)
    d_sums += tl.where(block == 0, tl.load(across_ptr + pid), 0.0)
    ddt = (tl.sum(x * d_drive, axis=1) + A * d_sums) * slope
    first_row = (batch * k + path) * length
    to_row = ((first_row + row) * heads + head) * blocks_p + block
    tl.store(ddt_ptr + to_row, ddt, mask=inside)
    tl.store(dA_ptr + pid * blocks_p + block, tl.sum(d_sums * dt, axis=0))
    dx = d_drive * dt[:, None]
    if D_ptr is not None:
        at = path * D_stride[0] + head * D_stride[1] + channel * D_stride[2]
        dx += tl.load(D_ptr + at, mask=in_p, other=0.0).to(REAL)[None, :] * dy
        tl.store(dD_ptr + pid * p + channel, tl.sum(dy * x, axis=0), mask=in_p)
    to_x = ((first_row + row) * heads + head)[:, None] * p + channel[None, :]
    tl.store(dx_ptr + to_x, dx.to(dx_ptr.dtype.element_ty), mask=inside[:, None] & in_p[None, :])

    dy *= from_start
    drive *= to_end
    for start in tl.range(0, n, BLOCK_N):
        state = start + tl.arange(0, BLOCK_N)
        in_n = state < n
        to_BC = to_row[:, None] * n + state[None, :]
        both = inside[:, None] & in_n[None, :]
        B = load_tile(B_ptr, B_stride[2], B_stride[4], row, inside, state, in_n, REAL)
        dC = dot(d_CB, B, DOT, REAL)
        dC += dot(dy, load_states(states_ptr, pid, channel, in_p, state, in_n, p, n), DOT, REAL)
        tl.store(dC_ptr + to_BC, dC, mask=both)
        C = load_tile(C_ptr, C_stride[2], C_stride[4], row, inside, state, in_n, REAL)
        dB = dot(tl.trans(d_CB), C, DOT, REAL)
        dB += dot(drive, load_states(grads_ptr, pid, channel, in_p, state, in_n, p, n), DOT, REAL)
        tl.store(dB_ptr + to_BC, dB, mask=both)
