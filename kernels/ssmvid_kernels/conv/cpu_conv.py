"""The convolution on a CPU: numba kernels over SIMD lanes, compiled on the first call and cached on disk."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..checks import clip_bounds
from ..cpu import dense, flat, parallel, path_rows
from .op import define

BLOCK = 128  # steps a vector of channels walks before the next one does
STEPS = 512  # steps of a forward task: some blocks, so that a long clip is spread over the threads
SHARES = 4  # calls into a kernel a thread: entering one costs as much as a hundred steps of 384 channels


def _channels_last(tensor: Tensor | None) -> Tensor | None:
    """(..., d, width) -> (..., width, d), so that the lanes lie along d."""
    return None if tensor is None else tensor.transpose(-1, -2)


def _shares(tasks: np.ndarray) -> int:
    return min(len(tasks), SHARES * torch.get_num_threads())


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    paths: Tensor | None,
    cu_seqlens: Tensor | None,
    silu: bool,
    y: Tensor,
    h: Tensor,
) -> None:
    from .cpu_kernels import conv_forward  # numba is imported by the first call, not with the package

    (b, k, l, d), (s, _, _, taps), dtype = y.shape, h.shape, h.dtype
    tasks = [
        (clip, path, row, start, end, first, min(first + STEPS, end))
        for clip, (row, start, end) in enumerate(clip_bounds(b, l, cu_seqlens))
        for path in range(k)
        for first in range(start, max(end, start + 1), STEPS)
    ]
    table = np.array(tasks, dtype=np.int64).reshape(-1, 7)
    out = y if y.dtype == dtype else torch.empty_like(y, dtype=dtype)
    h_out = h.new_empty(s, k, taps, d)
    shares = _shares(table)
    args = (
        shares,
        table,
        *flat(x.expand(b, k, l, d), dtype),
        dense(_channels_last(weight), (), dtype),
        dense(bias, (k, d), dtype),
        silu,
        dense(_channels_last(h0), (s, k, taps, d), dtype),
        path_rows(paths, k, l),
        out.numpy(),
        h_out.numpy(),
        BLOCK,
        64 // dtype.itemsize,
    )
    parallel(lambda share: conv_forward(share, *args), shares)
    h.copy_(h_out.transpose(-1, -2))
    if out is not y:
        y.copy_(out)


def backward(
    dy: Tensor,
    dh: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    paths: Tensor | None,
    cu_seqlens: Tensor | None,
    silu: bool,
) -> tuple[Tensor | None, ...]:
    from .cpu_kernels import conv_backward

    (b, k, l, d), taps, dtype = dy.shape, weight.shape[-1] - 1, torch.promote_types(x.dtype, torch.float32)
    s = b if cu_seqlens is None else cu_seqlens.shape[0] - 1
    lanes = 64 // dtype.itemsize
    # Every sum over steps is one clip's and one channel's own, so how channels are split changes no result.
    vectors = -(-d // lanes)
    parts = min(vectors, -(-SHARES * torch.get_num_threads() // max(s, 1)))
    edges = [vectors * part // parts * lanes for part in range(parts)] + [d] if parts else []
    tasks = [
        (clip, row, start, end, first, last)
        for clip, (row, start, end) in enumerate(clip_bounds(b, l, cu_seqlens))
        for first, last in pairwise(edges)
    ]
    table = np.array(tasks, dtype=np.int64).reshape(-1, 6)
    new = partial(x.new_empty, dtype=dtype)
    dx, dh0 = new(x.shape), new((s, k, taps, d))
    dweight, dbias = new((s, k, taps + 1, d)), new((s, k, d))
    shares = _shares(table)
    args = (
        shares,
        table,
        *flat(dy, dtype),
        dense(_channels_last(dh), (s, k, taps, d), dtype),
        *flat(x.expand(b, k, l, d), dtype),
        dense(_channels_last(weight), (), dtype),
        dense(bias, (k, d), dtype),
        silu,
        dense(_channels_last(h0), (s, k, taps, d), dtype),
        path_rows(paths, k, l),
        *(grad.numpy() for grad in (dx, dweight, dbias, dh0)),
        BLOCK,
        lanes,
    )
    parallel(lambda share: conv_backward(share, *args), shares)
    return (
        dx,
        dweight.sum(0).transpose(-1, -2),
        None if bias is None else dbias.sum(0),
        None if h0 is None else dh0.transpose(-1, -2),
    )


causal_conv1d_cpu = define("causal_conv1d_cpu", forward, backward)
