"""The forward scan on a CPU: for every chunk and head two matmuls over SIMD lanes, whose factors stay in the cache."""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit

from ..simd import add, fma, keep, load, load_full, mul, splat, store, store_full, sub
from ..simd_matmul import matmul
from .cpu_chunks import (
    Rows,
    Sizes,
    announce,
    decay,
    gather,
    load_state,
    measure,
    padded,
    place,
    scale_rows,
    size_of_right,
    start_of,
    store_state,
    transpose,
)

Array = Any


class Scratch(NamedTuple):
    """Where the matrices of a chunk stand in a task's scratch; Q, N and P are its steps, n and p, padded."""

    B: int  # Q x N
    C: int
    B_T: int  # N x Q
    CB: int  # Q x Q: C B^T, on and below its diagonal
    left: int  # Q x (N + Q): decayed C, then decayed C B^T
    x: int  # Q x P
    y: int
    steps: int  # `measure`
    right: int  # for every head (N + Q) x P: the state, then dt x


def scratch(Q: int, N: int, P: int, together: int) -> tuple[int, ...]:
    """How many numbers each field of `Scratch` takes."""
    return Q * N, Q * N, Q * N, Q * Q, Q * (N + Q), Q * P, Q * P, 5 * Q, together * (N + Q) * P


@njit(cache=True, boundscheck=False)
def decay_weights(s: Array, CB: int, steps: int, Q: int, left: int, left_row: int, lanes: int) -> None:
    """left[i, j] = CB[i, j] times the decay from step j to step i, 0 for j > i; exp is taken of sums below 0 only."""
    hi, lo = steps + Q, steps + 2 * Q
    for i in range(Q):
        hi_i, lo_i = splat(s[hi + i]), splat(s[lo + i])
        for j in range(0, padded(i + 1, lanes), lanes):
            below = add(sub(hi_i, load_full(s, hi + j)), sub(lo_i, load_full(s, lo + j)))
            weight = mul(decay(keep(below, 0, i + 1 - j), lanes), load_full(s, CB + i * Q + j))
            store_full(s, left + i * left_row + j, keep(weight, 0, i + 1 - j))


@njit(cache=True, boundscheck=False)
def put_outputs(
    s: Array, at: Scratch, D: Array, D_at: int, y: Rows, base: int, order: Array, p: int, add_to: bool, lanes: int
) -> None:
    """The rows of y: what is in `at.y` + D x, added to what is there where `add_to` says so."""
    width = padded(p, lanes)
    for i in range(order.size):
        row = base + order[i] * y.strides[2]
        for v in range(0, width, lanes):
            count = min(lanes, p - v)
            out = fma(load(D, D_at + v, count), load_full(s, at.x + i * width + v), load_full(s, at.y + i * width + v))
            if add_to:
                out = add(out, load(y.data, row + v, count))
            store(y.data, row + v, count, out)


@njit(cache=True, boundscheck=False)
def head_forward(s: Array, at: Scratch, right: int, Q: int, N: int, P: int, lanes: int) -> None:
    """y of one head of a chunk, whose x and dt are in place, without its skip; and the state after the chunk."""
    wide, U = N + Q, right + N * P
    scale_rows(s, at.C, Q, N, at.steps + 3 * Q, at.left, wide, lanes)
    decay_weights(s, at.CB, at.steps, Q, at.left + N, wide, lanes)
    scale_rows(s, at.x, Q, P, at.steps, U, P, lanes)
    for i in range(0, Q, lanes):
        left = (at.left + i * wide, wide, 1)
        matmul(s, lanes, P // lanes, left, (right, P), N + i + lanes, (at.y + i * P, P), 0.0, lanes)
    scale_rows(s, U, Q, P, at.steps + 4 * Q, U, P, lanes)
    matmul(s, N, P // lanes, (at.B, 1, N), (U, P), Q, (right, P), s[at.steps + 4 * Q - 1], lanes)


@njit(nogil=True, cache=True, boundscheck=False)
def scan_forward(
    task: int,
    s: Array,
    at: Scratch,
    size: Sizes,
    x: Rows,
    dt: Rows,
    A: Array,
    B: Rows,
    C: Rows,
    D: Array,
    h0: Array,
    rows: Array,
    clips: Array,
    y: Rows,
    summed: bool,
    h_out: Array,
    states: Array,
    chunks: int,
) -> None:
    """Task = (clip, heads of a group); its paths run one after the other, so that y is summed in place."""
    n, p, lanes = size.n, size.p, size.lanes
    N, P = padded(n, lanes), padded(p, lanes)
    clip, group, _, first, last = place(task, size)
    b, start, end, kept = clips[clip, 0], clips[clip, 1], clips[clip, 2], clips[clip, 3]
    for k in range(size.k):
        own = (clip * size.k + k) * size.heads
        for head in range(first, last):
            load_state(s, at.right + (head - first) * size_of_right(size), h0, (own + head) * n * p, n, p, lanes)
        for j in range((end - start + size.chunk - 1) // size.chunk):
            t0 = start + j * size.chunk
            order = rows[k, t0 : min(t0 + size.chunk, end)]
            later = rows[k, min(t0 + size.chunk, end) : min(t0 + 2 * size.chunk, end)]
            Q = padded(order.size, lanes)
            gather(s, at.B, B, start_of(B, b, k, group), order, n, lanes)
            gather(s, at.C, C, start_of(C, b, k, group), order, n, lanes)
            transpose(s, at.B, Q, N, at.B_T, lanes)
            for i in range(0, Q, lanes):
                matmul(s, lanes, i // lanes + 1, (at.C + i * N, N, 1), (at.B_T, Q), N, (at.CB + i * Q, Q), 0.0, lanes)
            for head in range(first, last):
                right = at.right + (head - first) * size_of_right(size)
                if chunks > 0:
                    before = ((b * size.k + k) * chunks + kept + j) * size.heads + head
                    store_state(s, right, states, before * n * p, n, p, lanes)
                gather(s, at.x, x, start_of(x, b, k, head), order, p, lanes)
                announce(x, start_of(x, b, k, head), later, p, lanes)
                announce(y, start_of(y, b, k, head), later, p, lanes)
                measure(s, at.steps, dt, start_of(dt, b, k, head), order, A[k, head], lanes)
                head_forward(s, at, right, Q, N, P, lanes)
                D_at, y_at = (k * size.heads + head) * p, start_of(y, b, k, head)
                put_outputs(s, at, D, D_at, y, y_at, order, p, summed and k > 0, lanes)
        for head in range(first, last):
            right = at.right + (head - first) * size_of_right(size)
            store_state(s, right, h_out, (own + head) * n * p, n, p, lanes)
