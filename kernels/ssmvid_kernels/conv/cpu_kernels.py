"""The convolution's two CPU kernels: lanes over channels, a sliding window in registers, rows read through the paths.

One vector of channels walks a block of steps before the next does: every input is loaded once, and what a block
touches stays in a core's caches. Widths under 4 leave the older taps out, by branches that never change their mind.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ..simd import add, fill, fma, load, load_either, mul, sigmoid, store, sub

Array = Any


@njit(inline="always")
def seen(
    x: Array,
    x_at: int,
    stride: int,
    row: Array,
    h0: Array,
    past_at: int,
    channels: int,
    start: int,
    t: int,
    count: int,
) -> Any:
    """The input at step t of a clip that starts at `start`: h0 holds those before. No branch: it is in every loop."""
    here, past = x_at + np.int64(row[max(t, start)]) * stride, past_at + (t - start) * channels
    return load_either(t >= start, x, here, h0, past, count)


@njit(inline="always")
def accumulate(array: Array, at: int, count: int, value: Any) -> None:
    """`array[at:] += value`, `count` lanes of it."""
    store(array, at, count, add(load(array, at, count), value))


@njit(nogil=True, cache=True, boundscheck=False)
def conv_forward(
    share: int,
    shares: int,
    tasks: Array,
    x: Array,
    x_strides: Array,
    weight: Array,
    bias: Array,
    silu: bool,
    h0: Array,
    rows: Array,
    y: Array,
    h: Array,
    block: int,
    lanes: int,
) -> None:
    """Every `shares`-th task from `share` on.

    tasks (.., 7): clip, path, batch row, the clip's first step and end, the task's first step and end. x (b, k, l, d):
    flat, with its strides. weight (k, width, d), newest tap last; bias (k, d); h0 and h (s, k, width - 1, d); rows
    (k, l); y (b, k, l, d).
    """
    K, width, channels = weight.shape
    w, bias_flat, h0_flat, h_flat, y_flat = weight.ravel(), bias.ravel(), h0.ravel(), h.ravel(), y.ravel()
    stride = x_strides[2]
    for task in range(share, tasks.shape[0], shares):
        clip, k, b, start = tasks[task, 0], tasks[task, 1], tasks[task, 2], tasks[task, 3]
        end, first, last = tasks[task, 4], tasks[task, 5], tasks[task, 6]
        row = rows[k]
        x_k, y_k = b * x_strides[0] + k * x_strides[1], (b * K + k) * rows.shape[1] * channels
        h_k, w_k = (clip * K + k) * (width - 1) * channels, (k * width + width - 1) * channels
        for t0 in range(first, last, block):
            for c in range(0, channels, lanes):
                count, x_at, past_at = min(lanes, channels - c), x_k + c, h_k + (width - 1) * channels + c
                bias_c = load(bias_flat, k * channels + c, count)
                w0, w1 = load(w, w_k + c, count), load(w, w_k - channels + c, count)
                w2 = w3 = w1
                x1 = seen(x, x_at, stride, row, h0_flat, past_at, channels, start, t0 - 1, count)
                x2 = x3 = x1
                if width > 2:
                    w2 = load(w, w_k - 2 * channels + c, count)
                    x2 = seen(x, x_at, stride, row, h0_flat, past_at, channels, start, t0 - 2, count)
                if width > 3:
                    w3 = load(w, w_k - 3 * channels + c, count)
                    x3 = seen(x, x_at, stride, row, h0_flat, past_at, channels, start, t0 - 3, count)
                for t in range(t0, min(t0 + block, last)):
                    at = np.int64(row[t])
                    x0 = load(x, x_at + at * stride, count)
                    out = fma(x1, w1, fma(x0, w0, bias_c))
                    if width > 2:
                        out = fma(x2, w2, out)
                    if width > 3:
                        out = fma(x3, w3, out)
                    if silu:
                        out = mul(out, sigmoid(out))
                    store(y_flat, y_k + at * channels + c, count, out)
                    x3, x2, x1 = x2, x1, x0
        if last == end:
            for j in range(width - 1):
                t = end - width + 1 + j
                for c in range(0, channels, lanes):
                    count = min(lanes, channels - c)
                    if t >= start:
                        value = load(x, x_k + np.int64(row[t]) * stride + c, count)
                    else:
                        value = load(h0_flat, h_k + (width - 1 + t - start) * channels + c, count)
                    store(h_flat, h_k + j * channels + c, count, value)


@njit(nogil=True, cache=True, boundscheck=False)
def conv_backward(
    share: int,
    shares: int,
    tasks: Array,
    dy: Array,
    dy_strides: Array,
    dh: Array,
    x: Array,
    x_strides: Array,
    weight: Array,
    bias: Array,
    silu: bool,
    h0: Array,
    rows: Array,
    dx: Array,
    dweight: Array,
    dbias: Array,
    dh0: Array,
    block: int,
    lanes: int,
) -> None:
    """Every `shares`-th task from `share` on.

    tasks (.., 6): clip, batch row, the clip's first step and end, the task's first channel and end. A task runs its
    k paths one after the other, each from the last step to the first, so that dx is summed in place where x is shared.
    As `conv_forward`, and: dy (b, k, l, d), flat, with its strides; dh and dh0 as h; dx (b, 1 or k, l, d); dweight
    (s, k, width, d) and dbias (s, k, d): one part a clip, to be summed.
    """
    K, width, channels = weight.shape
    w, bias_flat, h0_flat, dh_flat = weight.ravel(), bias.ravel(), h0.ravel(), dh.ravel()
    dx_flat, dw_flat, db_flat, dh0_flat = dx.ravel(), dweight.ravel(), dbias.ravel(), dh0.ravel()
    stride, dy_stride, shared = x_strides[2], dy_strides[2], dx.shape[1] == 1
    zero = fill(load(bias_flat, 0, 0), 0.0)
    later = np.empty(3 * (channels + lanes), weight.dtype)  # the gradients of the block after, three a vector
    for task in range(share, tasks.shape[0], shares):
        clip, b, start, end = tasks[task, 0], tasks[task, 1], tasks[task, 2], tasks[task, 3]
        first_channel, last_channel = tasks[task, 4], tasks[task, 5]
        for k in range(K):
            row, part = rows[k], clip * K + k
            x_k, dy_k = b * x_strides[0] + k * x_strides[1], b * dy_strides[0] + k * dy_strides[1]
            dx_k = (b if shared else b * K + k) * rows.shape[1] * channels
            h_k, w_k = part * (width - 1) * channels, (k * width + width - 1) * channels
            dw_k = (part * width + width - 1) * channels
            for c in range(first_channel, last_channel, lanes):
                count = min(lanes, channels - c)
                store(db_flat, part * channels + c, count, zero)
                for j in range(width):
                    store(dw_flat, dw_k - j * channels + c, count, zero)
                for j in range(3):
                    store(later, 3 * c + j * lanes, lanes, zero)
            for t0 in range(start + (end - start - 1) // block * block, start - 1, -block):
                t1 = min(t0 + block, end)
                for c in range(first_channel, last_channel, lanes):
                    count, x_at, past_at = min(lanes, channels - c), x_k + c, h_k + (width - 1) * channels + c
                    bias_c = load(bias_flat, k * channels + c, count)
                    w0, w1 = load(w, w_k + c, count), load(w, w_k - channels + c, count)
                    w2, w3 = w1, w1
                    # Sums over steps go block by block: one long chain would round l times.
                    d_bias, dw0, dw1, dw2, dw3 = zero, zero, zero, zero, zero
                    g1, g2, g3 = (
                        load(later, 3 * c, lanes),
                        load(later, 3 * c + lanes, lanes),
                        load(later, 3 * c + 2 * lanes, lanes),
                    )
                    x0, x1, x2, x3 = load(x, x_at + np.int64(row[t1 - 1]) * stride, count), zero, zero, zero
                    if width > 2:
                        w2 = load(w, w_k - 2 * channels + c, count)
                        x1 = seen(x, x_at, stride, row, h0_flat, past_at, channels, start, t1 - 2, count)
                    if width > 3:
                        w3 = load(w, w_k - 3 * channels + c, count)
                        x2 = seen(x, x_at, stride, row, h0_flat, past_at, channels, start, t1 - 3, count)
                    for t in range(t1 - 1, t0 - 1, -1):
                        at, back = np.int64(row[t]), t - width + 1
                        g0 = load(dy, dy_k + at * dy_stride + c, count)
                        oldest = seen(x, x_at, stride, row, h0_flat, past_at, channels, start, back, count)
                        if width == 2:
                            x1 = oldest
                        elif width == 3:
                            x2 = oldest
                        else:
                            x3 = oldest
                        if silu:
                            out = fma(x1, w1, fma(x0, w0, bias_c))
                            if width > 2:
                                out = fma(x2, w2, out)
                            if width > 3:
                                out = fma(x3, w3, out)
                            s = sigmoid(out)
                            # silu'(v) = s + v s (1 - s)
                            g0 = mul(g0, fma(mul(out, s), sub(fill(s, 1.0), s), s))
                        d_bias, dw0, dw1 = add(d_bias, g0), fma(g0, x0, dw0), fma(g0, x1, dw1)
                        d_x = fma(g1, w1, mul(g0, w0))
                        if width > 2:
                            dw2, d_x = fma(g0, x2, dw2), fma(g2, w2, d_x)
                        if width > 3:
                            dw3, d_x = fma(g0, x3, dw3), fma(g3, w3, d_x)
                        if t > end - width:
                            d_x = add(d_x, load(dh_flat, h_k + (t - end + width - 1) * channels + c, count))
                        at = dx_k + at * channels + c
                        if shared and k > 0:
                            d_x = add(d_x, load(dx_flat, at, count))
                        store(dx_flat, at, count, d_x)
                        g3, g2, g1 = g2, g1, g0
                        x0, x1, x2 = x1, x2, x3
                    store(later, 3 * c, lanes, g1)
                    store(later, 3 * c + lanes, lanes, g2)
                    store(later, 3 * c + 2 * lanes, lanes, g3)
                    accumulate(db_flat, part * channels + c, count, d_bias)
                    accumulate(dw_flat, dw_k + c, count, dw0)
                    accumulate(dw_flat, dw_k - channels + c, count, dw1)
                    if width > 2:
                        accumulate(dw_flat, dw_k - 2 * channels + c, count, dw2)
                    if width > 3:
                        accumulate(dw_flat, dw_k - 3 * channels + c, count, dw3)
            # The steps before the clip have no output: h0 gets what later steps read of it, and what h took over.
            for c in range(first_channel, last_channel, lanes):
                count = min(lanes, channels - c)
                for j in range(width - 1):
                    d_x = zero
                    if j >= end - start:
                        d_x = load(dh_flat, h_k + (j - end + start) * channels + c, count)
                    for m in range(j + 1):
                        g = load(later, 3 * c + m * lanes, lanes)
                        d_x = fma(g, load(w, w_k - (width - 1 - j + m) * channels + c, count), d_x)
                    store(dh0_flat, h_k + j * channels + c, count, d_x)
