"""Chunked matmuls on a CPU: a chunk of rows at a time, which the cache holds from its first matmul to its last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .cpu_chunks import (
    Steps,
    Stretch,
    by_group,
    by_head,
    lanes,
    measure,
    state_by_group,
    state_by_head,
    stretches,
)
from .op import define
from .steps import step_gradients

CHUNK = 64  # steps: long enough for the matmuls, short enough that its squares cost no more than its states


class Chunk(NamedTuple):
    """One chunk of a stretch: q steps of x, B and C in the path's order, and all decays it needs."""

    steps: slice
    x: Tensor  # (b, q, heads, p)
    B: Tensor  # (b, g, q, n), C too
    C: Tensor
    drive: Tensor  # dt x, as x
    dt: Tensor  # (b, q, heads, 1), the next two too
    from_start: Tensor
    to_end: Tensor
    whole: Tensor  # (b, g, 1, heads of the group, 1)
    between: Tensor  # (b, heads, q, q)

    def decay(self, state: Tensor) -> Tensor:
        """The state (b, g, n, heads of the group * p) a chunk later, without what the chunk puts in."""
        return (state.unflatten(3, (self.whole.shape[3], -1)) * self.whole).flatten(3)


def _open(at: Stretch, steps: Steps, i: int, chunk: int, x: Tensor, B: Tensor, C: Tensor) -> Chunk:
    own, g, real = slice(i * chunk, (i + 1) * chunk), B.shape[3], steps.dt.dtype
    x_i = at.take(x, own).to(real)
    B_i, C_i = (at.take(t, own).to(real).transpose(1, 2) for t in (B, C))
    dt, from_start, to_end = (t[:, own, :, None] for t in (steps.dt, steps.from_start, steps.to_end))
    whole = steps.whole[:, i].unflatten(1, (g, 1, -1, 1))
    return Chunk(own, x_i, B_i, C_i, x_i * dt, dt, from_start, to_end, whole, steps.between(i, x_i.shape[1]))


def forward(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt_bias: Tensor | None,
    h0: Tensor | None,
    paths: Tensor | None,
    cu_seqlens: Tensor | None,
    dt_softplus: bool,
    dt_limit: Sequence[float] | None,
    chunk: int,
    y: Tensor,
    h: Tensor,
    states: Tensor | None,
) -> None:
    """`op.Forward`."""
    real, heads, g = h.dtype, dt.shape[3], B.shape[3]
    summed = y.dim() == 4
    out = y if y.dtype == real else torch.empty_like(y, dtype=real)
    for at in stretches(dt, x.shape[-1], paths, cu_seqlens, chunk):
        steps = measure(at, dt, A, dt_bias, dt_softplus, dt_limit, chunk, real)
        start = torch.zeros_like(h[at.clips, at.path]) if h0 is None else h0[at.clips, at.path].to(real)
        state = state_by_group(start, g)
        skip = None if D is None else D[at.path].to(real)
        for i in range(steps.whole.shape[1]):
            if states is not None:
                states[at.batch, at.path, at.kept + i] = state.flatten(1)
            c = _open(at, steps, i, chunk, x, B, C)
            weights = c.between.unflatten(1, (g, -1)).mul_((c.C @ c.B.mT)[:, :, None]).flatten(1, 2)
            part = by_head(c.C @ state, heads) * c.from_start
            part += (weights @ c.drive.transpose(1, 2)).transpose(1, 2)
            if skip is not None:
                part.addcmul_(c.x, skip)
            at.put(out.unsqueeze(1) if summed else out, c.steps, part, add=summed and at.path > 0)
            state = c.decay(state) + c.B.mT @ by_group(c.drive * c.to_end, g)
        h[at.clips, at.path] = state_by_head(state, heads)
    if out is not y:
        y.copy_(out)


