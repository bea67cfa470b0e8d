"""BiMamba: Mamba's mixer along two scan orders at once, each with its own parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ssmvid.layers import at_least_fp32
from ssmvid.scan import Grid, ScanPattern
from ssmvid_kernels.conv import causal_conv1d
from ssmvid_kernels.s6 import selective_scan

# What the names of the two parameter sets end in, in Vim's and VideoMamba's checkpoints.
SETS = ("", "_b")
CONV_WIDTH = 4
# The step sizes a fresh mixer starts from: log-uniform between these.
DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 1e-1, 1e-4


class BiMamba(nn.Module):
    """Two selective scans over one projected sequence, merged, gated and projected back.

    Both paths run in one convolution and one scan: no permuted copy of the tokens is made.
    Orders hold no parameters: the same weights run along any two orders.

    Args:
        dim: width of a token.
        pattern: the two scan orders, and how their outputs merge.
        state_size: n.
        expand: inner width over `dim`.

    Raises:
        ValueError: the pattern does not hold two orders.

    Source: "bimamba v2" of Zhu et al. 2024 (Vim), arXiv:2401.09417, algorithm 1 (merge 'mean' in the released code);
        Li et al. 2024 (VideoMamba), arXiv:2403.06977 (merge 'sum'); initial values: Gu & Dao 2023, arXiv:2312.00752.
    """

    def __init__(self, dim: int, *, pattern: ScanPattern, state_size: int = 16, expand: int = 2) -> None:
        super().__init__()
        if len(pattern.orders) != len(SETS):
            raise ValueError(
                f"BiMamba has {len(SETS)} parameter sets, so a pattern holds {len(SETS)} orders, got "
                f"{len(pattern.orders)} ({', '.join(map(str, pattern.orders))}); more orders alternate by layer"
            )
        self.pattern = pattern
        self.sizes = (math.ceil(dim / 16), state_size, state_size)  # rank of dt, n of B, n of C
        inner, rank = expand * dim, self.sizes[0]
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        for name in SETS:
            self.add_module(f"conv1d{name}", nn.Conv1d(inner, inner, CONV_WIDTH, groups=inner))
            self.add_module(f"x_proj{name}", nn.Linear(inner, sum(self.sizes), bias=False))
            self.add_module(f"dt_proj{name}", nn.Linear(rank, inner))
            self.register_parameter(f"A{name}_log", nn.Parameter(torch.empty(inner, state_size)))
            self.register_parameter(f"D{name}", nn.Parameter(torch.empty(inner)))
        self.out_proj = nn.Linear(inner, dim, bias=False)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw fresh weights; `out_proj` is for a backbone to scale by its depth."""
        nn.init.trunc_normal_(self.in_proj.weight, std=0.02)
        nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
        for name in SETS:
            parameter = lambda key, name=name: self.get_parameter(key.format(name))
            nn.init.trunc_normal_(parameter("x_proj{}.weight"), std=0.02)
            bound = self.sizes[0] ** -0.5
            nn.init.uniform_(parameter("dt_proj{}.weight"), -bound, bound)
            nn.init.ones_(parameter("D{}"))
            with torch.no_grad():
                A_log, dt_bias = parameter("A{}_log"), parameter("dt_proj{}.bias")
                A_log.copy_(torch.arange(1, A_log.shape[1] + 1).log().expand_as(A_log))
                dt = dt_bias.uniform_(math.log(DT_MIN), math.log(DT_MAX)).exp_().clamp_(min=DT_FLOOR)
                dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus of it is dt

    def no_weight_decay(self) -> set[str]:
        """The parameters that set decay, step size and skip: weight decay would pull them to a fixed dynamics."""
        return {key.format(name) for name in SETS for key in ("A{}_log", "D{}", "dt_proj{}.bias")}

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Mix tokens along both orders.

        Args:
            tokens: (b, prefix + grid.length, dim); prefix tokens (class, registers) lie before the grid.
            grid: the grid the others lie on, in `thw` order.

        Returns:
            (b, prefix + grid.length, dim).
        """
        walks = self.pattern.walks(grid, prefix=tokens.shape[1] - grid.length)
        x, z = self.in_proj(tokens).chunk(2, dim=-1)  # (b, l, inner) each
        weight, bias = self._both("conv1d{}.weight"), self._both("conv1d{}.bias")
        x = causal_conv1d(x, weight.squeeze(-2), bias, activation="silu", walks=walks).y  # (b, k, l, inner)
        dt, B, C = torch.matmul(x, self._both("x_proj{}.weight").mT).split(self.sizes, dim=-1)
        y = selective_scan(
            x,
            torch.matmul(dt, self._both("dt_proj{}.weight").mT),  # (b, k, l, inner)
            -torch.exp(at_least_fp32(self._both("A{}_log"))),
            B,
            C,
            self._both("D{}"),
            z=z,
            dt_bias=self._both("dt_proj{}.bias"),
            dt_softplus=True,
            walks=walks,
            merge=self.pattern.merge,
        ).y
        return self.out_proj(y)

    def _both(self, key: str) -> Tensor:
        """A parameter of both sets, stacked on a leading k axis."""
        return torch.stack([self.get_parameter(key.format(name)) for name in SETS])
