"""VMamba's mixer: a depthwise convolution over each frame, then k scans that cross the grid."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmvid.layers import to_maps, to_tokens
from ssmvid.mixers.initial import fresh_decay_, fresh_step_
from ssmvid.mixers.merge import kernel_merge, merge_paths, merged_width, path_gate
from ssmvid.mixers.paths import scan_paths
from ssmvid.scan import Grid, ScanPattern

CONV_WIDTH = 3


class SS2D(nn.Module):
    """k selective scans over one convolved grid, each with its own projections, merged, normed and projected back.

    Args:
        dim: width of a token.
        pattern: the k scan orders, and how their outputs merge.
        state_size: n.
        expand: inner width over `dim`.
        gated: multiply what was normed by a gate branch.
        conv_bias: whether the convolution has a bias.

    Source: Liu et al. 2024 (VMamba), arXiv:2401.10166, section 4.2 and its released code (MIT).
    """

    def __init__(
        self,
        dim: int,
        *,
        pattern: ScanPattern,
        state_size: int = 1,
        expand: float = 2.0,
        gated: bool = False,
        conv_bias: bool = False,
    ) -> None:
        super().__init__()
        self.pattern = pattern
        self.gated = gated
        k, inner, rank = len(pattern.orders), int(expand * dim), math.ceil(dim / 16)
        self.in_proj = nn.Linear(dim, (1 + gated) * inner, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, CONV_WIDTH, padding=CONV_WIDTH // 2, groups=inner, bias=conv_bias)
        self.x_proj_weight = nn.Parameter(torch.empty(k, rank + 2 * state_size, inner))
        self.dt_projs_weight = nn.Parameter(torch.empty(k, inner, rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(k, inner))
        self.A_logs = nn.Parameter(torch.empty(k, inner, state_size))
        self.Ds = nn.Parameter(torch.ones(k, inner))
        width = merged_width(pattern, inner)
        self.path_gate = path_gate(dim, pattern)
        self.out_norm = nn.LayerNorm(width)
        self.out_proj = nn.Linear(width, dim, bias=False)
        for weight in (self.in_proj.weight, self.out_proj.weight, self.x_proj_weight):
            nn.init.trunc_normal_(weight, std=0.02)
        fresh_step_(self.dt_projs_weight, self.dt_projs_bias)
        fresh_decay_(self.A_logs)

    def no_weight_decay(self) -> set[str]:
        """As of `Mamba`: what sets decay, step size and skip."""
        return {"A_logs", "Ds", "dt_projs_bias"}

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Mix tokens (b, grid.length, dim), which have no prefix, along every order."""
        x, merge = self.in_proj(tokens), kernel_merge(self.pattern.merge)
        x, z = x.chunk(2, dim=-1) if self.gated else (x, None)  # (b, l, inner) each
        x = F.silu(to_tokens(self.conv2d(to_maps(x, grid)), grid.t))
        y, _ = scan_paths(
            x.unsqueeze(1),
            self.pattern.walks(grid),
            x_proj=self.x_proj_weight,
            dt_proj=self.dt_projs_weight,
            dt_bias=self.dt_projs_bias,
            A_log=self.A_logs,
            D=self.Ds,
            merge=merge,
        )
        if merge is None:
            y = merge_paths(y, tokens, self.pattern.merge, self.path_gate)
        y = self.out_norm(y)
        if z is not None:
            y = (y.unflatten(-1, (-1, z.shape[-1])) * F.silu(z).unsqueeze(-2)).flatten(2)
        return self.out_proj(y)
