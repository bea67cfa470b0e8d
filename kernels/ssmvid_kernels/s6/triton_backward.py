"""Backward kernel: the forward's programs, chunk by chunk from the last; nothing is accumulated across programs."""

from __future__ import annotations

import triton
import triton.language as tl

from ..triton_walk import open_clip, open_walk
from .triton_forward import carry, load_bias, load_decay, load_step, place, tile_indices

LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit(do_not_specialize=["length", "chunks", "segments", "steps", "one", "A_stride", "dh_stride"])
def scan_backward(  # type: ignore[no-untyped-def]
    dy_ptr, dh_ptr, x_ptr, dt_ptr, A_ptr, B_ptr, C_ptr, D_ptr, bias_ptr, paths, cu_seqlens, ends_ptr, sums_ptr,
    states_ptr, scratch_ptr,
    dx_ptr, ddt_ptr, dA_ptr, dB_ptr, dC_ptr, dD_ptr, dbias_ptr, dh0_ptr,
    dy_stride, dh_stride, x_stride, dt_stride, A_stride, B_stride, C_stride, D_stride, bias_stride,
    length, chunks, segments, steps, one, k, d, n,
    REAL: tl.constexpr, SOFTPLUS: tl.constexpr, CHUNK: tl.constexpr, STEPS: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Outputs are dense: dx, ddt (b, k, l, d); dB, dC (b, k, l, blocks, n); the others one part a segment: dA and,
    of the first alone, dh0 (s, k, segments, d, n), dD and dbias (s, k, segments, d).
    """
    block, segment, path, sequence = place(segments, k, d, BLOCK_D)
    batch, origin, end = open_clip(cu_seqlens, sequence, length)
    start = origin + segment * steps
    end = tl.minimum(start + steps, end)
    walk = open_walk(paths, path, length)
    channel, state, in_d, in_n = tile_indices(block, d, n, BLOCK_D, BLOCK_N)
    inside = in_d & in_n
    blocks = tl.cdiv(d, BLOCK_D)
    slot = (sequence * k + path) * segments + segment

    A = load_decay(A_ptr, A_stride, path, channel, state, inside, REAL)
    bias = load_bias(bias_ptr, bias_stride, path, channel, in_d, REAL)
    if D_ptr is not None:
        D = tl.load(D_ptr + path * D_stride[0] + channel * D_stride[1], mask=in_d, other=0.0).to(REAL)
    dh_ptr += sequence * dh_stride[0] + path * dh_stride[1] + channel * dh_stride[2] + state * dh_stride[3]
    dh = tl.load(dh_ptr, mask=inside, other=0.0).to(REAL)
    last, behind = (sequence * k + path + 1) * (segments - 1) - 1, segments - 1 - segment
    dh = carry(dh, A, ends_ptr, sums_ptr, last, -1, behind, channel, state, inside, in_d, d, n, one)

    dy_ptr += batch * dy_stride[0] + path * dy_stride[1] + channel * dy_stride[3]
    x_ptr += batch * x_stride[0] + path * x_stride[1] + channel * x_stride[3]
    dt_ptr += batch * dt_stride[0] + path * dt_stride[1] + channel * dt_stride[3]
    B_ptr += batch * B_stride[0] + path * B_stride[1] + state * B_stride[3]
    C_ptr += batch * C_stride[0] + path * C_stride[1] + state * C_stride[3]
    first_row = (batch * k + path) * length
    first_chunk = (batch * k + path) * chunks + origin // CHUNK + (sequence if cu_seqlens is not None else 0)
    first_chunk += segment * (steps // CHUNK)
    states_ptr += first_chunk * n * d + state * d + channel * one
    scratch_ptr += (slot * blocks + block) * (CHUNK // STEPS * BLOCK_N * BLOCK_D) + state * BLOCK_D
    scratch_ptr += (channel - block * BLOCK_D) * one

    dA = tl.zeros(A.shape, REAL)
    # These sums over steps go chunk by chunk, through memory: one long chain would round l times.
    dD_ptr += slot * d + channel
    dbias_ptr += slot * d + channel
    tl.store(dD_ptr, tl.zeros(channel.shape, REAL), mask=in_d)
    tl.store(dbias_ptr, tl.zeros(channel.shape, REAL), mask=in_d)

    count = tl.cdiv(end - start, CHUNK)
    for back in tl.range(0, count, disable_licm=True):
        chunk = count - 1 - tl.cast(back, tl.int64)
        chunk_start = start + chunk * CHUNK
        parts = tl.minimum(tl.cdiv(end - chunk_start, STEPS), CHUNK // STEPS)
        h = tl.load(states_ptr + chunk * n * d, mask=inside, other=0.0)
        dD, dbias = tl.zeros(channel.shape, REAL), tl.zeros(channel.shape, REAL)
        # Keep the state before every STEPS-th step of the chunk ...
        for part in tl.range(0, parts, disable_licm=True):
            first = chunk_start + tl.cast(part, tl.int64) * STEPS
            tl.store(scratch_ptr + part * (BLOCK_N * BLOCK_D), h)
            for i in tl.static_range(STEPS):
                _, _, _, x, dt, _, B = load_step(
                    first + i, end, walk, length, x_ptr, x_stride, dt_ptr, dt_stride, bias, B_ptr, B_stride,
                    in_d, in_n, REAL, SOFTPLUS,
                )  # fmt: skip
                h = tl.exp2(dt * A) * h + (dt * x) * B
        tl.debug_barrier()
        # ... and from each of them, last to first, redo its steps in registers and walk them back.
        for part_back in tl.range(0, parts, disable_licm=True):
            part = parts - 1 - part_back
            first = chunk_start + tl.cast(part, tl.int64) * STEPS
            h = tl.load(scratch_ptr + part * (BLOCK_N * BLOCK_D))
            kept = ()
            for i in tl.static_range(STEPS):
                kept = kept + (h,)
                _, _, _, x, dt, _, B = load_step(
                    first + i, end, walk, length, x_ptr, x_stride, dt_ptr, dt_stride, bias, B_ptr, B_stride,
                    in_d, in_n, REAL, SOFTPLUS,
                )  # fmt: skip
                h = tl.exp2(dt * A) * h + (dt * x) * B
            for i in tl.static_range(STEPS - 1, -1, -1):
                row, here, along, x, dt, slope, B = load_step(
                    first + i, end, walk, length, x_ptr, x_stride, dt_ptr, dt_stride, bias, B_ptr, B_stride,
                    in_d, in_n, REAL, SOFTPLUS,
                )  # fmt: skip
                dy = tl.load(dy_ptr + row * dy_stride[2], mask=here, other=0.0).to(REAL)
                C = tl.load(C_ptr + row * C_stride[2], mask=along, other=0.0).to(REAL)
                dh += dy * C
                to_BC = ((first_row + row) * blocks + block) * n + state
                dC = tl.sum(dy * h, axis=1, keep_dims=True)
                tl.store(dC_ptr + to_BC, dC, mask=along)
                dB = tl.sum(dh * (dt * x), axis=1, keep_dims=True)
                tl.store(dB_ptr + to_BC, dB, mask=along)
                driven = tl.sum(dh * B, axis=0, keep_dims=True)
                dx = driven * dt
                if D_ptr is not None:
                    dx += D * dy
                    dD += dy * x
                to_x = (first_row + row) * d + channel
                tl.store(dx_ptr + to_x, dx.to(dx_ptr.dtype.element_ty), mask=here)
                h = kept[i] if i > 0 else tl.load(scratch_ptr + part * (BLOCK_N * BLOCK_D))
                dh *= tl.exp2(dt * A)
                slid = dh * h
                dA += slid * dt
                # slope is 0 past the end: there dt = 0 keeps the state, yet the state still varies with dt.
                ddt = (driven * x + LN_2 * tl.sum(slid * A, axis=0, keep_dims=True)) * slope
                tl.store(ddt_ptr + to_x, ddt.to(ddt_ptr.dtype.element_ty), mask=here)
                dbias += ddt
        tl.store(dD_ptr, tl.load(dD_ptr, mask=in_d, other=0.0) + dD, mask=in_d)
        tl.store(dbias_ptr, tl.load(dbias_ptr, mask=in_d, other=0.0) + dbias, mask=in_d)
        tl.debug_barrier()

    to_A = (slot * d + channel) * n + state * one
    tl.store(dA_ptr + to_A, dA, mask=inside)
    tl.store(dh0_ptr + to_A, dh, mask=inside)
