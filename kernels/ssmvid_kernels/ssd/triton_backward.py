"""Backward kernels: the gradients of a chunk's steps, and those of its gates, without atomics."""

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
    open_bundle,
    open_chunk,
    open_member,
    open_rows,
    step_at,
    sums_from_on,
)


@triton.jit(do_not_specialize=["length", "slots", "chunk"])
def step_gradients(  # type: ignore[no-untyped-def]
    dy_ptr, x_ptr, A_ptr, B_ptr, C_ptr, D_ptr, steps_ptr, paths, chunks, cu_seqlens, clip_of, places, bundles,
    states_ptr, grads_ptr, across_ptr, dx_ptr, ddt_ptr, dA_ptr, dD_ptr,
    dy_stride, x_stride, A_stride, B_stride, C_stride, D_stride, count, length, slots, chunk, k, heads, groups, p, n,
    REAL: tl.constexpr, DOT: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program a (slot, bundle, head, block of p). Outputs are dense, one part a block: to be summed.

    dx (b, bundles, l, heads, p), ddt (b, k, l, heads, blocks), dA (slots, k, heads, blocks), dD (slots, k, heads, p).
    """
    pid = tl.program_id(0).to(tl.int64)
    blocks_p = tl.cdiv(p, BLOCK_P)
    block, pid = pid % blocks_p, pid // blocks_p
    head, bundle, slot = pid % heads, pid // heads % count, pid // heads // count
    group = head // (heads // groups)
    first_member, last_member = open_bundle(bundles, bundle)
    path, _ = open_member(chunks, first_member, slot, slots)
    batch, first, end = open_chunk(chunks, first_member, slot, cu_seqlens, clip_of, length, slots, chunk)
    first_step, row, inside = open_rows(paths, path, first, end, length, BLOCK_Q)
    channel = block * BLOCK_P + tl.arange(0, BLOCK_P)
    in_p = channel < p
    dx = tl.zeros((BLOCK_Q, BLOCK_P), REAL)
    for member in tl.range(first_member, last_member):
        path, own = open_member(chunks, tl.zeros((), tl.int64) + member, slot, slots)
        chunk_id = (own * k + path) * heads + head
        step = step_at(places, path, row, inside, first_step, length)
        place = tl.where(inside, step, -1)
        at = steps_ptr + ((batch * k + path) * heads + head) * 5 * length + step
        dt = tl.load(at, mask=inside, other=0.0)
        hi = tl.load(at + length, mask=inside, other=0.0)
        lo = tl.load(at + 2 * length.to(tl.int64), mask=inside, other=0.0)
        to_end = tl.load(at + 3 * length.to(tl.int64), mask=inside, other=0.0)
        slope = tl.load(at + 4 * length.to(tl.int64), mask=inside, other=0.0)
        B_at = B_ptr + batch * B_stride[0] + path * B_stride[1] + group * B_stride[3]
        C_at = C_ptr + batch * C_stride[0] + path * C_stride[1] + group * C_stride[3]

        # In an order that lets each tile go as soon as it can.
        x_at = x_ptr + batch * x_stride[0] + path * x_stride[1] + head * x_stride[3]
        dy_at = dy_ptr + batch * dy_stride[0] + path * dy_stride[1] + head * dy_stride[3]
        from_before = gates_times_states(
            C_at, C_stride[2], C_stride[4], states_ptr, chunk_id, row, inside, channel, in_p, p, n, REAL, DOT, BLOCK_N
        )  # fmt: skip
        dy = load_tile(dy_at, dy_stride[2], dy_stride[4], row, inside, channel, in_p, REAL)
        into_y = tl.sum(dy * from_before, axis=1) * tl.exp(hi)
        d_drive = to_end[:, None] * gates_times_states(
            B_at, B_stride[2], B_stride[4], grads_ptr, chunk_id, row, inside, channel, in_p, p, n, REAL, DOT, BLOCK_N
        )  # fmt: skip
        x = load_tile(x_at, x_stride[2], x_stride[4], row, inside, channel, in_p, REAL)
        into_state = tl.sum(x * d_drive, axis=1) * dt
        CB = gate_products(B_at, C_at, B_stride, C_stride, row, inside, n, REAL, DOT, BLOCK_N)
        CB *= decays_between(hi, lo, place)
        d_drive += dot(tl.trans(CB), dy, DOT, REAL)
        # A step's dt A is in the decay between every j before it and every i from it on: no difference of sums.
        over = sums_from_on(dot(dy, tl.trans(x * dt[:, None]), DOT, REAL) * CB, place, places is not None, DOT, REAL)
        before = place[None, :] < place[:, None]
        d_sums = tl.sum(tl.where(before, over + into_state[None, :], into_y[None, :]), axis=1)
        d_sums += tl.where(block == 0, tl.load(across_ptr + chunk_id), 0.0)

        A = tl.load(A_ptr + path * A_stride[0] + head * A_stride[1]).to(REAL)
        ddt = (tl.sum(x * d_drive, axis=1) + A * d_sums) * slope
        to_row = ((batch * k + path) * length + row) * heads + head
        tl.store(ddt_ptr + to_row * blocks_p + block, ddt, mask=inside)
        tl.store(dA_ptr + chunk_id * blocks_p + block, tl.sum(d_sums * dt, axis=0))
        dx += d_drive * dt[:, None]
        if D_ptr is not None:
            at = path * D_stride[0] + head * D_stride[1] + channel * D_stride[2]
            dx += tl.load(D_ptr + at, mask=in_p, other=0.0).to(REAL)[None, :] * dy
            tl.store(dD_ptr + chunk_id * p + channel, tl.sum(dy * x, axis=0), mask=in_p)
    to_x = (((batch * count + bundle) * length + row) * heads + head)[:, None] * p + channel[None, :]
    tl.store(dx_ptr + to_x, dx.to(dx_ptr.dtype.element_ty), mask=inside[:, None] & in_p[None, :])


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