def backward(
    dy: Tensor,
    dh: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt_bias: Tensor | None,
    h0: Tensor | None,
    paths: Tensor | None,
    cu_seqlens: Tensor | None,
    dt_softplus: bool,
    dt_limit: Sequence[float] | None,
    chunk: int,
    states: Tensor,
) -> tuple[Tensor | None, ...]:
    """`op.Backward`, chunk by chunk from the last; README.md says what each line is."""
    real, k, heads, g = states.dtype, dt.shape[1], dt.shape[3], B.shape[3]
    dy = dy if dy.dim() == 5 else dy.unsqueeze(1)
    shared = x.shape[1] < k
    dx, ddt, dB, dC, dh0 = (torch.empty(t.shape, dtype=real) for t in (x, dt, B, C, dh))
    dA, dD, dbias = (torch.zeros(shape, dtype=real) for shape in ((k, heads), (k, heads, x.shape[-1]), (k, heads)))
    for at in stretches(dt, x.shape[-1], paths, cu_seqlens, chunk):
        steps = measure(at, dt, A, dt_bias, dt_softplus, dt_limit, chunk, real)
        d_state = state_by_group(dh[at.clips, at.path].to(real), g)
        d_sums, d_taken = torch.empty_like(steps.dt), torch.empty_like(steps.dt)
        skip = None if D is None else D[at.path].to(real)
        for i in reversed(range(steps.whole.shape[1])):
            state = states[at.batch, at.path, at.kept + i].view(d_state.shape)
            c = _open(at, steps, i, chunk, x, B, C)
            dy_i = at.take(dy, c.steps).to(real)
            d_drive, dB_i, dC_i, d_sums[:, c.steps], d_state = _chunk_backward(c, dy_i, state, d_state)
            at.put(dB, c.steps, dB_i.transpose(1, 2))
            at.put(dC, c.steps, dC_i.transpose(1, 2))
            d_taken[:, c.steps] = (d_drive * c.x).sum(-1)
            dx_i = d_drive.mul_(c.dt)
            if skip is not None:
                dx_i.addcmul_(dy_i, skip)
                dD[at.path] += (dy_i * c.x).sum((0, 1))
            at.put(dx, c.steps, dx_i, add=shared and at.path > 0)
        dh0[at.clips, at.path] = state_by_head(d_state, heads)
        dA[at.path] += (d_sums * steps.dt).sum((0, 1))
        d_taken += d_sums * A[at.path].to(real)
        d_raw = step_gradients(d_taken, steps.raw, dt_softplus, dt_limit)
        dbias[at.path] += d_raw.sum((0, 1))
        at.put(ddt, slice(None), d_raw)
    return dx, ddt, dA, dB, dC, *(None if t is None else d for t, d in ((D, dD), (dt_bias, dbias), (h0, dh0)))


def _chunk_backward(
    c: Chunk, dy: Tensor, state: Tensor, d_state: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of drive, B, C, of dt A at every step (b, q, heads), and of the state before the chunk.

    From those of y and of the state after it; `state` is the one before it.
    """
    from .cpu_kernels import square_gradients

    (b, q, heads, _), g = c.x.shape, c.B.shape[1]
    # Inside the chunk.
    dy_heads = dy.transpose(1, 2)
    CB, d_weights = c.C @ c.B.mT, dy_heads @ c.drive.permute(0, 2, 3, 1)
    d_CB, d_sums = torch.empty_like(CB), CB.new_empty(b, heads, q)
    squares = (t.numpy() for t in (CB, c.between, d_weights, d_CB, d_sums))
    square_gradients(*squares, lanes(CB))
    # Through the state before it, and into the state after it.
    dy_decayed, drive_decayed = dy * c.from_start, c.drive * c.to_end
    dy_groups, drive_groups = by_group(dy_decayed, g), by_group(drive_decayed, g)
    from_after = by_head(c.B @ d_state, heads)
    d_drive = from_after * c.to_end
    d_drive += (c.between.mT @ dy_heads).transpose(1, 2)
    dB = d_CB.mT @ c.C + drive_groups @ d_state.mT
    dC = d_CB @ c.B + dy_groups @ state.mT
    before = c.decay(d_state)
    into_y = (dy_decayed * by_head(c.C @ state, heads)).sum(-1)
    into_state = (drive_decayed * from_after).sum(-1)
    across = (before * state).sum(2).flatten(1).unflatten(1, (heads, -1)).sum(2)
    d_sums = (
        d_sums.transpose(1, 2)
        + into_y.flip(1).cumsum(1).flip(1)
        + (into_state.cumsum(1) - into_state)
        + across[:, None]
    )
    return d_drive, dB, dC, d_sums, before + c.C.mT @ dy_groups


ssd_scan_cpu = define("ssd_scan_cpu", forward, backward, lambda _: CHUNK, keeps_states=True)
