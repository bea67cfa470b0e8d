"""VL-Mamba's connector: one Mamba along several scan orders between two linear layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ssmvid.blocks import NORM_EPS
from ssmvid.lmm.soft import Connector, SoftTokens, brick_rows
from ssmvid.mixers import TiedMamba
from ssmvid.scan import Grid, ScanPattern

ONE_TO_ONE = (1, 1, 1)


class VSS(Connector):
    """`linear(norm(mamba(gelu(x)) + x))` of `x = linear(tokens)`: as many soft tokens as tokens.

    Args:
        dim: width of a token.
        llm_dim: width of a soft token, and of the Mamba layer.
        orders: scan orders whose outputs are summed; they share every weight. The bidirectional scan has rows both
            ways, the cross scan columns too.
        state_size: n.
        expand: inner width over `llm_dim`.

    Source: Qiao et al. 2024 (VL-Mamba), arXiv:2403.13600, section 3.2: "VSS-L2" in its table of connectors.
    """

    def __init__(
        self,
        *,
        dim: int,
        llm_dim: int,
        orders: Sequence[str] = ("thw", "thw+rev"),
        state_size: int = 16,
        expand: int = 2,
    ) -> None:
        super().__init__()
        self.llm_dim = llm_dim
        self.in_proj = nn.Linear(dim, llm_dim)
        self.mixer = TiedMamba(llm_dim, pattern=ScanPattern.parse(orders), state_size=state_size, expand=expand)
        self.norm = nn.LayerNorm(llm_dim, eps=NORM_EPS)
        self.out_proj = nn.Linear(llm_dim, llm_dim)

    def out_grid(self, grid: Grid) -> Grid:
        return grid

    def forward(self, tokens: Tensor, grid: Grid) -> SoftTokens:
        x = self.in_proj(tokens)
        soft = self.out_proj(self.norm(self.mixer(F.gelu(x), grid) + x))
        return SoftTokens(soft, grid, brick_rows(grid, ONE_TO_ONE, len(soft), soft.device))
