"""PlainMamba's mixer: four snakes through the grid that share all parameters, B told which way each step goes."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmvid.layers import at_least_fp32, to_maps, to_tokens
from ssmvid.mixers.initial import fresh_decay_, fresh_step_
from ssmvid.mixers.merge import kernel_merge, merge_paths, merged_width, path_gate
from ssmvid.parallel import refuse_context
from ssmvid.scan import Grid, ScanPattern
from ssmvid_kernels.s6 import selective_scan

CONV_WIDTH = 7
# Rows of `direction_Bs`. A step to a token that is no neighbour within its frame starts afresh.
START, RIGHT, LEFT, UP, DOWN = range(5)


class PlainMambaMixer(nn.Module):
    """k selective scans with one set of parameters over one convolved grid, merged, gated and projected back.

    As in the released code, which its weights were trained with, only x follows a path: step i takes dt, B and C from
    token i of the grid whichever token it reads, and dt's bias counts twice.

    Args:
        dim: width of a token.
        pattern: the k scan orders, and how their outputs merge.
        state_size: n.
        expand: inner width over `dim`.

    Source: Yang et al. 2024 (PlainMamba), arXiv:2403.17695, section 3 and its released code (Apache-2.0).
    """

    def __init__(self, dim: int, *, pattern: ScanPattern, state_size: int = 16, expand: int = 2) -> None:
        super().__init__()
        self.pattern = pattern
        inner, rank = expand * dim, math.ceil(dim / 16)
        self.sizes = (rank, state_size, state_size)
        self.in_proj = nn.Linear(dim, 2 * inner)
        self.conv2d = nn.Conv2d(inner, inner, CONV_WIDTH, padding=CONV_WIDTH // 2, groups=inner)
        self.x_proj = nn.Linear(inner, sum(self.sizes), bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.empty(inner, state_size))
        self.D = nn.Parameter(torch.ones(inner))
        self.direction_Bs = nn.Parameter(torch.empty(DOWN + 1, state_size))
        self.path_gate = path_gate(dim, pattern)
        self.out_proj = nn.Linear(merged_width(pattern, inner), dim)
        for weight in (self.in_proj.weight, self.x_proj.weight, self.out_proj.weight, self.direction_Bs):
            nn.init.trunc_normal_(weight, std=0.02)
        for linear in (self.in_proj, self.out_proj):
            nn.init.zeros_(linear.bias)
        fresh_step_(self.dt_proj.weight, self.dt_proj.bias)
        fresh_decay_(self.A_log)

    def no_weight_decay(self) -> set[str]:
        """As of `Mamba`: what sets decay, step size and skip; and the directions."""
        return {"A_log", "D", "dt_proj.bias", "direction_Bs"}

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Mix tokens (b, grid.length, dim), which have no prefix, along every order."""
        refuse_context(type(self).__name__)
        x, z = self.in_proj(tokens).chunk(2, dim=-1)  # (b, l, inner) each
        x = F.silu(to_tokens(self.conv2d(to_maps(x, grid)), grid.t))
        steps, headings = _paths(self.pattern, grid, x.device)
        k, merge = len(steps), kernel_merge(self.pattern.merge)
        dt, B, C = self.x_proj(x)[:, steps].split(self.sizes, dim=-1)  # (b, k, l, ...)
        y, _ = selective_scan(
            x,
            F.linear(dt, self.dt_proj.weight),
            -torch.exp(at_least_fp32(self.A_log)).expand(k, -1, -1),
            B + self.direction_Bs[headings],
            C,
            self.D.expand(k, -1),
            z=z if merge else None,
            dt_bias=2 * self.dt_proj.bias.expand(k, -1),
            dt_softplus=True,
            walks=self.pattern.walks(grid),
            merge=merge,
        )
        if merge is None:
            y = merge_paths(y * F.silu(z).unsqueeze(1), tokens, self.pattern.merge, self.path_gate)
        return self.out_proj(y)


@lru_cache(maxsize=64)
def _paths(pattern: ScanPattern, grid: Grid, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of each order, the step that reads each row, and which way the path came to that row: int64 (k, l) both."""
    steps = torch.stack([order.inverse(grid) for order in pattern.orders])
    headings = torch.stack([_headings(order.indices(grid), grid) for order in pattern.orders]).gather(1, steps)
    return steps.to(device), headings.to(device)


def _headings(path: Tensor, grid: Grid) -> Tensor:
    """Which way each step of a path goes."""
    frame, row, column = path // (grid.h * grid.w), path // grid.w % grid.h, path % grid.w
    ways = {RIGHT: (0, 0, 1), LEFT: (0, 0, -1), UP: (0, -1, 0), DOWN: (0, 1, 0)}
    moves = torch.stack([frame, row, column], dim=1).diff(dim=0)
    headings = torch.full_like(path, START)
    for way, move in ways.items():
        headings[1:][(moves == torch.tensor(move)).all(1)] = way
    return headings
