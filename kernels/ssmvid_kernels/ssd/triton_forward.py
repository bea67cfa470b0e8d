"""Forward kernels: what each chunk adds to the state, and its outputs from its own steps and the state before it."""

from __future__ import annotations

import triton
import triton.language as tl

from .triton_kernels import (
    decays_between,
    dot,
    gate_products,
    gates_times_states,
    load_tile,
    open_member,
    open_shared,
    step_at,
)


@triton.jit(do_not_specialize=["length", "slots", "chunk"])
def chunk_states(  # type: ignore[no-untyped-def]
    v_ptr, w_ptr, steps_ptr, paths, chunks, cu_seqlens, clip_of, places, bundles, out_ptr, v_stride, w_stride,
    count, length, slots, chunk, k, heads, groups, p, n,
    FORWARD: tl.constexpr, REAL: tl.constexpr, DOT: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Sums over a chunk of v_j w_j^T (slots, k, heads, p, n), one program a (slot, bundle, head, block of p, of n).

    FORWARD: what the chunk adds to the state, v = x and w = B, each step weighted by dt and its decay to the end.
    Else: what the outputs give back to the gradient of the state before the chunk, v = dy and w = C, weighted by the
    decay from the start.
    """
    pid = tl.program_id(0).to(tl.int64)
    blocks_p, blocks_n = tl.cdiv(p, BLOCK_P), tl.cdiv(n, BLOCK_N)
    block, pid = pid % (blocks_p * blocks_n), pid // (blocks_p * blocks_n)
    head, bundle, slot = pid % heads, pid // heads % count, pid // heads // count
    group = head // (heads // groups)
    first_member, last_member, batch, first_step, row, inside = open_shared(
        paths, chunks, bundles, bundle, slot, cu_seqlens, clip_of, length, slots, chunk, BLOCK_Q
    )
    channel = block // blocks_n * BLOCK_P + tl.arange(0, BLOCK_P)
    state = block % blocks_n * BLOCK_N + tl.arange(0, BLOCK_N)

    for member in tl.range(first_member, last_member):
        path, own = open_member(chunks, tl.zeros((), tl.int64) + member, slot, slots)
        step = step_at(places, path, row, inside, first_step, length)
        at = steps_ptr + ((batch * k + path) * heads + head) * 5 * length + step
        if FORWARD:
            weight = tl.load(at, mask=inside, other=0.0) * tl.load(at + 3 * length.to(tl.int64), mask=inside, other=0.0)
        else:
            weight = tl.exp(tl.load(at + length, mask=inside, other=0.0))
        v_at = v_ptr + batch * v_stride[0] + path * v_stride[1] + head * v_stride[3]
        w_at = w_ptr + batch * w_stride[0] + path * w_stride[1] + group * w_stride[3]
        v = load_tile(v_at, v_stride[2], v_stride[4], row, inside, channel, channel < p, REAL)
        w = load_tile(w_at, w_stride[2], w_stride[4], row, inside, state, state < n, REAL)
        out = dot(tl.trans(v * weight[:, None]), w, DOT, REAL)
        to = (((own * k + path) * heads + head) * p + channel[:, None]) * n + state[None, :]
        tl.store(out_ptr + to, out, mask=(channel < p)[:, None] & (state < n)[None, :])


@triton.jit
def store_rows(y_ptr, y_stride, row, inside, channel, in_p, y):  # type: ignore[no-untyped-def]
    """Rows of y (q, p), rounded; `y_ptr` is at batch, path and head."""
    to = row[:, None] * y_stride[2] + channel[None, :] * y_stride[4]
    tl.store(y_ptr + to, y.to(y_ptr.dtype.element_ty), mask=inside[:, None] & in_p[None, :])


@triton.jit(do_not_specialize=["length", "slots", "chunk"])
def chunk_outputs(  # type: ignore[no-untyped-def]
    x_ptr, B_ptr, C_ptr, D_ptr, steps_ptr, paths, chunks, cu_seqlens, clip_of, places, bundles, states_ptr, y_ptr,
    x_stride, B_stride, C_stride, D_stride, y_stride, count, length, slots, chunk, k, heads, groups, p, n,
    SUMMED: tl.constexpr, REAL: tl.constexpr, DOT: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program a (slot, bundle, head, block of p); y by its strides, each row in token order.

    SUMMED: y (b, bundles, l, heads, p) holds the sum over the paths of a bundle; else (b, k, l, heads, p) each.
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
    y_ptr += batch * y_stride[0] + head * y_stride[3]
    total = tl.zeros((BLOCK_Q, BLOCK_P), REAL)
    for member in tl.range(first_member, last_member):
        path, own = open_member(chunks, tl.zeros((), tl.int64) + member, slot, slots)
        step = step_at(places, path, row, inside, first_step, length)
        at = steps_ptr + ((batch * k + path) * heads + head) * 5 * length + step
        dt = tl.load(at, mask=inside, other=0.0)
        hi = tl.load(at + length, mask=inside, other=0.0)
        lo = tl.load(at + 2 * length.to(tl.int64), mask=inside, other=0.0)
        B_at = B_ptr + batch * B_stride[0] + path * B_stride[1] + group * B_stride[3]
        C_at = C_ptr + batch * C_stride[0] + path * C_stride[1] + group * C_stride[3]
        y = gates_times_states(
            C_at, C_stride[2], C_stride[4], states_ptr, (own * k + path) * heads + head, row, inside, channel, in_p,
            p, n, REAL, DOT, BLOCK_N,
        )  # fmt: skip
        y *= tl.exp(hi)[:, None]
        CB = gate_products(B_at, C_at, B_stride, C_stride, row, inside, n, REAL, DOT, BLOCK_N)

        x_at = x_ptr + batch * x_stride[0] + path * x_stride[1] + head * x_stride[3]
        x = load_tile(x_at, x_stride[2], x_stride[4], row, inside, channel, in_p, REAL)
        decay = decays_between(hi, lo, tl.where(inside, step, -1))
        y += dot(CB * decay, x * dt[:, None], DOT, REAL)
        if D_ptr is not None:
            at = path * D_stride[0] + head * D_stride[1] + channel * D_stride[2]
            y += tl.load(D_ptr + at, mask=in_p, other=0.0).to(REAL)[None, :] * x
        if SUMMED:
            total += y
        else:
            store_rows(y_ptr + path * y_stride[1], y_stride, row, inside, channel, in_p, y)
    if SUMMED:
        store_rows(y_ptr + bundle * y_stride[1], y_stride, row, inside, channel, in_p, total)
