"""Chunked scan in plain PyTorch: any device, any transform of torch; a chunk of states in memory at a time."""

from __future__ import annotations

from functools import partial
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .. import walk
from ..checks import clip_bounds
from ..transforms import transforming

CHUNK = 32


def selective_scan_torch(
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
    *,
    dt_softplus: bool,
    summed: bool,
) -> tuple[Tensor, Tensor]:
    """As `selective_scan_reference`, in log2(chunk) passes a chunk; the backward computes the chunks again."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    b, k, l, d = dt.shape
    tokens = [x.expand(b, k, l, d), dt, B, C]
    if paths is not None:
        path, rows = torch.arange(k, device=x.device)[:, None], walk.decode(paths, l).long()
        tokens = [tensor[:, path, rows] for tensor in tokens]
    # Whole rows are scanned together; packed clips one after the other.
    clips = [(0, l)] if cu_seqlens is None else [(start, end) for _, start, end in clip_bounds(b, l, cu_seqlens)]
    sizes = [min(CHUNK, end - first) for start, end in clips for first in range(start, end, CHUNK)]
    # Split and not sliced: the gradient of a slice is as long as the row, and one a chunk would be quadratic in l.
    chunks = zip(*(tensor.split(sizes, dim=2) for tensor in tokens))

    def scan_chunk(h: Tensor, *tokens: Tensor) -> tuple[Tensor, Tensor]:
        x_i, dt_i, B_i, C_i = (tensor.to(dtype) for tensor in tokens)
        if dt_bias is not None:
            dt_i = dt_i + dt_bias.to(dtype)[:, None]
        if dt_softplus:
            dt_i = F.softplus(dt_i)
        decay = torch.exp(dt_i[..., None] * A.to(dtype)[:, None])
        drive = (dt_i * x_i)[..., None] * B_i[..., None, :]
        states = _prefixes(decay, drive, h)
        y = (states * C_i[..., None, :]).sum(-1)
        return (y if D is None else y + D.to(dtype)[:, None] * x_i), states[:, :, -1]

    # torch.func has no checkpoints: under it the states of all chunks are kept.
    run = scan_chunk if transforming() else partial(checkpoint, scan_chunk, use_reentrant=False)
    ys, hs = [x.new_zeros(b, k, 0, d, dtype=dtype)], [x.new_zeros(0, k, d, A.shape[-1], dtype=dtype)]
    for i, (start, end) in enumerate(clips):
        h = x.new_zeros(b, k, d, A.shape[-1], dtype=dtype)
        if h0 is not None:
            h = (h0 if cu_seqlens is None else h0[i : i + 1]).to(dtype)
        for chunk in islice(chunks, -(-(end - start) // CHUNK)):
            y, h = run(h, *chunk)
            ys.append(y)
        hs.append(h)
    y = torch.cat(ys, dim=2)
    if paths is not None:
        y = y[:, path, rows.argsort(1)]
    return (y.sum(1) if summed else y).to(x.dtype), torch.cat(hs)


def _prefixes(decay: Tensor, drive: Tensor, h: Tensor) -> Tensor:
    """Every h_i = decay_i h_(i-1) + drive_i along dim 2, from `h`, in log2 passes (Hillis & Steele 1986)."""
    drive = torch.cat([drive[:, :, :1] + decay[:, :, :1] * h[:, :, None], drive[:, :, 1:]], dim=2)
    stride = 1
    while stride < drive.shape[2]:
        later = drive[:, :, stride:] + decay[:, :, stride:] * drive[:, :, :-stride]
        drive = torch.cat([drive[:, :, :stride], later], dim=2)
        decay = torch.cat([decay[:, :, :stride], decay[:, :, stride:] * decay[:, :, :-stride]], dim=2)
        stride *= 2
    return drive
