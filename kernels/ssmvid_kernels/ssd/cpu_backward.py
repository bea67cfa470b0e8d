"""The backward scan on a CPU: chunks from the last to the first; README.md says what each line is."""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit

from ..simd import add, fill, fma, keep, load, load_full, mul, splat, store, store_full, sub, total
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
    C_T: int
    dB_T: int
    dC_T: int
    part: int
    sums: int  # Q x N: dB, then dC, of all heads
    BC: int  # Q x Q, row j and column i >= j: B_j C_i
    d_BC: int
    d_weights: int
    left: int  # Q x (Q + N): W^T, then B decayed to the end
    x: int  # Q x P
    U: int
    dU: int
    U_T: int  # P x Q
    gy_T: int
    before: int  # N x P: the state before the chunk
    steps: int  # `measure`
    over: int  # Q, as the next three
    into_y: int
    into_state: int
    d_sums: int
    skips: int  # P: dD of a chunk
    dD: int  # for every head P
    right: int  # for every head (Q + N) x P: gy, then the gradient of the state


def scratch(Q: int, N: int, P: int, together: int) -> tuple[int, ...]:
    """How many numbers each field of `Scratch` takes."""
    states, squares, channels = (Q * N,) * 8, (Q * Q,) * 3, (Q * P,) * 5
    return (
        *states, *squares, Q * (Q + N), *channels, N * P, 5 * Q, Q, Q, Q, Q, P, together * P, together * (Q + N) * P,
    )  # fmt: skip


