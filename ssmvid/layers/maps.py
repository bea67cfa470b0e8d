"""Tokens as feature maps, frame by frame, for convolutions and windows."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor

from ssmvid.scan import Grid


def to_maps(tokens: Tensor, grid: Grid) -> Tensor:
    """Tokens (b, t * h * w, d) as a map a frame (b * t, d, h, w), channels last in memory: a view."""
    return rearrange(tokens, "b (t h w) d -> (b t) d h w", t=grid.t, h=grid.h, w=grid.w)


def to_tokens(maps: Tensor, frames: int) -> Tensor:
    """The inverse: maps (b * t, d, h, w) as tokens (b, t * h * w, d), t = `frames`."""
    return rearrange(maps, "(b t) d h w -> b (t h w) d", t=frames)
