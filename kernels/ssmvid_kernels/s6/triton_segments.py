"""Segments of a sequence, scanned side by side: each from a zero state first, which says what it adds to the next.

After a segment the state is (its decay) (the state before it) + (its end when it starts from zero), and that decay is
exp(A (sum of dt)): one sum a channel tells all. The gradient of the state goes back over a segment in the same way.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..triton_walk import open_clip, open_walk
from .triton_forward import load_bias, load_decay, load_step, place, tile_indices


@triton.jit(do_not_specialize=["length", "segments", "steps", "one", "A_stride"])
def segment_states(  # type: ignore[no-untyped-def]
    v_ptr, dt_ptr, A_ptr, w_ptr, bias_ptr, paths, cu_seqlens, ends_ptr, sums_ptr,
    v_stride, dt_stride, A_stride, w_stride, bias_stride,
    length, segments, steps, one, k, d, n,
    FORWARD: tl.constexpr, REAL: tl.constexpr, SOFTPLUS: tl.constexpr, STEPS: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Outputs (s, k, segments - 1, n, d) and, the sums of dt, (s, k, segments - 1, d).

    FORWARD: the state after each segment but the last when it starts from zero, v = x and w = B. Else: the gradient
    of the state before each segment but the first when none comes from behind, v = dy and w = C.
    """
    block, kept, path, sequence = place(segments - 1, k, d, BLOCK_D)
    slot = (sequence * k + path) * (segments - 1) + kept
    batch, origin, end = open_clip(cu_seqlens, sequence, length)
    start = origin + (kept if FORWARD else kept + 1) * steps
    end = tl.minimum(start + steps, end)
    walk = open_walk(paths, path, length)
    channel, state, in_d, in_n = tile_indices(block, d, n, BLOCK_D, BLOCK_N)
    inside = in_d & in_n

    A = load_decay(A_ptr, A_stride, path, channel, state, inside, REAL)
    bias = load_bias(bias_ptr, bias_stride, path, channel, in_d, REAL)
    v_ptr += batch * v_stride[0] + path * v_stride[1] + channel * v_stride[3]
    dt_ptr += batch * dt_stride[0] + path * dt_stride[1] + channel * dt_stride[3]
    w_ptr += batch * w_stride[0] + path * w_stride[1] + state * w_stride[3]

    h, total = tl.zeros(A.shape, REAL), tl.zeros(channel.shape, REAL)
    count = tl.cdiv(end - start, STEPS)
    for part in tl.range(0, count):
        first = start + (tl.cast(part, tl.int64) if FORWARD else count - 1 - part) * STEPS
        loads = ()
        few = tl.zeros(channel.shape, REAL)
        for i in tl.static_range(STEPS):
            _, _, _, v, dt, _, w = load_step(
                first + i, end, walk, length, v_ptr, v_stride, dt_ptr, dt_stride, bias, w_ptr, w_stride,
                in_d, in_n, REAL, SOFTPLUS,
            )  # fmt: skip
            loads = loads + ((v, dt, w),)  # type: ignore[assignment]
        for i in tl.static_range(STEPS):
            v, dt, w = loads[i if FORWARD else STEPS - 1 - i]
            few += dt
            decay = tl.exp2(dt * A)
            h = decay * h + (dt * v) * w if FORWARD else decay * (h + v * w)
        total += few
    tl.store(ends_ptr + slot * n * d + state * d + channel * one, h, mask=inside)
    tl.store(sums_ptr + slot * d + channel * one, total, mask=in_d)
