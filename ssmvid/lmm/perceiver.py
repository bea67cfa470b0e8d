"""A control: a fixed number of learned queries that attend to all tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import Tensor, nn

from ssmvid.layers import sincos_table
from ssmvid.lmm.soft import Connector, SoftTokens
from ssmvid.scan import Grid


class CrossAttention(nn.Module):
    """Queries attend to tokens and to themselves, then an MLP; both with a residual.

    Args:
        dim: width of queries and tokens.
        head_dim: channels of a head.
    """

    def __init__(self, dim: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.norm_tokens = nn.LayerNorm(dim)
        self.norm_queries = nn.LayerNorm(dim)
        self.q = nn.Linear(dim, dim, bias=False)
        self.kv = nn.Linear(dim, 2 * dim, bias=False)
        self.out_proj = nn.Linear(dim, dim, bias=False)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim, bias=False)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Queries (b, m, dim) over tokens (b, l, dim): (b, m, dim)."""
        normed = self.norm_queries(queries)
        k, v = self.kv(torch.cat([self.norm_tokens(tokens), normed], dim=1)).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for t in (self.q(normed), k, v))
        queries = queries + self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return queries + self.mlp(self.norm_mlp(queries))


class Perceiver(Connector):
    """Perceiver resampler: `queries` soft tokens whatever the clip; tokens are told apart in time by a sine table.

    Args:
        dim: width of a token.
        llm_dim: width of a soft token.
        queries: soft tokens of a clip.
        depth: layers of cross-attention.
        head_dim: channels of a head.

    Raises:
        ValueError: head_dim does not divide dim.

    Source: Alayrac et al. 2022 (Flamingo), arXiv:2204.14198, section 3.1 and figure 5, which learns a table of time.
    """

    def __init__(self, *, dim: int, llm_dim: int, queries: int = 64, depth: int = 6, head_dim: int = 64) -> None:
        super().__init__()
        if dim % head_dim:
            raise ValueError(f"Perceiver: head_dim must divide dim = {dim}, got {head_dim}")
        self.llm_dim = llm_dim
        self.queries = nn.Parameter(torch.empty(1, queries, dim))
        nn.init.trunc_normal_(self.queries, std=0.02)
        self.layers = nn.ModuleList(CrossAttention(dim, head_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.projector = nn.Linear(dim, llm_dim)

    def no_weight_decay(self) -> set[str]:
        """The queries: decay would pull them together."""
        return {"queries"}

    def out_grid(self, grid: Grid) -> Grid:
        return Grid(1, 1, self.queries.shape[1])

    def forward(self, tokens: Tensor, grid: Grid) -> SoftTokens:
        times = sincos_table(grid.t, tokens.shape[-1], device=tokens.device).to(tokens)
        tokens = (tokens.unflatten(1, (grid.t, -1)) + times.unsqueeze(2)).flatten(1, 2)
        queries = self.queries.expand(len(tokens), -1, -1)
        for layer in self.layers:
            queries = layer(queries, tokens)
        rows = torch.zeros(queries.shape[:2], dtype=torch.int64, device=tokens.device)
        return SoftTokens(self.projector(self.norm(queries)), self.out_grid(grid), rows)
