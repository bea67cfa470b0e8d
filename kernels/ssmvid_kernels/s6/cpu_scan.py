"""The selective scan on a CPU: numba kernels over SIMD lanes, compiled on the first call and cached on disk."""

from __future__ import annotations

import torch
from torch import Tensor

from ..cpu import clip_rows, dense, flat, parallel, path_rows
from .op import define

CHUNK = 32  # steps between kept states: a chunk of 16 states and its scratch stay in a core's second-level cache
GROUP = 4  # channel blocks whose dB and dC are summed before their lanes are: fixed, so that results are too
LOG2E = 1.4426950408889634


def _state_first(tensor: Tensor | None) -> Tensor | None:
    """(..., d, n) -> (..., n, d), so that the lanes lie along d."""
    return None if tensor is None else tensor.transpose(-1, -2)


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
    y: Tensor,
    h: Tensor,
    states: Tensor | None,
) -> None:
    from .cpu_forward import scan_forward  # numba is imported by the first scan, not with the package

    (b, k, l, d), n, dtype = dt.shape, A.shape[-1], h.dtype
    s, summed = h.shape[0], y.dim() == 3
    lanes = 64 // dtype.itemsize
    out = y if y.dtype == dtype else torch.empty_like(y, dtype=dtype)
    h_out = h.new_empty(s, k, n, d)
    args = (
        *flat(x.expand(b, k, l, d), dtype),
        *flat(dt, dtype),
        dense(_state_first(A.to(dtype) * LOG2E), (k, n, d), dtype),
        *flat(B, dtype),
        *flat(C, dtype),
        dense(D, (k, d), dtype),
        dense(dt_bias, (k, d), dtype),
        dt_softplus,
        dense(_state_first(h0), (s, k, n, d), dtype),
        path_rows(paths, k, l),
        clip_rows(b, l, cu_seqlens, CHUNK),
        *flat(out.unsqueeze(1).expand(b, k, l, d) if summed else out, dtype),
        summed,
        h_out.numpy(),
        (h.new_empty(b, k, 0, n, d) if states is None else states).numpy(),
        CHUNK,
        lanes,
    )
    parallel(lambda task: scan_forward(task, *args), s * -(-d // lanes))
    h.copy_(h_out.transpose(-1, -2))
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
    states: Tensor,
) -> tuple[Tensor | None, ...]:
    from .cpu_backward import scan_backward

    (b, k, l, d), n, s, dtype = dt.shape, A.shape[-1], dh.shape[0], states.dtype
    lanes = 64 // dtype.itemsize
    groups = -(-d // (lanes * GROUP))
    new = states.new_empty
    dx, ddt = new(x.shape), new(b, k, l, d)
    dA, dh0 = new(s, k, n, d), new(s, k, n, d)
    dB, dC = new(b, k, groups, l, n), new(b, k, groups, l, n)
    dD, ddt_bias = new(s, k, d), new(s, k, d)
    args = (
        *flat((dy.unsqueeze(1) if dy.dim() == 3 else dy).expand(b, k, l, d), dtype),
        dense(_state_first(dh), (s, k, n, d), dtype),
        *flat(x.expand(b, k, l, d), dtype),
        *flat(dt, dtype),
        dense(_state_first(A.to(dtype) * LOG2E), (k, n, d), dtype),
        *flat(B, dtype),
        *flat(C, dtype),
        dense(D, (k, d), dtype),
        dense(dt_bias, (k, d), dtype),
        dt_softplus,
        states.numpy(),
        path_rows(paths, k, l),
        clip_rows(b, l, cu_seqlens, CHUNK),
        *(grad.numpy() for grad in (dx, ddt, dA, dB, dC, dD, ddt_bias, dh0)),
        CHUNK,
        lanes,
        GROUP,
    )
    parallel(lambda task: scan_backward(task, *args), s * groups)
    return (
        dx,
        ddt,
        dA.sum(0).transpose(-1, -2),
        dB.sum(2),
        dC.sum(2),
        None if D is None else dD.sum(0),
        None if dt_bias is None else ddt_bias.sum(0),
        None if h0 is None else dh0.transpose(-1, -2),
    )


selective_scan_cpu = define("selective_scan_cpu", forward, backward, CHUNK)
