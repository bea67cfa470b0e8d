"""The backward scan on a CPU: chunks from the last to the first, their states computed again from the kept ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ..simd import add, exp2, fill, fma, load, load_full, mul, splat, store, store_full, sub, total
from .cpu_forward import softplus

LN2 = 0.6931471805599453
Array = Any


@njit(inline="always")
def accumulate(array: Array, at: int, a: Any, b: Any) -> None:
    """`array[at:] += a * b`."""
    store_full(array, at, fma(a, b, load_full(array, at)))


@njit(nogil=True, cache=True, boundscheck=False)
def scan_backward(
    task: int,
    dy: Array,
    dy_strides: Array,
    dh: Array,
    x: Array,
    x_strides: Array,
    dt: Array,
    dt_strides: Array,
    A: Array,
    B: Array,
    B_strides: Array,
    C: Array,
    C_strides: Array,
    D: Array,
    dt_bias: Array,
    softplus_dt: bool,
    states: Array,
    rows: Array,
    clips: Array,
    dx: Array,
    ddt: Array,
    dA: Array,
    dB: Array,
    dC: Array,
    dD: Array,
    ddt_bias: Array,
    dh0: Array,
    chunk: int,
    lanes: int,
    group: int,
) -> None:
    """Task = (clip, group of channel blocks); `scan_forward` says how the inputs lie.

    dx (b, 1 or k, l, d), ddt (b, k, l, d), dense. dB and dC (b, k, groups, l, n): one part a group, to be summed.
    dA and dh0 (s, k, n, d), dD and ddt_bias (s, k, d): one part a clip, to be summed (dh0 excepted).
    """
    K, N, channels = A.shape
    width = group * lanes
    groups = (channels + width - 1) // width
    clip, part = task // groups, task % groups
    first_channel, last_channel = part * width, min(part * width + width, channels)
    b, start, end, first = clips[clip, 0], clips[clip, 1], clips[clip, 2], clips[clip, 3]
    l, chunks, shared = rows.shape[1], (end - start + chunk - 1) // chunk, dx.shape[1] == 1
    dtype = A.dtype
    h, decay = np.empty((chunk + 1) * lanes, dtype), np.empty(chunk * lanes, dtype)
    step, drive, xs = (
        np.empty(chunk * lanes, dtype),
        np.empty(chunk * lanes, dtype),
        np.empty(chunk * lanes, dtype),
    )
    gy, slope = np.empty(chunk * lanes, dtype), np.empty(chunk * lanes, dtype)
    d_step, d_drive = np.empty(chunk * lanes, dtype), np.empty(chunk * lanes, dtype)
    acc_B, acc_C = np.empty(chunk * N * lanes, dtype), np.empty(chunk * N * lanes, dtype)
    at_B, at_C = np.empty(chunk, np.int64), np.empty(chunk, np.int64)
    A_flat, states_flat, dx_flat, ddt_flat = A.ravel(), states.ravel(), dx.ravel(), ddt.ravel()
    dA_flat, dD_flat, bias_flat, dh0_flat = dA.ravel(), dD.ravel(), ddt_bias.ravel(), dh0.ravel()
    D_flat, dt_bias_flat, dh_flat = D.ravel(), dt_bias.ravel(), dh.ravel()
    zero = fill(load_full(h, 0), 0.0)
    for k in range(K):
        here = (clip * K + k) * N * channels
        for c in range(first_channel, last_channel, lanes):
            count = min(lanes, channels - c)
            store(dD_flat, (clip * K + k) * channels + c, count, zero)
            store(bias_flat, (clip * K + k) * channels + c, count, zero)
            for n in range(N):
                store(dA_flat, here + n * channels + c, count, zero)
                store(dh0_flat, here + n * channels + c, count, load(dh_flat, here + n * channels + c, count))
        for j in range(chunks - 1, -1, -1):
            t0 = start + j * chunk
            steps = min(chunk, end - t0)
            for i in range(steps * N):
                store_full(acc_B, i * lanes, zero)
                store_full(acc_C, i * lanes, zero)
            for i in range(steps):
                row = np.int64(rows[k, t0 + i])
                at_B[i] = b * B_strides[0] + k * B_strides[1] + row * B_strides[2]
                at_C[i] = b * C_strides[0] + k * C_strides[1] + row * C_strides[2]
            for c in range(first_channel, last_channel, lanes):
                count = min(lanes, channels - c)
                bias = load(dt_bias_flat, k * channels + c, count)
                for i in range(steps):
                    row = np.int64(rows[k, t0 + i])
                    raw = add(load(dt, b * dt_strides[0] + k * dt_strides[1] + row * dt_strides[2] + c, count), bias)
                    if softplus_dt:
                        value = softplus(raw)
                        store_full(slope, i * lanes, sub(fill(raw, 1.0), exp2(mul(value, fill(raw, -1 / LN2)))))
                        raw = value
                    xi = load(x, b * x_strides[0] + k * x_strides[1] + row * x_strides[2] + c, count)
                    store_full(step, i * lanes, raw)
                    store_full(xs, i * lanes, xi)
                    store_full(drive, i * lanes, mul(raw, xi))
                    at = b * dy_strides[0] + k * dy_strides[1] + row * dy_strides[2] + c
                    store_full(gy, i * lanes, load(dy, at, count))
                    store_full(d_step, i * lanes, zero)
                    store_full(d_drive, i * lanes, zero)
                kept = ((b * K + k) * states.shape[2] + first + j) * N
                for n in range(N):
                    a = load(A_flat, (k * N + n) * channels + c, count)
                    state = load(states_flat, (kept + n) * channels + c, count)
                    store_full(h, 0, state)
                    for i in range(steps):
                        e = exp2(mul(load_full(step, i * lanes), a))
                        state = fma(e, state, mul(load_full(drive, i * lanes), splat(B[at_B[i] + n])))
                        store_full(decay, i * lanes, e)
                        store_full(h, (i + 1) * lanes, state)
                    g = load(dh0_flat, here + n * channels + c, count)
                    d_a = zero  # sums over steps go chunk by chunk: one long chain would round l times
                    for i in range(steps - 1, -1, -1):
                        gy_i = load_full(gy, i * lanes)
                        g = fma(gy_i, splat(C[at_C[i] + n]), g)  # dL/dh_i
                        accumulate(acc_C, (i * N + n) * lanes, gy_i, load_full(h, (i + 1) * lanes))
                        accumulate(acc_B, (i * N + n) * lanes, g, load_full(drive, i * lanes))
                        accumulate(d_drive, i * lanes, g, splat(B[at_B[i] + n]))
                        g = mul(g, load_full(decay, i * lanes))
                        d_exponent = mul(g, load_full(h, i * lanes))
                        accumulate(d_step, i * lanes, d_exponent, a)
                        d_a = fma(d_exponent, load_full(step, i * lanes), d_a)
                    store(dh0_flat, here + n * channels + c, count, g)
                    before = load(dA_flat, here + n * channels + c, count)
                    store(dA_flat, here + n * channels + c, count, add(before, d_a))
                skip = load(D_flat, k * channels + c, count)
                d_skip, d_bias = zero, zero
                for i in range(steps):
                    row = np.int64(rows[k, t0 + i])
                    xi, gy_i, gd = (
                        load_full(xs, i * lanes),
                        load_full(gy, i * lanes),
                        load_full(d_drive, i * lanes),
                    )
                    # a holds log2(e) A, so dL/d(step) through the decay is ln(2) times what was summed.
                    gs = fma(gd, xi, mul(load_full(d_step, i * lanes), fill(xi, LN2)))
                    if softplus_dt:
                        gs = mul(gs, load_full(slope, i * lanes))
                    d_bias = add(d_bias, gs)
                    d_skip = fma(gy_i, xi, d_skip)
                    store(ddt_flat, ((b * K + k) * l + row) * channels + c, count, gs)
                    gx = fma(gd, load_full(step, i * lanes), mul(gy_i, skip))
                    at = ((b if shared else b * K + k) * l + row) * channels + c
                    if shared and k > 0:
                        gx = add(gx, load(dx_flat, at, count))
                    store(dx_flat, at, count, gx)
                at = (clip * K + k) * channels + c
                store(dD_flat, at, count, add(load(dD_flat, at, count), d_skip))
                store(bias_flat, at, count, add(load(bias_flat, at, count), d_bias))
            for i in range(steps):
                row = np.int64(rows[k, t0 + i])
                for n in range(N):
                    dB[b, k, part, row, n] = total(load_full(acc_B, (i * N + n) * lanes))
                    dC[b, k, part, row, n] = total(load_full(acc_C, (i * N + n) * lanes))
