"""The element-wise work on the squares (steps by steps) of a chunk, over SIMD lanes; above the diagonal all is 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ..simd import add, exp2, fill, fma, load, mul, splat, store, sub, total

LOG2E = 1.4426950408889634
Array = Any


@njit(nogil=True, cache=True, boundscheck=False)
def decays_between(hi: Array, lo: Array, chunk: int, out: Array, lanes: int) -> None:
    """out (b, heads, i, j): the decay from step j to step i; exp is taken where j <= i only, so it never overflows.

    hi, lo (b, chunks, heads, steps): running sums of dt A, and of what their rounding left out.
    """
    B, heads, q, _ = out.shape
    chunks, steps = hi.shape[1], hi.shape[3]
    hi, lo, out = hi.ravel(), lo.ravel(), out.ravel()
    for square in range(B * heads):
        base = (square // heads * chunks + chunk) * heads * steps + square % heads * steps
        for i in range(q):
            row = (square * q + i) * q
            hi_i, lo_i = splat(hi[base + i]), splat(lo[base + i])
            for j in range(0, q, lanes):
                count = min(lanes, q - j)
                value = add(sub(hi_i, load(hi, base + j, count)), sub(lo_i, load(lo, base + j, count)))
                if j + count > i + 1:
                    store(out, row + j, count, fill(value, 0.0))
                store(out, row + j, max(min(count, i + 1 - j), 0), exp2(mul(value, fill(value, LOG2E))))


@njit(nogil=True, cache=True, boundscheck=False)
def square_gradients(CB: Array, between: Array, d_weights: Array, d_CB: Array, d_sums: Array, lanes: int) -> None:
    """Turn the decays `between` (b, heads, i, j) into the weights, and the gradient of the weights into the others.

    CB and d_CB (b, g, i, j), the latter summed over the heads of a group. d_sums (b, heads, t): a step's dt A is in the
    decay between every j before it and every i from it on, so its gradient is a sum over those: no difference of sums.
    """
    B, heads, q, _ = between.shape
    each = heads // CB.shape[1]
    over = np.empty(q, CB.dtype)
    CB, between, d_weights, d_CB, sums = CB.ravel(), between.ravel(), d_weights.ravel(), d_CB.ravel(), d_sums.ravel()
    for square in range(B * heads):
        over[:] = 0.0
        for i in range(q - 1, -1, -1):
            row = (square * q + i) * q
            group = (square // each * q + i) * q
            first = square % each == 0
            across = fill(load(over, 0, 0), 0.0)
            for j in range(0, q, lanes):
                count = min(lanes, q - j)
                decay, cb = load(between, row + j, count), load(CB, group + j, count)
                d_cb = mul(load(d_weights, row + j, count), decay)
                store(between, row + j, count, mul(decay, cb))
                summed = fma(d_cb, cb, load(over, j, count))
                store(over, j, count, summed)
                across = add(across, load(over, j, max(min(count, i - j), 0)))
                store(d_CB, group + j, count, d_cb if first else add(d_cb, load(d_CB, group + j, count)))
            sums[square * q + i] = total(across)
