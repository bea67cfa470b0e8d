"""Attention as a mixer."""

from __future__ import annotations

import timm.layers
from torch import Tensor, nn

from ssmvid.scan import Grid


class Attention(timm.layers.Attention):
    """Every token attends to all; timm's layer, on torch's scaled dot product.

    Args:
        dim: width of a token.
        heads: it divides `dim`.
    """

    def __init__(self, dim: int, *, heads: int) -> None:
        super().__init__(dim, heads, qkv_bias=True)
        for linear in (self.qkv, self.proj):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Mix tokens (b, l, dim), wherever they lie."""
        return super().forward(tokens)
