"""Mamba's mixer along k scan orders at once: one for Mamba, two for Vim and VideoMamba, three for Vivim."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmvid.layers import at_least_fp32
from ssmvid.mixers.initial import fresh_decay_, fresh_step_
from ssmvid.mixers.merge import kernel_merge, merge_paths, merged_width, path_gate
from ssmvid.mixers.paths import scan_paths
from ssmvid.mixers.state import MambaState, refuse_stream
from ssmvid.parallel import causal_conv1d, path_directions
from ssmvid.scan import Grid, Layout, ScanPattern
from ssmvid_kernels.s6 import Merge
from ssmvid_kernels.walk import Walk

CONV_WIDTH = 4


def set_names(count: int) -> tuple[str, ...]:
    """What the names of `count` parameter sets end in: as in Mamba's, Vim's and Vivim's checkpoints, then numbers."""
    return ("", "_b", "_s")[:count] if count <= 3 else tuple(f"_{i}" for i in range(count))


class Mamba(nn.Module):
    """k selective scans over one projected sequence, merged, gated and projected back.

    All paths run in one convolution and one scan: no permuted copy of the tokens is made.
    Which orders hold no parameters, only how many: the same weights run along any k orders.

    Args:
        dim: width of a token.
        pattern: the k scan orders, and how their outputs merge; with `causal_frames` the mixer is causal in time and
            streams.
        state_size: n.
        expand: inner width over `dim`.
        shared: the paths have one convolution, along the first of them, and one set of projections; only A is each
            path's own. With two paths that is "bimamba v1", without it "bimamba v2".

    Raises:
        ValueError: the pattern holds no order.

    Source: Gu & Dao 2023 (Mamba), arXiv:2312.00752, figure 3; two paths: Zhu et al. 2024 (Vim), arXiv:2401.09417,
        algorithm 1 (merge 'mean' in the released code), Li et al. 2024 (VideoMamba), arXiv:2403.06977 ('sum').
    """

    def __init__(
        self, dim: int, *, pattern: ScanPattern, state_size: int = 16, expand: int = 2, shared: bool = False
    ) -> None:
        super().__init__()
        if not pattern.orders:
            raise ValueError(f"{type(self).__name__}: a pattern holds at least one scan order, got none")
        self.pattern = pattern
        self.paths = set_names(len(pattern.orders))
        self.sets = self.paths[:1] if shared else self.paths
        self.sizes = (math.ceil(dim / 16), state_size, state_size)  # rank of dt, n of B, n of C
        inner, rank = expand * dim, self.sizes[0]
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        for name in self.sets:
            self.add_module(f"conv1d{name}", nn.Conv1d(inner, inner, CONV_WIDTH, groups=inner))
            self.add_module(f"x_proj{name}", nn.Linear(inner, sum(self.sizes), bias=False))
            self.add_module(f"dt_proj{name}", nn.Linear(rank, inner))
            self.register_parameter(f"D{name}", nn.Parameter(torch.empty(inner)))
        for name in self.paths:
            self.register_parameter(f"A{name}_log", nn.Parameter(torch.empty(inner, state_size)))
        self.path_gate = path_gate(dim, pattern)
        self.out_proj = nn.Linear(merged_width(pattern, inner), dim, bias=False)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw fresh weights; `out_proj` is for a backbone to scale by its depth."""
        nn.init.trunc_normal_(self.in_proj.weight, std=0.02)
        nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
        for name in self.sets:
            nn.init.trunc_normal_(self.get_parameter(f"x_proj{name}.weight"), std=0.02)
            nn.init.ones_(self.get_parameter(f"D{name}"))
            fresh_step_(self.get_parameter(f"dt_proj{name}.weight"), self.get_parameter(f"dt_proj{name}.bias"))
        for name in self.paths:
            fresh_decay_(self.get_parameter(f"A{name}_log"))

    def no_weight_decay(self) -> set[str]:
        """The parameters that set decay, step size and skip: weight decay would pull them to a fixed dynamics."""
        own = {key.format(name) for name in self.sets for key in ("D{}", "dt_proj{}.bias")}
        return own | {f"A{name}_log" for name in self.paths}

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
        A_log = at_least_fp32(self.get_parameter(f"A{self.paths[0]}_log").detach())  # (inner, n)
        return MambaState(
            A_log.new_zeros(batch, len(self.sets), len(A_log), CONV_WIDTH - 1),
            A_log.new_zeros(batch, len(self.paths), *A_log.shape),
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
        walks, packed = self.pattern.walks(grid, layout.prefix), layout.cu_seqlens(tokens.device)
        x, z = self.in_proj(tokens).chunk(2, dim=-1)  # (b, l, inner) each
        reverse, merge = path_directions(self.pattern, layout), kernel_merge(self.pattern.merge)
        gate = z if merge else None
        y, after = self._scan(x, walks, z=gate, reverse=reverse, merge=merge, state=state, packed=packed)
        if merge is None:
            y = merge_paths(y * F.silu(z).unsqueeze(1), tokens, self.pattern.merge, self.path_gate)
        return self.out_proj(y), after

    def _scan(
        self,
        x: Tensor,
        walks: list[Walk],
        *,
        z: Tensor | None,
        merge: Merge | None,
        reverse: Sequence[bool] | None = None,
        state: MambaState | None = None,
        packed: Tensor | None = None,
    ) -> tuple[Tensor, MambaState]:
        """Convolve and scan x (b, l, inner) along the walks: (b, l, inner), (b, k, l, inner) with `merge=None`."""
        conv, ssm = (None, None) if state is None else state
        x, conv = self._convolved(x, walks, reverse=reverse, h0=conv, packed=packed)
        y, ssm = self._scanned(x, walks, z=z, reverse=reverse, merge=merge, h0=ssm, packed=packed)
        return y, MambaState(conv, ssm)

    def _convolved(
        self,
        x: Tensor,
        walks: list[Walk],
        *,
        reverse: Sequence[bool] | None = None,
        h0: Tensor | None = None,
        packed: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """x (b, l, inner) convolved along each walk, (b, k, l, inner), k = 1 where they share it; the last inputs."""
        return causal_conv1d(
            x,
            self._stacked("conv1d{}.weight").squeeze(-2),
            self._stacked("conv1d{}.bias"),
            activation="silu",
            walks=walks[: len(self.sets)],
            reverse=None if reverse is None else reverse[: len(self.sets)],
            h0=h0,
            cu_seqlens=packed,
        )

    def _scanned(
        self,
        x: Tensor,
        walks: list[Walk],
        *,
        z: Tensor | None,
        merge: Merge | None,
        reverse: Sequence[bool] | None = None,
        h0: Tensor | None = None,
        packed: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Scan what was convolved, and the last states."""
        return scan_paths(
            x,
            walks,
            x_proj=self._stacked("x_proj{}.weight"),
            dt_proj=self._stacked("dt_proj{}.weight"),
            dt_bias=self._stacked("dt_proj{}.bias"),
            A_log=torch.stack([self.get_parameter(f"A{name}_log") for name in self.paths]),
            D=self._stacked("D{}"),
            z=z,
            reverse=reverse,
            merge=merge,
            h0=h0,
            cu_seqlens=packed,
        )

    def _stacked(self, key: str) -> Tensor:
        """A parameter of every set, stacked on a leading axis."""
        return torch.stack([self.get_parameter(key.format(name)) for name in self.sets])
