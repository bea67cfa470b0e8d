"""Hydra's mixer: Mamba-2 as a quasiseparable matrix, to both sides of each token with one set of heads."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmvid.layers import at_least_fp32
from ssmvid.mixers.initial import fresh_dt_bias_
from ssmvid.scan import Grid, ScanPattern
from ssmvid_kernels.norm import rms_norm
from ssmvid_kernels.ssd import ssd_scan
from ssmvid_kernels.walk import Walk

CONV_WIDTH = 7
NORM_EPS = 1e-5


class Hydra(nn.Module):
    """k SSD scans that leave out the token they are at, which has a weight of its own; summed, normed and gated.

    There and back along one path, as released, a token's output is what is before it, what is behind it, and itself,
    counted once. The paths share x, the heads' decays and step biases; each has a B, a C and a dt of its own. Keys are
    those of the released block. The convolution, to both sides, goes along the tokens as they lie.

    Args:
        dim: width of a token.
        pattern: the k scan orders, two as released: `['thw', 'thw+rev']`; their outputs are summed.
        state_size: n.
        expand: inner width over `dim`.
        head_dim: channels p of a head.

    Raises:
        ValueError: the pattern is causal in time or takes a mean, or head_dim does not divide the inner width.

    Source: Hwang et al. 2024 (Hydra), arXiv:2407.09941, section 3, and its released code (MIT).
    """

    def __init__(
        self, dim: int, *, pattern: ScanPattern, state_size: int = 64, expand: int = 2, head_dim: int = 64
    ) -> None:
        super().__init__()
        inner, k = expand * dim, len(pattern.orders)
        if pattern.causal_frames is not None or pattern.merge != "sum":
            raise ValueError(
                "Hydra: its convolution goes to both sides and its paths are summed: the pattern must have "
                f"causal_frames None and merge 'sum', got {pattern.causal_frames} and {pattern.merge!r}"
            )
        if inner % head_dim:
            raise ValueError(f"Hydra: head_dim must divide expand * dim = {inner}, got {head_dim}")
        self.pattern = pattern
        self.head_dim = head_dim
        heads, gates = inner // head_dim, 2 * k * state_size
        self.sizes = (inner, inner + gates, k * heads)  # z; x, then B and C of each path; dt of each
        self.in_proj = nn.Linear(dim, sum(self.sizes), bias=False)
        self.conv1d = nn.Conv1d(inner + gates, inner + gates, CONV_WIDTH, padding=CONV_WIDTH // 2, groups=inner + gates)
        self.dt_bias = nn.Parameter(torch.empty(heads))
        self.A_log = nn.Parameter(torch.zeros(heads))
        self.D = nn.Parameter(torch.ones(heads))
        self.fc_D = nn.Linear(inner, heads, bias=False)
        self.norm = nn.RMSNorm(inner, eps=NORM_EPS)
        self.out_proj = nn.Linear(inner, dim, bias=False)
        for weight in (self.in_proj.weight, self.fc_D.weight):
            nn.init.trunc_normal_(weight, std=0.02)
        nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
        fresh_dt_bias_(self.dt_bias)

    def no_weight_decay(self) -> set[str]:
        """As of `Mamba`: what sets decay, step size and skip."""
        return {"A_log", "D", "dt_bias"}

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Mix tokens (b, prefix + grid.length, dim) along every order."""
        walks = self.pattern.walks(grid, tokens.shape[1] - grid.length)
        k, inner = len(walks), self.sizes[0]
        z, xBC, dt = self.in_proj(tokens).split(self.sizes, dim=-1)
        xBC = F.silu(self.conv1d(xBC.mT)).mT
        x, BC = xBC.split((inner, xBC.shape[-1] - inner), dim=-1)
        B, C = BC.unflatten(-1, (k, 2, 1, -1)).movedim(2, 1).unbind(3)  # (b, k, l, 1, n) each
        y, _ = ssd_scan(
            x.unflatten(-1, (-1, self.head_dim)),
            dt.unflatten(-1, (k, -1)).movedim(2, 1),
            -torch.exp(at_least_fp32(self.A_log)).expand(k, -1),
            B,
            C,
            dt_bias=self.dt_bias.expand(k, -1),
            dt_softplus=True,
            walks=walks,
            merge=None,
        )
        y = _one_step_on(y, walks).sum(1) + x.unflatten(-1, (-1, self.head_dim)) * F.linear(
            x, self.fc_D.weight, self.D
        ).unsqueeze(-1)
        return self.out_proj(rms_norm(y.flatten(2), self.norm.weight, z=z, norm_before_gate=True, eps=NORM_EPS).y)


def _one_step_on(y: Tensor, walks: list[Walk]) -> Tensor:
    """Each path's y (b, k, l, heads, p) moved to the row its walk reads next; zero in the row it reads first."""
    rows = torch.stack([walk.rows() for walk in walks]).to(y.device).long()  # (k, l)
    before = torch.empty_like(rows).scatter_(1, rows, rows.roll(1, 1))
    first = torch.zeros_like(rows, dtype=torch.bool).scatter_(1, rows[:, :1], True)
    moved = y.take_along_dim(before[None, :, :, None, None], dim=2)
    return moved.masked_fill(first[None, :, :, None, None], 0)
