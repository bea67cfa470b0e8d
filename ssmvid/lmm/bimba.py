"""BIMBA: averages, each placed among the tokens, which read them by a bidirectional Mamba."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssmvid.blocks import NORM_EPS
from ssmvid.lmm.mlp import projector
from ssmvid.lmm.pooling import Pool
from ssmvid.lmm.soft import Connector, SoftTokens
from ssmvid.mixers import Mamba
from ssmvid.scan import Grid, ScanPattern


class Bimba(Connector):
    """An MLP, then pooled tokens as queries, evenly among the others in one sequence, `x += mamba(norm(x))` a layer.

    `out_proj` starts as zeros: a fresh connector is exactly an MLP and pooling.

    Args:
        dim: width of a token.
        llm_dim: width of a soft token, and of the Mamba layers.
        pool: frames, rows and columns of tokens a query starts as the mean of.
        depth: Mamba layers.
        state_size: n.
        expand: inner width over `llm_dim`.

    Source: Islam et al. 2025 (BIMBA), arXiv:2503.09590, section 3.2, and its released code.
    """

    def __init__(
        self,
        *,
        dim: int,
        llm_dim: int,
        pool: Sequence[int] = (4, 2, 2),
        depth: int = 1,
        state_size: int = 16,
        expand: int = 2,
    ) -> None:
        super().__init__()
        self.llm_dim = llm_dim
        self.projector = projector(dim, llm_dim)
        self.pool = Pool(stride=pool)
        pattern = ScanPattern.parse(["thw", "thw+rev"])
        self.norms = nn.ModuleList(nn.RMSNorm(llm_dim, eps=NORM_EPS) for _ in range(depth))
        self.mixers = nn.ModuleList()
        for _ in range(depth):
            mixer = Mamba(llm_dim, pattern=pattern, state_size=state_size, expand=expand)
            nn.init.zeros_(mixer.out_proj.weight)
            self.mixers.append(mixer)

    def out_grid(self, grid: Grid) -> Grid:
        return self.pool.out_grid(grid)

    def forward(self, tokens: Tensor, grid: Grid) -> SoftTokens:
        tokens = self.projector(tokens)
        queries, out, rows = self.pool(tokens, grid)
        places = query_places(grid.length, out.length, tokens.device)
        order = torch.arange(grid.length + out.length, device=tokens.device)
        is_query = torch.zeros_like(order, dtype=torch.bool).index_fill_(0, places, True)
        source = torch.where(is_query, grid.length - 1 + is_query.cumsum(0), (~is_query).cumsum(0) - 1)
        x = torch.cat([tokens, queries], dim=1)[:, source]
        for norm, mixer in zip(self.norms, self.mixers):
            x = x + mixer(norm(x), Grid(1, 1, x.shape[1]))
        return SoftTokens(x[:, places], out, rows)


def query_places(tokens: int, queries: int, device: torch.device) -> Tensor:
    """Where the queries stand in a sequence of both: evenly, the last of them at its end, int64 (queries,)."""
    return torch.arange(1, queries + 1, device=device) * (tokens + queries - 1) // queries
