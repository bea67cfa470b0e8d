"""A residual block of convolutions, frame by frame."""

from __future__ import annotations

import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from ssmvid.layers import to_maps, to_tokens
from ssmvid.scan import Grid


class ConvBlock(nn.Module):
    """`tokens += DropPath(norm2(conv2(gelu(norm1(conv1(tokens))))))`, the norms over the batch.

    Args:
        dim: width of a token.
        drop_path: rate at which a sample's branch is dropped.

    Source: Hatamizadeh & Kautz 2024 (MambaVision), arXiv:2407.08083, section 3.
    """

    def __init__(self, dim: int, *, drop_path: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(dim)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Tokens (b, l, dim) in, tokens out."""
        maps = F.gelu(self.norm1(self.conv1(to_maps(tokens, grid))), approximate="tanh")
        return tokens + self.drop_path(to_tokens(self.norm2(self.conv2(maps)), grid.t))
