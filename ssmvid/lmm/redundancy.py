"""Leave out tokens that show what an earlier frame showed."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ssmvid.lmm.soft import Reducer, SoftTokens, take
from ssmvid.scan import Grid


class Redundancy(Reducer):
    """Of each chunk of frames the first in full, and of all other frames the tokens least like that first one's.

    Tokens are compared by cosine with the one at the same place. The published method keeps those below a threshold,
    so that a video decides how many; here a share of them is kept, so that the number is known.

    Args:
        keep: share kept of the tokens of all but the first frames, in [0, 1]; rounded up.
        chunk: frames of a chunk.

    Raises:
        ValueError: `keep` or `chunk` is out of range.

    Source: Shen et al. 2024 (LongVU), arXiv:2410.17434, its spatial token compression.
    """

    def __init__(self, *, keep: float, chunk: int = 8) -> None:
        super().__init__()
        if not 0 <= keep <= 1 or chunk < 1:
            raise ValueError(f"Redundancy: keep must be in [0, 1] and chunk at least 1, got {keep} and {chunk}")
        self.keep = keep
        self.chunk = chunk

    def out_grid(self, grid: Grid) -> Grid:
        firsts = -(-grid.t // self.chunk) * grid.h * grid.w
        return Grid(1, 1, firsts + math.ceil(self.keep * (grid.length - firsts)))

    def forward(self, tokens: Tensor, grid: Grid) -> SoftTokens:
        out = self.out_grid(grid)
        frame = torch.arange(grid.t, device=tokens.device)
        first = frame - frame % self.chunk
        frames = tokens.unflatten(1, (grid.t, -1))
        alike = F.cosine_similarity(frames.detach(), frames.detach()[:, first], dim=-1)
        alike[:, first == frame] = -2  # below any cosine: kept in any case
        order = alike.flatten(1).argsort(dim=-1, stable=True)
        rows = order[:, : out.length].sort(dim=-1).values
        return SoftTokens(take(tokens, rows), out, rows)
