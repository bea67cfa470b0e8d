"""Forward kernel: the outputs of a chunk, from its own steps and from the state before it."""

from __future__ import annotations

import triton
import triton.language as tl

from .triton_kernels import decays_between, dot, load_steps, load_tile, open_chunk, open_rows


@triton.jit(do_not_specialize=["length", "slots", "chunk"])
def chunk_outputs(  # type: ignore[no-untyped-def]
    x_ptr, dt_ptr, A_ptr, B_ptr, C_ptr, D_ptr, bias_ptr, paths, cu_seqlens, clip_of, states_ptr, y_ptr,
    x_stride, dt_stride, A_stride, B_stride, C_stride, D_stride, bias_stride, y_stride,
    low, high, length, slots, chunk, k, heads, groups, p, n,
    SOFTPLUS: tl.constexpr, LIMITED: tl.constexpr, REAL: tl.constexpr, DOT: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program a (slot, path, head, block of p); y (b, k, l, heads, p) by its strides, each row in token order."""
    pid = tl.program_id(0).to(tl.int64)
    blocks_p = tl.cdiv(p, BLOCK_P)
    block, pid = pid % blocks_p, pid // blocks_p
    head, path, slot = pid % heads, pid // heads % k, pid // heads // k
    group = head // (heads // groups)
    batch, first, end = open_chunk(slot, cu_seqlens, clip_of, length, slots, chunk)
    row, inside = open_rows(paths, path, first, end, length, BLOCK_Q)
    channel = block * BLOCK_P + tl.arange(0, BLOCK_P)
    in_p = channel < p
    dt, _, _, hi, lo = load_steps(
        dt_ptr, dt_stride, A_ptr, A_stride, bias_ptr, bias_stride, low, high, batch, path, head, row, inside,
        REAL, SOFTPLUS, LIMITED,
    )  # fmt: skip

    B_ptr += batch * B_stride[0] + path * B_stride[1] + group * B_stride[3]
    C_ptr += batch * C_stride[0] + path * C_stride[1] + group * C_stride[3]
    CB = tl.zeros((BLOCK_Q, BLOCK_Q), REAL)
    y = tl.zeros((BLOCK_Q, BLOCK_P), REAL)
    for start in tl.range(0, n, BLOCK_N):
        state = start + tl.arange(0, BLOCK_N)
        in_n = state < n
        B = load_tile(B_ptr, B_stride[2], B_stride[4], row, inside, state, in_n, REAL)
        C = load_tile(C_ptr, C_stride[2], C_stride[4], row, inside, state, in_n, REAL)
        at = (pid * p + channel[None, :]) * n + state[:, None]
        h = tl.load(states_ptr + at, mask=in_p[None, :] & in_n[:, None], other=0.0)
        CB += dot(C, tl.trans(B), DOT, REAL)
        y += dot(C, h, DOT, REAL)
    y *= tl.exp(hi)[:, None]

    x_ptr += batch * x_stride[0] + path * x_stride[1] + head * x_stride[3]
    x = load_tile(x_ptr, x_stride[2], x_stride[4], row, inside, channel, in_p, REAL)
    y += dot(CB * decays_between(hi, lo), x * dt[:, None], DOT, REAL)
    if D_ptr is not None:
        at = path * D_stride[0] + head * D_stride[1] + channel * D_stride[2]
        y += tl.load(D_ptr + at, mask=in_p, other=0.0).to(REAL)[None, :] * x
    y_ptr += batch * y_stride[0] + path * y_stride[1] + head * y_stride[3]
    to = row[:, None] * y_stride[2] + channel[None, :] * y_stride[4]
    tl.store(y_ptr + to, y.to(y_ptr.dtype.element_ty), mask=inside[:, None] & in_p[None, :])
