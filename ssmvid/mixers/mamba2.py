"""Mamba-2's mixer with its heads shared out over k scan orders: as much work as along one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssmvid.layers import at_least_fp32, before_scan, tokenwise
from ssmvid.mixers.initial import fresh_dt_bias_
from ssmvid.mixers.mamba import CONV_WIDTH
from ssmvid.mixers.state import MambaState, refuse_stream
from ssmvid.parallel import causal_conv1d, path_directions, ssd_scan
from ssmvid.scan import Grid, Layout, ScanPattern
from ssmvid_kernels.norm import rms_norm

NORM_EPS = 1e-5
A_MIN, A_MAX = 1.0, 16.0


class Mamba2(nn.Module):
    """k SSD scans over one projected sequence, each of its own heads along its own order; gated norm; projected back.

    A path has inner / k channels, and a B and a C of its own, so k paths cost what one does; the gate, the norm over
    all channels and the projections are common. All paths run in one convolution and one scan: no permuted copy of
    the tokens is made. With one order keys and numerics are those of mamba_ssm's Mamba2; with k the rows of `in_proj`
    are z, then x, B and C of each path, then dt. Which orders hold no parameters, only how many. Their outputs lie
    side by side: the pattern's `merge` is not read.

    Args:
        dim: width of a token.
        pattern: the k scan orders; with `causal_frames` the mixer is causal in time and streams.
        state_size: n.
        expand: inner width over `dim`.
        head_dim: channels p of a head.

    Raises:
        ValueError: the pattern holds no order, or the heads cannot be shared out evenly.

    Source: Dao & Gu 2024 (Mamba-2), arXiv:2405.21060, figure 6 and section 8; channels shared out over scan orders:
        Shaker et al. 2024 (GroupMamba), arXiv:2407.13772.
    """

    def __init__(
        self, dim: int, *, pattern: ScanPattern, state_size: int = 128, expand: int = 2, head_dim: int = 64
    ) -> None:
        super().__init__()
        inner, k = expand * dim, len(pattern.orders)
        if not k:
            raise ValueError("Mamba2: a pattern holds at least one scan order, got none")
        if inner % (k * head_dim):
            raise ValueError(
                f"Mamba2: {k} scan orders and heads of {head_dim} channels need an inner width that is a multiple of "
                f"{k * head_dim}, got expand * dim = {inner}: change head_dim or the number of orders"
            )
        self.pattern = pattern
        self.head_dim = head_dim
        self.state_size = state_size
        heads, channels = inner // head_dim, inner + 2 * k * state_size
        self.sizes = (inner, channels, heads)  # z; x, B, C of every path; dt
        self.in_proj = nn.Linear(dim, sum(self.sizes), bias=False)
        self.conv1d = nn.Conv1d(channels, channels, CONV_WIDTH, groups=channels)
        self.dt_bias = nn.Parameter(torch.empty(heads))
        self.A_log = nn.Parameter(torch.empty(heads))
        self.D = nn.Parameter(torch.empty(heads))
        self.norm = nn.RMSNorm(inner, eps=NORM_EPS)
        self.out_proj = nn.Linear(inner, dim, bias=False)
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Draw fresh weights; `out_proj` is for a backbone to scale by its depth."""
        nn.init.trunc_normal_(self.in_proj.weight, std=0.02)
        nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
        fresh_dt_bias_(self.dt_bias)
        self.A_log.uniform_(A_MIN, A_MAX).log_()
        nn.init.ones_(self.D)

    def no_weight_decay(self) -> set[str]:
        """The parameters that set decay, step size and skip: weight decay would pull them to a fixed dynamics."""
        return {"A_log", "D", "dt_bias"}

    def forward(self, tokens: Tensor, grid: Grid | Sequence[Grid]) -> Tensor:
        """Mix tokens along every order.

        Args:
            tokens: (b, l, dim): prefix tokens (class, registers), then the grid's; causal in time: so in each segment.
            grid: the grid they lie on, in `thw` order; several for clips packed one after another (b = 1).

        Returns:
            (b, l, dim).

        Raises:
            ValueError: the tokens do not fit the grid.
        """
        return self._mix(tokens, grid, None)[0]

    def init_state(self, batch: int, grid: Grid, prefix: int = 0) -> MambaState:
        """The state before a stream's first segment: zeros, of one size whatever the grid and the prefix.

        Raises:
            ValueError: the mixer is not causal in time.
        """
        refuse_stream(self, self.pattern)
        k, (_, channels, heads) = len(self.pattern.orders), self.sizes
        like = at_least_fp32(self.A_log.detach())
        return MambaState(
            like.new_zeros(batch, k, channels // k, CONV_WIDTH - 1),
            like.new_zeros(batch, k, heads // k, self.head_dim, self.state_size),
        )

    def step(self, tokens: Tensor, grid: Grid | Sequence[Grid], state: MambaState) -> tuple[Tensor, MambaState]:
        """`forward` on the next segments of a stream, on from `state`, and the state after them.

        Only the stream's very last segment may have fewer frames than the others.

        Raises:
            ValueError: the mixer is not causal in time, or the tokens do not fit the grid.
        """
        refuse_stream(self, self.pattern)
        return self._mix(tokens, grid, state)

    def _mix(self, tokens: Tensor, grid: Grid | Sequence[Grid], state: MambaState | None) -> tuple[Tensor, MambaState]:
        layout = Layout.of(grid, tokens.shape[1], self.pattern.causal_frames)
        walks, k, n = self.pattern.walks(grid, layout.prefix), len(self.pattern.orders), self.state_size
        packed, reverse = layout.cu_seqlens(tokens.device), path_directions(self.pattern, layout)

        def convolved(tokens: Tensor, h0: Tensor | None) -> tuple[Tensor, ...]:
            z, xBC, dt = self.in_proj(tokens).split(self.sizes, dim=-1)
            xBC, conv = causal_conv1d(
                xBC.unflatten(-1, (k, -1)).transpose(1, 2),  # (b, k, l, x B C)
                self.conv1d.weight.view(k, -1, CONV_WIDTH),
                self.get_parameter("conv1d.bias").view(k, -1),
                activation="silu",
                walks=walks,
                reverse=reverse,
                h0=h0,
                cu_seqlens=packed,
            )
            return z, xBC, dt, conv

        z, xBC, dt, conv = before_scan(convolved, tokens, None if state is None else state.conv)
        x, B, C = xBC.split((xBC.shape[-1] - 2 * n, n, n), dim=-1)
        y, ssm = ssd_scan(
            x.unflatten(-1, (-1, self.head_dim)),
            dt.unflatten(-1, (k, -1)).transpose(1, 2),
            -torch.exp(at_least_fp32(self.A_log)).view(k, -1),
            B.unsqueeze(-2),
            C.unsqueeze(-2),
            self.D.view(k, -1),
            dt_bias=self.dt_bias.view(k, -1),
            dt_softplus=True,
            walks=walks,
            reverse=reverse,
            merge=None,
            h0=None if state is None else state.ssm,
            cu_seqlens=packed,
        )
        y = y.transpose(1, 2).flatten(2)  # (b, l, inner): path after path, as z
        return tokenwise(self._gated, y, z), MambaState(conv, ssm)

    def _gated(self, y: Tensor, z: Tensor) -> Tensor:
        return self.out_proj(rms_norm(y, self.norm.weight, z=z, norm_before_gate=False, eps=NORM_EPS).y)
