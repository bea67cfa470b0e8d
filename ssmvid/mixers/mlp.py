"""The MLP as a layer of a hybrid pattern."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ssmvid.layers import tokenwise
from ssmvid.scan import Grid


class MLP(nn.Module):
    """Two linear layers, GELU between them, on each token by itself.

    Args:
        dim: width of a token.
        expand: hidden width over `dim`.
    """

    def __init__(self, dim: int, *, expand: int = 4) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, expand * dim)
        self.out_proj = nn.Linear(expand * dim, dim)
        for layer in (self.in_proj, self.out_proj):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor, grid: Grid | Sequence[Grid]) -> Tensor:
        """Tokens (b, l, dim) to as many."""
        return tokenwise(lambda tokens: self.out_proj(F.gelu(self.in_proj(tokens))), tokens)

    def init_state(self, batch: int, grid: Grid, prefix: int = 0) -> tuple[()]:
        """There is no state."""
        return ()

    def step(self, tokens: Tensor, grid: Grid | Sequence[Grid], state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        """`forward`."""
        return self(tokens, grid), ()
