"""The forward scan on a CPU: lanes over channels, states in cache, rows read through the paths."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ..simd import (
    add,
    exp2,
    fill,
    fma,
    load,
    load_full,
    log1p,
    minus_abs,
    mul,
    positive,
    splat,
    store,
    store_full,
)

LOG2E = 1.4426950408889634
Array = Any


@njit(inline="always")
def softplus(v: Any) -> Any:
    """log(1 + exp(v)), exact at both ends: max(v, 0) + log1p(exp(-|v|))."""
    return add(positive(v), log1p(exp2(mul(minus_abs(v), fill(v, LOG2E)))))


@njit(nogil=True, cache=True, boundscheck=False)
def scan_forward(
    task: int,
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
    h0: Array,
    rows: Array,
    clips: Array,
    y: Array,
    y_strides: Array,
    summed: bool,
    h_out: Array,
    states: Array,
    chunk: int,
    lanes: int,
) -> None:
    """Task = (clip, block of `lanes` channels); its k paths run one after the other, so that y is summed in place.

    x (b, k, l, d), dt (b, k, l, d), B and C (b, k, l, n), y (b, k, l, d): flat, with their four strides.
    A (k, n, d) times log2(e); D and dt_bias (k, d); h0 and h_out (s, k, n, d); states (b, k, chunks, n, d), or
    one with no chunks; rows (k, l); clips (s, 4): batch row, start, end, first chunk.
    """
    K, N, channels = A.shape
    blocks = (channels + lanes - 1) // lanes
    clip, c0 = task // blocks, task % blocks * lanes
    count = min(lanes, channels - c0)
    b, start, end, first = clips[clip, 0], clips[clip, 1], clips[clip, 2], clips[clip, 3]
    a = np.empty(N * lanes, A.dtype)
    h = np.empty(N * lanes, A.dtype)
    A_flat, h0_flat, h_flat, states_flat = A.ravel(), h0.ravel(), h_out.ravel(), states.ravel()
    keep = states.shape[2] > 0
    for k in range(K):
        for n in range(N):
            store_full(a, n * lanes, load(A_flat, (k * N + n) * channels + c0, count))
            store_full(h, n * lanes, load(h0_flat, ((clip * K + k) * N + n) * channels + c0, count))
        skip = load(D.ravel(), k * channels + c0, count)
        bias = load(dt_bias.ravel(), k * channels + c0, count)
        for i in range(start, end):
            if keep and (i - start) % chunk == 0:
                at = ((b * K + k) * states.shape[2] + first + (i - start) // chunk) * N
                for n in range(N):
                    store(states_flat, (at + n) * channels + c0, count, load_full(h, n * lanes))
            row = np.int64(rows[k, i])
            step = add(load(dt, b * dt_strides[0] + k * dt_strides[1] + row * dt_strides[2] + c0, count), bias)
            if softplus_dt:
                step = softplus(step)
            xi = load(x, b * x_strides[0] + k * x_strides[1] + row * x_strides[2] + c0, count)
            drive, out = mul(step, xi), mul(skip, xi)
            B_at = b * B_strides[0] + k * B_strides[1] + row * B_strides[2]
            C_at = b * C_strides[0] + k * C_strides[1] + row * C_strides[2]
            for n in range(N):
                decay = exp2(mul(step, load_full(a, n * lanes)))
                state = fma(decay, load_full(h, n * lanes), mul(drive, splat(B[B_at + n])))
                store_full(h, n * lanes, state)
                out = fma(state, splat(C[C_at + n]), out)
            y_at = b * y_strides[0] + k * y_strides[1] + row * y_strides[2] + c0
            if summed and k > 0:
                out = add(out, load(y, y_at, count))
            store(y, y_at, count, out)
        for n in range(N):
            store(h_flat, ((clip * K + k) * N + n) * channels + c0, count, load_full(h, n * lanes))
