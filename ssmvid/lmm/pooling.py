"""Average pooling over bricks of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ssmvid.layers import at_least_fp32
from ssmvid.lmm.soft import Reducer, SoftTokens, brick_rows, strided
from ssmvid.scan import Grid


class Pool(Reducer):
    """The mean of each brick of tokens; at the far end of an axis a brick may be smaller.

    Args:
        stride: frames, rows and columns of tokens in a brick.

    Raises:
        ValueError: a number below 1.
    """

    def __init__(self, *, stride: Sequence[int]) -> None:
        super().__init__()
        if len(stride) != 3 or min(stride) < 1:
            raise ValueError(f"Pool: stride must be 3 numbers of at least 1, got {tuple(stride)}")
        self.stride = tuple(stride)

    def out_grid(self, grid: Grid) -> Grid:
        return strided(grid, self.stride)

    def forward(self, tokens: Tensor, grid: Grid) -> SoftTokens:
        maps = rearrange(tokens, "b (t h w) d -> b d t h w", t=grid.t, h=grid.h, w=grid.w)
        brick = [min(size, step) for size, step in zip(grid, self.stride)]
        # In fp32: torch has no such pooling of bf16 on a CPU.
        pooled = F.avg_pool3d(at_least_fp32(maps), brick, ceil_mode=True, count_include_pad=False).to(tokens.dtype)
        rows = brick_rows(grid, self.stride, len(tokens), tokens.device)
        return SoftTokens(rearrange(pooled, "b d t h w -> b (t h w) d"), self.out_grid(grid), rows)

    @property
    def stream_frames(self) -> int:
        return self.stride[0]
