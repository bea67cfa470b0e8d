"""The norms' two CPU kernels: lanes over channels, a row at a time, whose passes run in a core's first-level cache."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from ..simd import add, fill, fma, load, mul, sigmoid, store, sub, total

Array = Any


@njit(inline="always")
def moments(u: Array, size: int, centred: bool, eps: float, ones: Array, lanes: int) -> Any:
    """The mean of `u[:size]`, zero unless `centred`, and 1 / sqrt(mean square around it + eps)."""
    zero = fill(load(ones, 0, 0), 0.0)
    mean = zero
    if centred:
        acc = zero
        for c in range(0, size, lanes):
            acc = add(acc, load(u, c, min(lanes, size - c)))
        mean = fill(zero, total(acc) / size)
    acc = zero
    for c in range(0, size, lanes):
        count = min(lanes, size - c)
        v = sub(load(u, c, count), mul(mean, load(ones, 0, count)))  # lanes past the end stay zero
        acc = fma(v, v, acc)
    return mean, fill(zero, 1.0 / math.sqrt(total(acc) / size + eps))


@njit(nogil=True, cache=True, boundscheck=False)
def norm_forward(
    share: int,
    shares: int,
    batch: int,
    length: int,
    x: Array,
    x_strides: Array,
    added: bool,
    residual: Array,
    residual_strides: Array,
    z: Array,
    z_strides: Array,
    weight: Array,
    bias: Array,
    gate: int,
    centred: bool,
    eps: float,
    groups: int,
    stream: Array,
    y: Array,
    rows: int,
    lanes: int,
) -> None:
    """Every `shares`-th block of `rows` rows from `share` on.

    x, residual and z (batch, length, d): flat, with their strides; stream and y dense. gate: 0 none, 1 before the norm,
    2 after it.
    """
    d = weight.size
    size = d // groups
    u, ones = np.empty(size + lanes, weight.dtype), np.ones(lanes, weight.dtype)
    for first in range(share * rows, batch * length, shares * rows):
        for row in range(first, min(first + rows, batch * length)):
            b, t = row // length, row % length
            x_at = b * x_strides[0] + t * x_strides[1]
            residual_at = b * residual_strides[0] + t * residual_strides[1]
            z_at = b * z_strides[0] + t * z_strides[1]
            for start in range(0, d, size):
                for c in range(0, size, lanes):
                    count, at = min(lanes, size - c), start + c
                    value = load(x, x_at + at, count)
                    if added:
                        value = add(value, load(residual, residual_at + at, count))
                        store(stream, row * d + at, count, value)
                    if gate == 1:
                        gate_c = load(z, z_at + at, count)
                        value = mul(value, mul(gate_c, sigmoid(gate_c)))
                    store(u, c, count, value)
                mean, scale = moments(u, size, centred, eps, ones, lanes)
                for c in range(0, size, lanes):
                    count, at = min(lanes, size - c), start + c
                    n = mul(sub(load(u, c, count), mean), scale)
                    out = fma(n, load(weight, at, count), load(bias, at, count))
                    if gate == 2:
                        gate_c = load(z, z_at + at, count)
                        out = mul(out, mul(gate_c, sigmoid(gate_c)))
                    store(y, row * d + at, count, out)


@njit(nogil=True, cache=True, boundscheck=False)
def norm_backward(
    share: int,
    shares: int,
    batch: int,
    length: int,
    dy: Array,
    dy_strides: Array,
    summed: bool,
    dsum: Array,
    dsum_strides: Array,
    stream: Array,
    stream_strides: Array,
    z: Array,
    z_strides: Array,
    weight: Array,
    bias: Array,
    gate: int,
    centred: bool,
    eps: float,
    groups: int,
    dstream: Array,
    dz: Array,
    dweight: Array,
    dbias: Array,
    rows: int,
    lanes: int,
) -> None:
    """Every `shares`-th block of `rows` rows from `share` on.

    As `norm_forward`, and: dy, dsum and stream (batch, length, d): flat, with their strides; dstream and dz dense;
    dweight and dbias (blocks, d): one part a block, to be summed.
    """
    d = weight.size
    size = d // groups
    ones, dw, db = np.ones(lanes, weight.dtype), dweight.ravel(), dbias.ravel()
    u, g = np.empty(size + lanes, weight.dtype), np.empty(size + lanes, weight.dtype)
    silu, slope = np.empty(size + lanes, weight.dtype), np.empty(size + lanes, weight.dtype)
    one = fill(load(ones, 0, 0), 1.0)
    zero = fill(one, 0.0)
    for block in range(share, dweight.shape[0], shares):
        part = block * d
        for c in range(0, d, lanes):
            store(dw, part + c, min(lanes, d - c), zero)
            store(db, part + c, min(lanes, d - c), zero)
        for row in range(block * rows, min(block * rows + rows, batch * length)):
            b, t = row // length, row % length
            stream_at = b * stream_strides[0] + t * stream_strides[1]
            dy_at = b * dy_strides[0] + t * dy_strides[1]
            dsum_at = b * dsum_strides[0] + t * dsum_strides[1]
            z_at = b * z_strides[0] + t * z_strides[1]
            for start in range(0, d, size):
                for c in range(0, size, lanes):
                    count, at = min(lanes, size - c), start + c
                    value = load(stream, stream_at + at, count)
                    if gate > 0:
                        gate_c = load(z, z_at + at, count)
                        s = sigmoid(gate_c)
                        silu_c = mul(gate_c, s)
                        store(silu, c, count, silu_c)
                        store(slope, c, count, fma(silu_c, sub(one, s), s))
                        if gate == 1:
                            value = mul(value, silu_c)
                    store(u, c, count, value)
                mean, scale = moments(u, size, centred, eps, ones, lanes)
                along, across = zero, zero
                for c in range(0, size, lanes):
                    count, at = min(lanes, size - c), start + c
                    w = load(weight, at, count)
                    n = mul(sub(load(u, c, count), mean), scale)
                    g_c = load(dy, dy_at + at, count)
                    if gate == 2:
                        out = mul(fma(n, w, load(bias, at, count)), load(slope, c, count))
                        store(dz, row * d + at, count, mul(g_c, out))
                        g_c = mul(g_c, load(silu, c, count))
                    store(dw, part + at, count, fma(g_c, n, load(dw, part + at, count)))
                    store(db, part + at, count, add(g_c, load(db, part + at, count)))
                    g_c = mul(g_c, w)
                    along, across = fma(g_c, n, along), add(g_c, across)
                    store(u, c, count, n)
                    store(g, c, count, g_c)
                along = fill(zero, total(along) / size)
                across = fill(zero, total(across) / size if centred else 0.0)
                for c in range(0, size, lanes):
                    count, at = min(lanes, size - c), start + c
                    g_c = sub(sub(load(g, c, count), mul(load(u, c, count), along)), across)
                    g_c = mul(g_c, scale)
                    if gate == 1:
                        value = mul(load(stream, stream_at + at, count), load(slope, c, count))
                        store(dz, row * d + at, count, mul(g_c, value))
                        g_c = mul(g_c, load(silu, c, count))
                    if summed:
                        g_c = add(g_c, load(dsum, dsum_at + at, count))
                    store(dstream, row * d + at, count, g_c)
