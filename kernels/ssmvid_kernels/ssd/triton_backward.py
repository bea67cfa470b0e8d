"""Backward kernels: the gradients of a chunk's inputs and steps, and those of its gates, without atomics."""

from __future__ import annotations

import triton
import triton.language as tl

from .triton_kernels import (
    decays_between,
    dot,
    gate_products,
    gates_times_states,
    load_states,
    load_tile,
    open_chunk,
    open_member,
    open_rows,
    open_shared,
    step_at,
)


@triton.jit
def load_steps(steps_ptr, inside, length):  # type: ignore[no-untyped-def]
    """dt, hi, lo and the decay to the end of each step (q,); `steps_ptr` is at each."""
    dt = tl.load(steps_ptr, mask=inside, other=0.0)
    hi = tl.load(steps_ptr + length, mask=inside, other=0.0)
    lo = tl.load(steps_ptr + 2 * length.to(tl.int64), mask=inside, other=0.0)
    return dt, hi, lo, tl.load(steps_ptr + 3 * length.to(tl.int64), mask=inside, other=0.0)


@triton.jit
def drive_gradients(  # type: ignore[no-untyped-def]
    x_ptr, x_row, x_column, B_ptr, C_ptr, B_stride, C_stride, grads_ptr, chunk_id, dt, hi, lo, to_end, place, row,
    inside, channel, in_p, p, n, REAL: tl.constexpr, DOT: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Of the gradient of dt x (q, p) the state's part, by which each step enters the state (q,); x; C B^T o L."""
    # In an order that lets each tile go as soon as it can.
    d_drive = to_end[:, None] * gates_times_states(
        B_ptr, B_stride[2], B_stride[4], grads_ptr, chunk_id, row, inside, channel, in_p, p, n, REAL, DOT, BLOCK_N
    )  # fmt: skip
    x = load_tile(x_ptr, x_row, x_column, row, inside, channel, in_p, REAL)
    into_state = tl.sum(x * d_drive, axis=1) * dt
    CB = gate_products(B_ptr, C_ptr, B_stride, C_stride, row, inside, n, REAL, DOT, BLOCK_N)
    return d_drive, into_state, x, CB * decays_between(hi, lo, place)


@triton.jit(do_not_specialize=["length", "slots", "chunk"])
def input_gradients(  # type: ignore[no-untyped-def]
    dy_ptr, x_ptr, B_ptr, C_ptr, D_ptr, steps_ptr, paths, chunks, cu_seqlens, clip_of, places, bundles, grads_ptr,
    dx_ptr, into_ptr, ddt_ptr, dD_ptr,
    dy_stride, x_stride, B_stride, C_stride, D_stride, count, length, slots, chunk, k, heads, groups, p, n,
    REAL: tl.constexpr, DOT: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program a (slot, bundle, head, block of p): dx (b, bundles, l, heads, p), summed over the paths of a bundle.

    Of each path what `step_gradients` needs besides: `into` and, of ddt, what comes by way of dt x, (b, k, l, heads,
    blocks) both; and dD (slots, k, heads, p).
    """
    pid = tl.program_id(0).to(tl.int64)
    blocks_p = tl.cdiv(p, BLOCK_P)
    block, pid = pid % blocks_p, pid // blocks_p
    head, bundle, slot = pid % heads, pid // heads % count, pid // heads // count
    group = head // (heads // groups)
    first_member, last_member, batch, first_step, row, inside = open_shared(
        paths, chunks, bundles, bundle, slot, cu_seqlens, clip_of, length, slots, chunk, BLOCK_Q
    )
    channel = block * BLOCK_P + tl.arange(0, BLOCK_P)
    in_p = channel < p
    dx = tl.zeros((BLOCK_Q, BLOCK_P), REAL)
    for member in tl.range(first_member, last_member):
        path, own = open_member(chunks, tl.zeros((), tl.int64) + member, slot, slots)
        chunk_id = (own * k + path) * heads + head
        step = step_at(places, path, row, inside, first_step, length)
        at = steps_ptr + ((batch * k + path) * heads + head) * 5 * length + step
        dt, hi, lo, to_end = load_steps(at, inside, length)
        d_drive, into_state, x, CB = drive_gradients(
            x_ptr + batch * x_stride[0] + path * x_stride[1] + head * x_stride[3], x_stride[2], x_stride[4],
            B_ptr + batch * B_stride[0] + path * B_stride[1] + group * B_stride[3],
            C_ptr + batch * C_stride[0] + path * C_stride[1] + group * C_stride[3], B_stride, C_stride,
            grads_ptr, chunk_id, dt, hi, lo, to_end, tl.where(inside, step, -1), row,
            inside, channel, in_p, p, n, REAL, DOT, BLOCK_N,
        )  # fmt: skip
        dy_at = dy_ptr + batch * dy_stride[0] + path * dy_stride[1] + head * dy_stride[3]
        dy = load_tile(dy_at, dy_stride[2], dy_stride[4], row, inside, channel, in_p, REAL)
        d_drive += dot(tl.trans(CB), dy, DOT, REAL)
        to_row = (((batch * k + path) * length + row) * heads + head) * blocks_p + block
        tl.store(into_ptr + to_row, into_state, mask=inside)
        tl.store(ddt_ptr + to_row, tl.sum(x * d_drive, axis=1), mask=inside)
        dx += d_drive * dt[:, None]
        if D_ptr is not None:
            at = path * D_stride[0] + head * D_stride[1] + channel * D_stride[2]
            dx += tl.load(D_ptr + at, mask=in_p, other=0.0).to(REAL)[None, :] * dy
            tl.store(dD_ptr + chunk_id * p + channel, tl.sum(dy * x, axis=0), mask=in_p)
    to_x = (((batch * count + bundle) * length + row) * heads + head)[:, None] * p + channel[None, :]
    tl.store(dx_ptr + to_x, dx.to(dx_ptr.dtype.element_ty), mask=inside[:, None] & in_p[None, :])


@triton.jit(do_not_specialize=["length", "slots", "chunk"])
def step_gradients(  # type: ignore[no-untyped-def]
    dy_ptr, x_ptr, A_ptr, B_ptr, C_ptr, D_ptr, steps_ptr, paths, chunks, cu_seqlens, clip_of,
    states_ptr, grads_ptr, across_ptr, into_ptr, dx_ptr, ddt_ptr, dA_ptr, dD_ptr,
    dy_stride, x_stride, A_stride, B_stride, C_stride, D_stride, length, slots, chunk, k, heads, groups, p, n,
    REAL: tl.constexpr, DOT: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program a (slot, member, head, block of p). Outputs are dense, one part a block: to be summed.

    dx (b, k, l, heads, p), ddt (b, k, l, heads, blocks), dA (slots, k, heads, blocks), dD (slots, k, heads, p). With
    `into` dx and dD are done: `input_gradients` left it, and in ddt what it has of that.
    """
    pid = tl.program_id(0).to(tl.int64)
    blocks_p = tl.cdiv(p, BLOCK_P)
    block, pid = pid % blocks_p, pid // blocks_p
    head, member, slot = pid % heads, pid // heads % k, pid // heads // k
    group = head // (heads // groups)
    path, own = open_member(chunks, member, slot, slots)
    chunk_id = (own * k + path) * heads + head
    batch, first, end = open_chunk(chunks, member, slot, cu_seqlens, clip_of, length, slots, chunk)
    step, row, inside = open_rows(paths, path, first, end, length, BLOCK_Q)
    channel = block * BLOCK_P + tl.arange(0, BLOCK_P)
    in_p = channel < p
    at = steps_ptr + ((batch * k + path) * heads + head) * 5 * length + step
    dt, hi, lo, to_end = load_steps(at, inside, length)
    slope = tl.load(at + 4 * length.to(tl.int64), mask=inside, other=0.0)
    place = tl.where(inside, step, -1)
    B_ptr += batch * B_stride[0] + path * B_stride[1] + group * B_stride[3]
    C_ptr += batch * C_stride[0] + path * C_stride[1] + group * C_stride[3]
    x_ptr += batch * x_stride[0] + path * x_stride[1] + head * x_stride[3]
    dy_ptr += batch * dy_stride[0] + path * dy_stride[1] + head * dy_stride[3]
    to_row = ((batch * k + path) * length + row) * heads + head

    from_before = gates_times_states(
        C_ptr, C_stride[2], C_stride[4], states_ptr, chunk_id, row, inside, channel, in_p, p, n, REAL, DOT, BLOCK_N
    )  # fmt: skip
    dy = load_tile(dy_ptr, dy_stride[2], dy_stride[4], row, inside, channel, in_p, REAL)
    into_y = tl.sum(dy * from_before, axis=1) * tl.exp(hi)
    if into_ptr is None:
        d_drive, into_state, x, CB = drive_gradients(
            x_ptr, x_stride[2], x_stride[4], B_ptr, C_ptr, B_stride, C_stride, grads_ptr, chunk_id, dt, hi, lo,
            to_end, place, row, inside, channel, in_p, p, n, REAL, DOT, BLOCK_N,
        )  # fmt: skip
        d_drive += dot(tl.trans(CB), dy, DOT, REAL)
    else:
        into_state = tl.load(into_ptr + to_row * blocks_p + block, mask=inside, other=0.0)
        x = load_tile(x_ptr, x_stride[2], x_stride[4], row, inside, channel, in_p, REAL)
        CB = gate_products(B_ptr, C_ptr, B_stride, C_stride, row, inside, n, REAL, DOT, BLOCK_N)
        CB *= decays_between(hi, lo, place)
    # A step's dt A is in the decay between every j before it and every i from it on: no difference of sums.
    over = tl.cumsum(dot(dy, tl.trans(x * dt[:, None]), DOT, REAL) * CB, axis=0, reverse=True)
    before = tl.arange(0, BLOCK_Q)[None, :] < tl.arange(0, BLOCK_Q)[:, None]
    d_sums = tl.sum(tl.where(before, over + into_state[None, :], 0.0), axis=1)
    d_sums += tl.cumsum(into_y, axis=0, reverse=True) + tl.where(block == 0, tl.load(across_ptr + chunk_id), 0.0)

    A = tl.load(A_ptr + path * A_stride[0] + head * A_stride[1]).to(REAL)
    tl.store(dA_ptr + chunk_id * blocks_p + block, tl.sum(d_sums * dt, axis=0))
    if into_ptr is None:
        ddt = tl.sum(x * d_drive, axis=1)
        dx = d_drive * dt[:, None]
        if D_ptr is not None:
            at = path * D_stride[0] + head * D_stride[1] + channel * D_stride[2]
            dx += tl.load(D_ptr + at, mask=in_p, other=0.0).to(REAL)[None, :] * dy
            tl.store(dD_ptr + chunk_id * p + channel, tl.sum(dy * x, axis=0), mask=in_p)
        to_x = to_row[:, None] * p + channel[None, :]
        tl.store(dx_ptr + to_x, dx.to(dx_ptr.dtype.element_ty), mask=inside[:, None] & in_p[None, :])
    else:
        ddt = tl.load(ddt_ptr + to_row * blocks_p + block, mask=inside, other=0.0)
    tl.store(ddt_ptr + to_row * blocks_p + block, (ddt + A * d_sums) * slope, mask=inside)


@triton.jit(do_not_specialize=["length", "slots", "chunk"])
def gate_gradients(  # type: ignore[no-untyped-def]
    dy_ptr, x_ptr, B_ptr, C_ptr, steps_ptr, paths, chunks, cu_seqlens, clip_of, states_ptr, grads_ptr, dB_ptr, dC_ptr,
    dy_stride, x_stride, B_stride, C_stride, length, slots, chunk, k, heads, groups, p, n, parts,
    REAL: tl.constexpr, DOT: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program a (slot, member, group, part of its heads, block of n); dB and dC (b, k, l, groups, parts, n)."""
    pid = tl.program_id(0).to(tl.int64)
    blocks_n = tl.cdiv(n, BLOCK_N)
    block, pid = pid % blocks_n, pid // blocks_n
    part, group, member, slot = (
        pid % parts,
        pid // parts % groups,
        pid // parts // groups % k,
        pid // parts // groups // k,
    )
    path, own = open_member(chunks, member, slot, slots)
    batch, first, end = open_chunk(chunks, member, slot, cu_seqlens, clip_of, length, slots, chunk)
    step, row, inside = open_rows(paths, path, first, end, length, BLOCK_Q)
    state = block * BLOCK_N + tl.arange(0, BLOCK_N)
    in_n = state < n
    x_ptr += batch * x_stride[0] + path * x_stride[1]
    dy_ptr += batch * dy_stride[0] + path * dy_stride[1]

    each = heads // groups
    first_head, last_head = group * each + part * each // parts, group * each + (part + 1) * each // parts
    at = steps_ptr + (batch * k + path) * heads * 5 * length + step
    d_CB = tl.zeros((BLOCK_Q, BLOCK_Q), REAL)
    for index in tl.range(first_head, last_head):
        head = tl.zeros((), tl.int64) + index
        dt = tl.load(at + head * 5 * length, mask=inside, other=0.0)
        hi = tl.load(at + (head * 5 + 1) * length, mask=inside, other=0.0)
        lo = tl.load(at + (head * 5 + 2) * length, mask=inside, other=0.0)
        square = tl.zeros((BLOCK_Q, BLOCK_Q), REAL)
        for start in tl.range(0, p, BLOCK_P):
            channel = start + tl.arange(0, BLOCK_P)
            x = load_tile(x_ptr + head * x_stride[3], x_stride[2], x_stride[4], row, inside, channel, channel < p, REAL)
            dy_at = dy_ptr + head * dy_stride[3]
            dy = load_tile(dy_at, dy_stride[2], dy_stride[4], row, inside, channel, channel < p, REAL)
            square += dot(dy, tl.trans(x * dt[:, None]), DOT, REAL)
        d_CB += square * decays_between(hi, lo, tl.where(inside, step, -1))

    B_ptr += batch * B_stride[0] + path * B_stride[1] + group * B_stride[3]
    C_ptr += batch * C_stride[0] + path * C_stride[1] + group * C_stride[3]
    B = load_tile(B_ptr, B_stride[2], B_stride[4], row, inside, state, in_n, REAL)
    C = load_tile(C_ptr, C_stride[2], C_stride[4], row, inside, state, in_n, REAL)
    dC = dot(d_CB, B, DOT, REAL)
    dB = dot(tl.trans(d_CB), C, DOT, REAL)
    # x and dy a second time, from the cache: squares and sums together would not fit the registers.
    for index in tl.range(first_head, last_head):
        head = tl.zeros((), tl.int64) + index
        from_start = tl.exp(tl.load(at + (head * 5 + 1) * length, mask=inside, other=0.0))
        to_end = tl.load(at + head * 5 * length, mask=inside, other=0.0)
        to_end *= tl.load(at + (head * 5 + 3) * length, mask=inside, other=0.0)
        chunk_id = (own * k + path) * heads + head
        for start in tl.range(0, p, BLOCK_P):
            channel = start + tl.arange(0, BLOCK_P)
            in_p = channel < p
            dy_at = dy_ptr + head * dy_stride[3]
            dy = load_tile(dy_at, dy_stride[2], dy_stride[4], row, inside, channel, in_p, REAL)
            h = load_states(states_ptr, chunk_id, channel, in_p, state, in_n, p, n)
            dC += dot(dy * from_start[:, None], h, DOT, REAL)
            x = load_tile(x_ptr + head * x_stride[3], x_stride[2], x_stride[4], row, inside, channel, in_p, REAL)
            dh = load_states(grads_ptr, chunk_id, channel, in_p, state, in_n, p, n)
            dB += dot(x * to_end[:, None], dh, DOT, REAL)
    to = ((((batch * k + path) * length + row) * groups + group) * parts + part)[:, None] * n + state[None, :]
    both = inside[:, None] & in_n[None, :]
    tl.store(dB_ptr + to, dB, mask=both)
    tl.store(dC_ptr + to, dC, mask=both)
