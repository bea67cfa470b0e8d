"""Chunked matmuls in plain PyTorch: any device, any transform of torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, islice, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, einsum

from .. import walk
from ..checks import clip_bounds
from ..walk import Walk
from .steps import step_sizes

CHUNK = 64


def ssd_scan_torch(
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
    dt_limit: tuple[float, float] | None,
    summed: bool,
    chunk: int | None,
    walks: Sequence[Walk] | None,
) -> tuple[Tensor, Tensor]:
    """As `ssd_scan_reference`, all chunks at once but for the states passed between them; memory is linear in l.

    This implementation copies its inputs into path order, chunk by chunk: axes b k c (chunk) i (step) g r (head of
    the group) p n.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    (b, k, l, heads), p, g = dt.shape, x.shape[-1], B.shape[-2]
    r, size = heads // g, chunk or CHUNK
    # Whole rows advance together; packed clips one after the other.
    clips = [(0, l)] if cu_seqlens is None else [(start, end) for _, start, end in clip_bounds(b, l, cu_seqlens)]
    steps, inside, places = _chunked(clips, size, x.device)
    rows = torch.arange(l, device=x.device).expand(k, l) if paths is None else walk.decode(paths, l).long()
    path, at = torch.arange(k, device=x.device)[:, None, None], rows[:, steps]

    xs = x.to(dtype).expand(b, k, l, heads, p)[:, path, at].unflatten(-2, (g, r))
    Bs, Cs = (t.to(dtype)[:, path, at] for t in (B, C))
    dts = step_sizes(dt.to(dtype), None if dt_bias is None else dt_bias.to(dtype)[:, None], dt_softplus, dt_limit)
    dts = dts[:, path, at] * inside[..., None]  # past the end of a clip a step of 0 changes nothing
    decay = _decays((dts * A.to(dtype)[:, None, None]).movedim(-1, -2).unflatten(-2, (g, r)))  # b k c g r i+1 j+1
    drive = dts.unflatten(-1, (g, r))[..., None] * xs

    new = einsum("bkcjgn,bkcgrj,bkcjgrp->bkcgrpn", Bs, decay[..., -1, 1:], drive)
    before, h = _pass_states(new, decay[..., -1, 0], _chunk_ranges(clips, size), h0, g)
    # y_i: what the steps j <= i of the chunk put in, and what came in with the state.
    weights = einsum("bkcign,bkcjgn->bkcgij", Cs, Bs)[:, :, :, :, None] * decay[..., 1:, 1:]
    y = einsum("bkcgrij,bkcjgrp->bkcigrp", weights, drive)
    y = y + einsum("bkcign,bkcgrpn,bkcgri->bkcigrp", Cs, before, decay[..., 1:, 0])

    y = y.flatten(-3, -2).flatten(2, 3)[:, :, places]
    if paths is not None:
        y = y[:, path[:, 0], rows.argsort(-1)]
    if D is not None:
        y = y + D.to(dtype)[:, None] * x.to(dtype)
    return (y.sum(1) if summed else y).to(x.dtype), h


def _chunk_ranges(clips: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """First chunk and end of every clip: none is shared by two."""
    return list(pairwise(accumulate((-(-(end - start) // size) for start, end in clips), initial=0)))


def _chunked(clips: list[tuple[int, int]], size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Steps (chunks, size), which of them are inside their clip, and where each of the l steps stands among them.

    Past the end of a clip its last step stands: what a clip holds never meets another.
    """
    firsts = [(first, end) for start, end in clips for first in range(start, end, size)]
    first, end = torch.tensor(firsts, dtype=torch.int64).view(-1, 2, 1).unbind(1)
    steps = first + torch.arange(size)
    places = [torch.arange(i * size, i * size + min(size, end - first)) for i, (first, end) in enumerate(firsts)]
    filled = torch.cat([torch.arange(0), *places])
    return torch.minimum(steps, end - 1).to(device), (steps < end).to(device), filled.to(device)


def _decays(a: Tensor) -> Tensor:
    """(..., i, j): exp(a_j + .. + a_(i-1)), the decay from before step j to before step i; 0 where i < j.

    Every sum is one of its own steps only: a difference of running sums would carry the rounding of all before it,
    and so would its gradient. Masked before exp: exp of what lies above the diagonal may be infinite.
    """
    size = a.shape[-1]
    own = a[..., None].expand(*a.shape, size + 1).tril()
    sums = F.pad(own.cumsum(-2), (0, 0, 1, 0))
    later = torch.ones(size + 1, size + 1, dtype=torch.bool, device=a.device).triu(1)
    return sums.masked_fill(later, -torch.inf).exp()


def _pass_states(
    new: Tensor, decay: Tensor, ranges: list[tuple[int, int]], h0: Tensor | None, g: int
) -> tuple[Tensor, Tensor]:
    """The state before every chunk (as `new`) and after every clip (s, k, heads, p, n)."""
    b, k, _, _, r, p, n = new.shape
    befores, afters = [new[:, :, :0]], [new.new_zeros(0, k, g, r, p, n)]
    # Unbound and not indexed: the gradient of one chunk's index is as long as all chunks.
    chunks = zip(decay.unbind(2), new.unbind(2))
    for i, (first, last) in enumerate(ranges):
        h = new.new_zeros(b, k, g, r, p, n)
        if h0 is not None:
            h = (h0 if len(ranges) == 1 else h0[i : i + 1]).to(new.dtype).unflatten(2, (g, r))
        for decay_c, new_c in islice(chunks, last - first):
            befores.append(h[:, :, None])
            h = decay_c[..., None, None] * h + new_c
        afters.append(h)
    return torch.cat(befores, 2), torch.cat(afters).flatten(2, 3)
