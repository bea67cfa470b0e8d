"""Mamba's mixer along k scan orders at once: one for Mamba, two for Vim and VideoMamba, three for Vivim."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ssmvid.mixers.initial import fresh_decay_, fresh_step_
from ssmvid.mixers.paths import scan_paths
from ssmvid.scan import Grid, Merge, ScanPattern
from ssmvid_kernels.conv import causal_conv1d
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
        pattern: the k scan orders, and how their outputs merge.
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
        self.out_proj = nn.Linear(inner, dim, bias=False)
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

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Mix tokens along every order.

        Args:
            tokens: (b, prefix + grid.length, dim); prefix tokens (class, registers) lie before the grid.
            grid: the grid the others lie on, in `thw` order.

        Returns:
            (b, prefix + grid.length, dim).
        """
        walks = self.pattern.walks(grid, prefix=tokens.shape[1] - grid.length)
        x, z = self.in_proj(tokens).chunk(2, dim=-1)  # (b, l, inner) each
        return self.out_proj(self._scan(x, walks, z=z, merge=self.pattern.merge))

    def _scan(self, x: Tensor, walks: list[Walk], *, z: Tensor | None, merge: Merge | None) -> Tensor:
        """Convolve and scan x (b, l, inner) along the walks: (b, l, inner), (b, k, l, inner) with `merge=None`."""
        weight, bias = self._stacked("conv1d{}.weight"), self._stacked("conv1d{}.bias")
        x = causal_conv1d(x, weight.squeeze(-2), bias, activation="silu", walks=walks[: len(self.sets)]).y
        return scan_paths(
            x,
            walks,
            x_proj=self._stacked("x_proj{}.weight"),
            dt_proj=self._stacked("dt_proj{}.weight"),
            dt_bias=self._stacked("dt_proj{}.bias"),
            A_log=torch.stack([self.get_parameter(f"A{name}_log") for name in self.paths]),
            D=self._stacked("D{}"),
            z=z,
            merge=merge,
        )

    def _stacked(self, key: str) -> Tensor:
        """A parameter of every set, stacked on a leading axis."""
        return torch.stack([self.get_parameter(key.format(name)) for name in self.sets])
