"""What the forward and the backward kernel share: chunks as small matrices, padded with zeros to whole vectors."""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit

from ..simd import LOG2E, add, exp2, fill, load, load_full, mul, prefetch, splat, store, store_full, sub, where_above
from ..simd_matmul import transpose_block

Array = Any


class Sizes(NamedTuple):
    """Sizes of a call: k paths, heads of p channels and n states in g groups, of which a task takes `together`."""

    k: int
    heads: int
    p: int
    n: int
    g: int
    chunk: int  # steps between kept states
    together: int
    lanes: int


class Rows(NamedTuple):
    """A tensor's memory as one flat array, and its strides."""

    data: Array
    strides: Array


@njit(cache=True)
def padded(size: int, lanes: int) -> int:
    """`size`, rounded up to whole vectors."""
    return (size + lanes - 1) // lanes * lanes


@njit(inline="always")
def decay(exponent: Any, lanes: int) -> Any:
    """exp, but 0 where it is next to nothing: products below the normal numbers are a hundred times slower."""
    scaled = mul(exponent, fill(exponent, LOG2E))
    return where_above(scaled, -100.0 if lanes == 16 else -996.0, exp2(scaled))


@njit(cache=True, boundscheck=False)
def gather(s: Array, at: int, tensor: Rows, base: int, order: Array, count: int, lanes: int) -> None:
    """The rows `order` of a tensor (rows along its axis 2), `count` numbers each from `base` on; rows of 0 pad them."""
    width, q = padded(count, lanes), order.size
    for i in range(q):
        row = base + order[i] * tensor.strides[2]
        for v in range(0, width, lanes):
            store_full(s, at + i * width + v, load(tensor.data, row + v, min(lanes, count - v)))
    for i in range(q * width, padded(q, lanes) * width, lanes):
        store_full(s, at + i, fill(load_full(s, at), 0.0))


@njit(cache=True, boundscheck=False)
def announce(tensor: Rows, base: int, order: Array, count: int, lanes: int) -> None:
    """Have the rows of a later chunk brought to the cache: no CPU foresees pieces of rows that stand far apart."""
    for i in range(order.size):
        for v in range(0, count, lanes):
            prefetch(tensor.data, base + order[i] * tensor.strides[2] + v)


@njit(cache=True, boundscheck=False)
def scale_rows(s: Array, source: int, rows: int, width: int, factors: int, to: int, to_row: int, lanes: int) -> None:
    """Row i times the number i of `factors`."""
    for i in range(rows):
        factor = splat(s[factors + i])
        for v in range(0, width, lanes):
            store_full(s, to + i * to_row + v, mul(load_full(s, source + i * width + v), factor))


@njit(cache=True, boundscheck=False)
def transpose(s: Array, source: int, rows: int, columns: int, to: int, lanes: int) -> None:
    """(rows, columns) -> (columns, rows)."""
    for i in range(0, rows, lanes):
        for j in range(0, columns, lanes):
            transpose_block(s, source + i * columns + j, columns, to + j * rows + i, rows)


@njit(cache=True, boundscheck=False)
def load_state(s: Array, at: int, state: Array, base: int, n: int, p: int, lanes: int) -> None:
    """A dense state (n, p) from `base` on, padded."""
    width = padded(p, lanes)
    for i in range(padded(n, lanes)):
        for v in range(0, width, lanes):
            count = min(lanes, p - v) if i < n else 0
            store_full(s, at + i * width + v, load(state, base + i * p + v, count))


@njit(cache=True, boundscheck=False)
def store_state(s: Array, at: int, state: Array, base: int, n: int, p: int, lanes: int) -> None:
    """The way back from `load_state`."""
    width = padded(p, lanes)
    for i in range(n):
        for v in range(0, width, lanes):
            store(state, base + i * p + v, min(lanes, p - v), load_full(s, at + i * width + v))


@njit(cache=True, boundscheck=False)
def measure(s: Array, at: int, dt: Rows, base: int, order: Array, A: float, lanes: int) -> None:
    """dt of a chunk of Q padded steps, and what it makes, one vector after the other from `at` on.

    dt; the running sums `hi` of dt A, and `lo` of what their rounding left out; the decays from the chunk's start
    through a step (the last is that of the whole chunk) and from a step to the chunk's end. Padding steps are of 0.
    """
    steps = padded(order.size, lanes)
    hi, lo = s.dtype.type(0), s.dtype.type(0)
    for i in range(steps):
        step = dt.data[base + order[i] * dt.strides[2]] if i < order.size else s.dtype.type(0)
        added = step * A
        summed = hi + added
        back = summed - hi
        lo += (hi - (summed - back)) + (added - back)
        hi = summed
        s[at + i], s[at + steps + i], s[at + 2 * steps + i] = step, hi, lo
    for i in range(0, steps, lanes):
        hi_i, lo_i = load_full(s, at + steps + i), load_full(s, at + 2 * steps + i)
        to_end = add(sub(splat(hi), hi_i), sub(splat(lo), lo_i))
        store_full(s, at + 3 * steps + i, decay(add(hi_i, lo_i), lanes))
        store_full(s, at + 4 * steps + i, decay(to_end, lanes))


@njit(cache=True)
def place(task: int, size: Sizes) -> tuple[int, int, int, int, int]:
    """Clip, group, part of dB and dC, first head and end of a task: up to `together` heads of one group."""
    each = size.heads // size.g
    blocks = (each + size.together - 1) // size.together
    part = task % (size.g * blocks)
    group = part // blocks
    first = group * each + part % blocks * size.together
    return task // (size.g * blocks), group, part, first, min(first + size.together, group * each + each)


@njit(cache=True)
def size_of_right(size: Sizes) -> int:
    """Numbers that a head's state takes, with a row of p for every step of a chunk beside it."""
    return padded(size.p, size.lanes) * (padded(size.n, size.lanes) + padded(size.chunk, size.lanes))


@njit(cache=True)
def start_of(tensor: Rows, b: int, k: int, axis: int) -> int:
    """Where row 0 of (b, k, rows, head or group, ...) starts."""
    return b * tensor.strides[0] + k * tensor.strides[1] + axis * tensor.strides[3]
