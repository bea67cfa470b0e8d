"""The chunked scan on a CPU: numba kernels of small SIMD matmuls, compiled on the first call and cached on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ..cpu import clip_rows, dense, flat, parallel, path_rows
from .op import define
from .steps import step_gradients, step_sizes

CHUNK = 64  # steps: long enough for the matmuls, short enough that its squares cost no more than its states
TOGETHER = 4  # heads of a task at most: they share C B^T and one part of dB and dC; fixed, so that results are too


def _state_first(tensor: Tensor | None) -> Tensor | None:
    """(..., p, n) -> (..., n, p), so that the lanes lie along p."""
    return None if tensor is None else tensor.mT


def _run(kernel: Callable[..., None], module: Any, like: Tensor, size: Any, clips: int, *args: object) -> None:
    """Call the kernel for every clip and block of heads, each with scratch of its own."""
    from .cpu_chunks import padded

    sizes = (padded(number, size.lanes) for number in (size.chunk, size.n, size.p))
    *starts, total = accumulate(module.scratch(*sizes, size.together), initial=0)
    at = module.Scratch(*starts)
    parts = size.g * -(-(size.heads // size.g) // size.together)
    parallel(lambda task: kernel(task, like.new_empty(total).numpy(), at, size, *args), clips * parts)


def _sizes(x: Tensor, dt: Tensor, B: Tensor, chunk: int, real: torch.dtype) -> Any:
    """`Sizes` of a call; scratch for no more steps than there are."""
    from .cpu_chunks import Sizes

    (_, k, l, heads), p, (g, n) = dt.shape, x.shape[-1], B.shape[-2:]
    return Sizes(k, heads, p, n, g, max(min(chunk, l), 1), max(min(TOGETHER, heads // g), 1), 64 // real.itemsize)


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
    bundles: Sequence[Tensor],
    dt_softplus: bool,
    dt_limit: Sequence[float] | None,
    chunk: int,
    y: Tensor,
    h: Tensor,
    states: Tensor | None,
) -> None:
    """`op.Forward`."""
    from . import cpu_forward  # numba is imported by the first scan, not with the package
    from .cpu_chunks import Rows

    real, (b, k, l, heads), p, n, s = h.dtype, dt.shape, x.shape[-1], B.shape[-1], h.shape[0]
    rows = lambda tensor: Rows(*flat(tensor, real))
    summed = y.dim() == 4
    bias = None if dt_bias is None else dt_bias.to(real)[:, None]
    out, h_out = y if y.dtype == real else torch.empty_like(y, dtype=real), h.new_empty(s, k, heads, n, p)
    _run(
        cpu_forward.scan_forward,
        cpu_forward,
        h,
        _sizes(x, dt, B, chunk, real),
        s,
        rows(x.expand(b, k, l, heads, p)),
        rows(step_sizes(dt.to(real), bias, dt_softplus, dt_limit)),
        dense(A, (k, heads), real),
        rows(B),
        rows(C),
        dense(D, (k, heads, p), real).ravel(),
        dense(_state_first(h0), (s, k, heads, n, p), real).ravel(),
        path_rows(paths, k, l),
        clip_rows(b, l, cu_seqlens, chunk),
        rows(out.unsqueeze(1).expand(b, k, l, heads, p) if summed else out),
        summed,
        h_out.numpy().ravel(),
        (h.new_empty(0) if states is None else states).numpy().ravel(),
        0 if states is None else states.shape[2],
    )
    h.copy_(h_out.mT)
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
    bundles: Sequence[Tensor],
    dt_softplus: bool,
    dt_limit: Sequence[float] | None,
    chunk: int,
    states: Tensor,
) -> tuple[Tensor | None, ...]:
    """`op.Backward`."""
    from . import cpu_backward
    from .cpu_chunks import Rows

    real, (b, k, l, heads), p, (g, n), s = states.dtype, dt.shape, x.shape[-1], B.shape[-2:], dh.shape[0]
    rows = lambda tensor: Rows(*flat(tensor, real))
    new, size = states.new_empty, _sizes(x, dt, B, chunk, real)
    raw = dt.to(real) if dt_bias is None else dt.to(real) + dt_bias.to(real)[:, None]
    taken = step_sizes(raw, None, dt_softplus, dt_limit)
    blocks = -(-(heads // g) // size.together)
    dx, d_steps, d_sums = new(x.shape), new(dt.shape), new(dt.shape)
    dB, dC = new(b, k, l, g * blocks, n), new(b, k, l, g * blocks, n)
    dD, dh0 = new(s, k, heads, p), new(s, k, heads, n, p)
    _run(
        cpu_backward.scan_backward,
        cpu_backward,
        states,
        size,
        s,
        rows((dy if dy.dim() == 5 else dy.unsqueeze(1)).expand(b, k, l, heads, p)),
        dense(_state_first(dh), (s, k, heads, n, p), real).ravel(),
        rows(x.expand(b, k, l, heads, p)),
        rows(taken),
        dense(A, (k, heads), real),
        rows(B),
        rows(C),
        dense(D, (k, heads, p), real).ravel(),
        path_rows(paths, k, l),
        clip_rows(b, l, cu_seqlens, chunk),
        states.numpy().ravel(),
        states.shape[2],
        rows(dx.expand(b, k, l, heads, p)),
        x.shape[1] < k,
        rows(d_steps),
        rows(d_sums),
        rows(dB),
        rows(dC),
        dD.view(s * k * heads, p).numpy(),
        dh0.numpy().ravel(),
    )
    d_raw = step_gradients(d_steps + d_sums * A.to(real)[:, None], raw, dt_softplus, dt_limit)
    return (
        dx,
        d_raw,
        (d_sums * taken).sum((0, 2)),
        *(grad.unflatten(3, (g, blocks)).sum(4) for grad in (dB, dC)),
        None if D is None else dD.sum(0),
        None if dt_bias is None else d_raw.sum((0, 2)),
        None if h0 is None else dh0.mT,
    )


ssd_scan_cpu = define("ssd_scan_cpu", forward, backward, lambda _: CHUNK, keeps_states=True)
