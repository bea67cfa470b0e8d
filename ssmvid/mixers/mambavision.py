"""MambaVision's mixer: one half of the channels is scanned, the other goes around the scan."""

from __future__ import annotations

import math

import timm.layers
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmvid.mixers.initial import fresh_decay_, fresh_step_
from ssmvid.mixers.merge import kernel_merge, refuse_weighted_merge
from ssmvid.mixers.paths import scan_paths
from ssmvid.scan import Grid, ScanPattern

CONV_WIDTH = 3


class MambaVisionMixer(nn.Module):
    """Both halves are convolved, to both sides, the first is scanned, and the two are projected back together.

    Args:
        dim: width of a token, even.
        pattern: the scan orders, which share all parameters, and how their outputs merge; one order as released.
        state_size: n.

    Source: Hatamizadeh & Kautz 2024 (MambaVision), arXiv:2407.08083, section 3.
    """

    def __init__(self, dim: int, *, pattern: ScanPattern, state_size: int = 8) -> None:
        super().__init__()
        refuse_weighted_merge(self, pattern)
        self.pattern = pattern
        half, rank = dim // 2, math.ceil(dim / 16)
        self.in_proj = nn.Linear(dim, dim, bias=False)
        self.conv1d_x = nn.Conv1d(half, half, CONV_WIDTH, padding=CONV_WIDTH // 2, groups=half, bias=False)
        self.conv1d_z = nn.Conv1d(half, half, CONV_WIDTH, padding=CONV_WIDTH // 2, groups=half, bias=False)
        self.x_proj = nn.Linear(half, rank + 2 * state_size, bias=False)
        self.dt_proj = nn.Linear(rank, half)
        self.A_log = nn.Parameter(torch.empty(half, state_size))
        self.D = nn.Parameter(torch.ones(half))
        self.out_proj = nn.Linear(dim, dim, bias=False)
        for linear in (self.in_proj, self.x_proj, self.out_proj):
            nn.init.trunc_normal_(linear.weight, std=0.02)
        fresh_step_(self.dt_proj.weight, self.dt_proj.bias)
        fresh_decay_(self.A_log)

    def no_weight_decay(self) -> set[str]:
        """As of `Mamba`: what sets decay, step size and skip."""
        return {"A_log", "D", "dt_proj.bias"}

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Mix tokens (b, grid.length, dim), which have no prefix."""
        x, z = self.in_proj(tokens).mT.chunk(2, dim=1)  # (b, dim / 2, l) each
        x, z = F.silu(self.conv1d_x(x)).mT, F.silu(self.conv1d_z(z)).mT
        y, _ = scan_paths(
            x.unsqueeze(1),
            self.pattern.walks(grid),
            x_proj=self.x_proj.weight[None],
            dt_proj=self.dt_proj.weight[None],
            dt_bias=2 * self.dt_proj.bias[None],  # the released models were trained with it added twice
            A_log=self.A_log[None],
            D=self.D[None],
            merge=kernel_merge(self.pattern.merge),
        )
        return self.out_proj(torch.cat([y, z], dim=-1))


class MambaVisionAttention(timm.layers.Attention):
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
