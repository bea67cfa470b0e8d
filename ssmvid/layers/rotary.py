"""Rotary positions over the rows and columns of a grid."""

from __future__ import annotations

import torch
from timm.layers import apply_rot_embed
from torch import Tensor

from ssmvid.scan import Grid

BASE = 10000.0


def rotate_grid(tokens: Tensor, grid: Grid, side: int) -> Tensor:
    """Turn each pair of channels by an angle that grows with a token's row, or in the other half with its column.

    Args:
        tokens: (b, prefix + grid.length, d), d a multiple of 4; prefix tokens are not turned.
        grid: the others lie on it, every frame alike.
        side: rows and columns that angles are counted in: those of another grid are stretched to so many.

    Returns:
        (b, prefix + grid.length, d), in the dtype of the tokens.

    Source: Su et al. 2021 (RoPE), arXiv:2104.09864, section 3.4; two axes: Fang et al. 2023 (EVA-02),
        arXiv:2303.11331, as LocalMamba's released code has it.
    """
    dim = tokens.shape[-1] // 2
    rates = BASE ** -(torch.arange(0, dim, 2, device=tokens.device) / dim)
    angles = [
        (torch.arange(size, device=tokens.device) / size * side)[:, None] * rates.repeat_interleave(2)
        for size in grid[1:]
    ]
    rows, columns = angles[0][:, None].expand(-1, grid.w, -1), angles[1].expand(grid.h, -1, -1)
    angle = torch.cat([rows, columns], dim=-1).flatten(0, 1).repeat(grid.t, 1)  # (l, d)
    prefix = tokens.shape[1] - grid.length
    turned = apply_rot_embed(tokens[:, prefix:], angle.sin(), angle.cos())
    return torch.cat([tokens[:, :prefix], turned], dim=1) if prefix else turned
