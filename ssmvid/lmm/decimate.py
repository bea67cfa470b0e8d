"""Keep the tokens for which a scan takes its largest steps."""

from __future__ import annotations

import math

from torch import Tensor, nn

from ssmvid.blocks import NORM_EPS
from ssmvid.lmm.soft import Reducer, SoftTokens, take
from ssmvid.mixers import DecimatedMamba
from ssmvid.scan import Grid


class Decimate(Reducer):
    """`tokens + mamba(norm(tokens))` on the tokens of the largest step sizes dt alone, which stay in order.

    Args:
        dim: width of a token.
        keep: share of the tokens that is kept, in (0, 1]; rounded up.
        least: tokens kept at least, of shorter clips all.
        state_size: n.
        expand: inner width over `dim`.

    Raises:
        ValueError: `keep` is out of range.

    Source: Ben-Kish et al. 2024 (DeciMamba), arXiv:2406.14528, section 4.
    """

    def __init__(self, *, dim: int, keep: float, least: int = 20, state_size: int = 16, expand: int = 2) -> None:
        super().__init__()
        if not 0 < keep <= 1:
            raise ValueError(f"Decimate: keep must be in (0, 1], got {keep}")
        self.keep = keep
        self.least = least
        self.norm = nn.RMSNorm(dim, eps=NORM_EPS)
        self.mixer = DecimatedMamba(dim, state_size=state_size, expand=expand)

    def out_grid(self, grid: Grid) -> Grid:
        return Grid(1, 1, min(grid.length, max(self.least, math.ceil(self.keep * grid.length))))

    def forward(self, tokens: Tensor, grid: Grid) -> SoftTokens:
        out = self.out_grid(grid)
        mixed, rows = self.mixer.decimate(self.norm(tokens), out.length)
        return SoftTokens(take(tokens, rows) + mixed, out, rows)
