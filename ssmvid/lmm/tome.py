"""Merge tokens that are alike, frame by frame, down to a budget."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ssmvid.lmm.soft import Reducer, SoftTokens, take
from ssmvid.scan import Grid


class Merge(Reducer):
    """ToMe: of two halves of a frame's tokens the most alike pairs become their mean, until `keep` are left.

    A round halves the tokens at most. A token that stands for several counts as many in later means.

    Args:
        keep: tokens left of a frame; a frame of fewer keeps all.

    Raises:
        ValueError: `keep` is below 1.

    Source: Bolya et al. 2023 (ToMe), arXiv:2210.09461, section 3 and its released code; 16 tokens a frame before a
        language model: Li et al. 2025 (VideoChat-Flash), arXiv:2501.00574.
    """

    def __init__(self, *, keep: int) -> None:
        super().__init__()
        if keep < 1:
            raise ValueError(f"Merge: keep must be at least 1, got {keep}")
        self.keep = keep

    def out_grid(self, grid: Grid) -> Grid:
        return Grid(grid.t, 1, min(self.keep, grid.h * grid.w))

    def forward(self, tokens: Tensor, grid: Grid) -> SoftTokens:
        b, frame, out = len(tokens), grid.h * grid.w, self.out_grid(grid)
        total = tokens.reshape(b * grid.t, frame, -1)
        size = torch.ones_like(total[..., :1])
        rows = torch.arange(frame, device=tokens.device).expand(b * grid.t, -1)
        while total.shape[1] > out.w:
            total, size, rows = _merge_round(total, size, rows, min(total.shape[1] - out.w, total.shape[1] // 2))
        starts = frame * torch.arange(grid.t, device=tokens.device)[:, None]
        merged = (total / size).reshape(b, out.length, -1)
        return SoftTokens(merged, out, (rows.view(b, grid.t, out.w) + starts).flatten(1))

    @property
    def stream_frames(self) -> int:
        return 1


def _merge_round(total: Tensor, size: Tensor, rows: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Add `count` of the even tokens to the odd ones most like them.

    Args:
        total: sums of the tokens merged so far (n, l, d).
        size: of how many each, (n, l, 1).
        rows: the first of them, (n, l), ascending.

    Returns: The same for l - count tokens.
    """
    unit = F.normalize(total, dim=-1)  # a sum points where its mean does
    score, nearest = (unit[:, ::2] @ unit[:, 1::2].mT).max(dim=-1)
    order = score.argsort(dim=-1, descending=True, stable=True)
    gone, left = order[:, :count], order[:, count:]
    into = nearest.gather(1, gone)
    even, odd = (total[:, ::2], size[:, ::2], rows[:, ::2]), (total[:, 1::2], size[:, 1::2], rows[:, 1::2])
    add = lambda i: odd[i].scatter_add(1, into[..., None].expand_as(take(even[i], gone)), take(even[i], gone))
    first = odd[2].scatter_reduce(1, into, even[2].gather(1, gone), "amin")
    rows = torch.cat([even[2].gather(1, left), first], dim=1)
    rows, place = rows.sort(dim=-1)
    total, size = (take(torch.cat([take(even[i], left), add(i)], dim=1), place) for i in (0, 1))
    return total, size, rows