@njit(cache=True, boundscheck=False)
def square_gradients(s: Array, at: Scratch, Q: int, left_row: int, first: bool, lanes: int) -> None:
    """Weights into `left`, the gradient of B C^T into d_BC, summed over heads, that of the sums of dt A into d_sums.

    All transposed: row j, column i >= j. A step's dt A is in the decay between every j before it and every i from it
    on, so its gradient is a sum over those: no difference of sums.
    """
    hi, lo = at.steps + Q, at.steps + 2 * Q
    zero = fill(load_full(s, hi), 0.0)
    for i in range(0, Q, lanes):
        store_full(s, at.over + i, zero)
    s[at.d_sums] = 0.0
    for j in range(Q):
        hi_j, lo_j, across = splat(s[hi + j]), splat(s[lo + j]), zero
        for i in range(j // lanes * lanes, Q, lanes):
            below = add(sub(load_full(s, hi + i), hi_j), sub(load_full(s, lo + i), lo_j))
            between = keep(decay(keep(below, j - i, lanes), lanes), j - i, lanes)
            cb = load_full(s, at.BC + j * Q + i)
            store_full(s, at.left + j * left_row + i, mul(between, cb))
            d_cb = mul(load_full(s, at.d_weights + j * Q + i), between)
            summed = fma(d_cb, cb, load_full(s, at.over + i))
            store_full(s, at.over + i, summed)
            across = add(across, keep(summed, j + 1 - i, lanes))
            store_full(s, at.d_BC + j * Q + i, d_cb if first else add(d_cb, load_full(s, at.d_BC + j * Q + i)))
        if j + 1 < Q:
            s[at.d_sums + j + 1] = total(across)


@njit(cache=True, boundscheck=False)
def add_part(s: Array, part: int, factor: int, summed: int, dots: int, N: int, Q: int, lanes: int) -> None:
    """summed += part, and dots = the sums of part * factor over its rows; all (N, Q)."""
    for i in range(0, Q, lanes):
        dot = fill(load_full(s, part), 0.0)
        for n in range(i, i + N * Q, Q):
            value = load_full(s, part + n)
            dot = fma(value, load_full(s, factor + n), dot)
            store_full(s, summed + n, add(value, load_full(s, summed + n)))
        store_full(s, dots + i, dot)


@njit(cache=True, boundscheck=False)
def scale_columns(s: Array, at: int, rows: int, Q: int, factors: int, lanes: int) -> None:
    """Column i times the number i of `factors`."""
    for i in range(0, Q, lanes):
        factor = load_full(s, factors + i)
        for row in range(at + i, at + i + rows * Q, Q):
            store_full(s, row, mul(load_full(s, row), factor))


@njit(cache=True, boundscheck=False)
def dot(s: Array, a: int, b: int, count: int, lanes: int) -> float:
    """The sum of a * b over `count` numbers, whole vectors."""
    summed = fill(load_full(s, a), 0.0)
    for i in range(0, count, lanes):
        summed = fma(load_full(s, a + i), load_full(s, b + i), summed)
    return total(summed)


@njit(cache=True, boundscheck=False)
def add_sums(s: Array, at: Scratch, q: int, whole: float) -> None:
    """Into d_sums what the states before and after the chunk have of every step's dt A."""
    later = whole
    for i in range(q - 1, -1, -1):
        later += s[at.into_y + i]
        s[at.d_sums + i] += later
    earlier = s.dtype.type(0)
    for i in range(q):
        s[at.d_sums + i] += earlier
        earlier += s[at.into_state + i]


@njit(cache=True, boundscheck=False)
def put_gradients(
    s: Array, at: Scratch, gy: int, D: Array, D_at: int, dx: Rows, base: int, d_steps: Rows, d_sums: Rows,
    step_base: int, order: Array, p: int, add_to: bool, dD: int, lanes: int,
) -> None:  # fmt: skip
    """dx of a chunk, the gradients of dt through x and of the sums of dt A, and what it adds to dD."""
    P, zero = padded(p, lanes), fill(load_full(s, gy), 0.0)
    for v in range(0, P, lanes):
        store_full(s, at.skips + v, zero)
    for i in range(order.size):
        row, step = base + order[i] * dx.strides[2], splat(s[at.steps + i])
        for v in range(0, P, lanes):
            count, here = min(lanes, p - v), i * P + v
            gy_i = load_full(s, gy + here)
            out = fma(load(D, D_at + v, count), gy_i, mul(step, load_full(s, at.dU + here)))
            if add_to:
                out = add(out, load(dx.data, row + v, count))
            store(dx.data, row + v, count, out)
            store_full(s, at.skips + v, fma(gy_i, load_full(s, at.x + here), load_full(s, at.skips + v)))
        to = step_base + order[i] * d_steps.strides[2]
        d_steps.data[to] = dot(s, at.x + i * P, at.dU + i * P, P, lanes)
        d_sums.data[to] = s[at.d_sums + i]
    for v in range(0, P, lanes):
        store_full(s, dD + v, add(load_full(s, dD + v), load_full(s, at.skips + v)))


@njit(cache=True, boundscheck=False)
def put_rows(s: Array, at: int, tensor: Rows, base: int, order: Array, n: int, lanes: int) -> None:
    """The way back from `gather`."""
    N = padded(n, lanes)
    for i in range(order.size):
        for v in range(0, N, lanes):
            store(tensor.data, base + order[i] * tensor.strides[2] + v, min(lanes, n - v), load_full(s, at + i * N + v))


@njit(cache=True, boundscheck=False)
def head_backward(s: Array, at: Scratch, gy: int, Q: int, N: int, P: int, first: bool, lanes: int) -> float:
    """One head of a chunk, whose x, dt and gy are in place; returns the decay of the whole chunk."""
    G, wide, state = gy + Q * P, Q + N, P // lanes
    from_start, to_end = at.steps + 3 * Q, at.steps + 4 * Q
    whole = s[to_end - 1]
    scale_rows(s, at.x, Q, P, at.steps, at.U, P, lanes)
    transpose(s, gy, Q, P, at.gy_T, lanes)
    for j in range(0, Q, lanes):
        matmul(
            s,
            lanes,
            (Q - j) // lanes,
            (at.U + j * P, P, 1),
            (at.gy_T + j, Q),
            P,
            (at.d_weights + j * Q + j, Q),
            0.0,
            lanes,
        )
    square_gradients(s, at, Q, wide, first, lanes)
    scale_rows(s, at.B, Q, N, to_end, at.left + Q, wide, lanes)
    for j in range(0, Q, lanes):
        left = at.left + j * wide + j
        matmul(s, lanes, state, (left, wide, 1), (gy + j * P, P), wide - j, (at.dU + j * P, P), 0.0, lanes)
    # Into the state after the chunk.
    transpose(s, at.U, Q, P, at.U_T, lanes)
    scale_columns(s, at.U_T, P, Q, to_end, lanes)
    matmul(s, N, Q // lanes, (G, P, 1), (at.U_T, Q), P, (at.part, Q), 0.0, lanes)
    add_part(s, at.part, at.B_T, at.dB_T, at.into_state, N, Q, lanes)
    # Through the state before it.
    scale_columns(s, at.gy_T, P, Q, from_start, lanes)
    matmul(s, N, Q // lanes, (at.before, P, 1), (at.gy_T, Q), P, (at.part, Q), 0.0, lanes)
    add_part(s, at.part, at.C_T, at.dC_T, at.into_y, N, Q, lanes)
    return whole


@njit(cache=True, boundscheck=False)
def sum_heads(s: Array, at: Scratch, parts_T: int, other: int, of_B: bool, Q: int, N: int, lanes: int) -> None:
    """dB or dC of a chunk: what its states have of it (`parts_T`, transposed), and d_BC times C, or d_BC^T times B."""
    transpose(s, parts_T, N, Q, at.sums, lanes)
    for i in range(0, Q, lanes):
        if of_B:
            left, start, steps = (at.d_BC + i * Q + i, Q, 1), i, Q - i
        else:
            left, start, steps = (at.d_BC + i, 1, Q), 0, i + lanes
        matmul(s, lanes, N // lanes, left, (other + start * N, N), steps, (at.sums + i * N, N), 1.0, lanes)


@njit(nogil=True, cache=True, boundscheck=False)
def scan_backward(
    task: int, s: Array, at: Scratch, size: Sizes, dy: Rows, dh: Array, x: Rows, dt: Rows, A: Array, B: Rows, C: Rows,
    D: Array, rows: Array, clips: Array, states: Array, chunks: int, dx: Rows, shared: bool, d_steps: Rows,
    d_sums: Rows, dB: Rows, dC: Rows, dD: Array, dh0: Array,
) -> None:  # fmt: skip
    """Task as in `scan_forward`. dB and dC (b, k, l, g * blocks, n): one part a block of heads, to be summed."""
    n, p, lanes = size.n, size.p, size.lanes
    N, P = padded(n, lanes), padded(p, lanes)
    clip, group, part, first, last = place(task, size)
    b, start, end, kept = clips[clip, 0], clips[clip, 1], clips[clip, 2], clips[clip, 3]
    most, zero = padded(size.chunk, lanes), s.dtype.type(0)
    for k in range(size.k):
        own = (clip * size.k + k) * size.heads
        for head in range(first, last):
            G = at.right + (head - first) * size_of_right(size) + most * P
            load_state(s, G, dh, (own + head) * n * p, n, p, lanes)
            s[at.dD + (head - first) * P : at.dD + (head - first + 1) * P] = zero
        for j in range((end - start + size.chunk - 1) // size.chunk - 1, -1, -1):
            t0 = start + j * size.chunk
            order = rows[k, t0 : min(t0 + size.chunk, end)]
            earlier = rows[k, max(t0 - size.chunk, start) : t0]
            Q = padded(order.size, lanes)
            gather(s, at.B, B, start_of(B, b, k, group), order, n, lanes)
            gather(s, at.C, C, start_of(C, b, k, group), order, n, lanes)
            transpose(s, at.B, Q, N, at.B_T, lanes)
            transpose(s, at.C, Q, N, at.C_T, lanes)
            for i in range(0, Q, lanes):
                matmul(
                    s,
                    lanes,
                    (Q - i) // lanes,
                    (at.B + i * N, N, 1),
                    (at.C_T + i, Q),
                    N,
                    (at.BC + i * Q + i, Q),
                    0.0,
                    lanes,
                )
            s[at.dB_T : at.dB_T + Q * N] = zero
            s[at.dC_T : at.dC_T + Q * N] = zero
            for head in range(first, last):
                G = at.right + (head - first) * size_of_right(size) + most * P
                gy = G - Q * P
                gather(s, gy, dy, start_of(dy, b, k, head), order, p, lanes)
                gather(s, at.x, x, start_of(x, b, k, head), order, p, lanes)
                announce(dy, start_of(dy, b, k, head), earlier, p, lanes)
                announce(x, start_of(x, b, k, head), earlier, p, lanes)
                announce(dx, start_of(dx, b, k, head), earlier, p, lanes)
                measure(s, at.steps, dt, start_of(dt, b, k, head), order, A[k, head], lanes)
                before = ((b * size.k + k) * chunks + kept + j) * size.heads + head
                load_state(s, at.before, states, before * n * p, n, p, lanes)
                whole = head_backward(s, at, gy, Q, N, P, head == first, lanes)
                add_sums(s, at, order.size, whole * dot(s, G, at.before, N * P, lanes))
                D_at, dx_at, step_at = (
                    (k * size.heads + head) * p,
                    start_of(dx, b, k, head),
                    start_of(d_steps, b, k, head),
                )
                out, add_to = at.dD + (head - first) * P, shared and k > 0
                put_gradients(s, at, gy, D, D_at, dx, dx_at, d_steps, d_sums, step_at, order, p, add_to, out, lanes)
                scale_rows(s, gy, Q, P, at.steps + 3 * Q, gy, P, lanes)
                matmul(s, N, P // lanes, (at.C, 1, N), (gy, P), Q, (G, P), whole, lanes)
            sum_heads(s, at, at.dB_T, at.C, True, Q, N, lanes)
            put_rows(s, at.sums, dB, start_of(dB, b, k, part), order, n, lanes)
            sum_heads(s, at, at.dC_T, at.B, False, Q, N, lanes)
            put_rows(s, at.sums, dC, start_of(dC, b, k, part), order, n, lanes)
        for head in range(first, last):
            G = at.right + (head - first) * size_of_right(size) + most * P
            store_state(s, G, dh0, (own + head) * n * p, n, p, lanes)
            dD[own + head] = s[at.dD + (head - first) * P : at.dD + (head - first) * P + p]
