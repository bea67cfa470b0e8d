"""The block of diffusion models: what a mixer reads and adds is scaled and shifted by a condition."""

from __future__ import annotations

from timm.layers import DropPath
from torch import Tensor, nn

from ssmvid.blocks.residual import add_and_norm
from ssmvid.scan import Grid


class ModulatedBlock(nn.Module):
    """`residual += DropPath(tokens); x = norm(residual); tokens = x + gate * mixer(x * (1 + scale) + shift)`.

    Shift, scale and gate are each a vector a sample, a linear layer of its condition. They start at zero: the block
    hands on what it normed. One scan order a layer, each layer's another, is ZigMa's; the keys are those of its blocks.

    Args:
        mixer: `mixer(tokens, grid) -> tokens`.
        norm: of width d.
        drop_path: rate at which a sample's *incoming* tokens are dropped: the output of the block before.

    Source: Hu et al. 2024 (ZigMa), arXiv:2403.13802, section 3, and its released code (Apache-2.0); starting at zero:
        Peebles & Xie 2022 (DiT), arXiv:2212.09748, section 3.2.
    """

    def __init__(self, mixer: nn.Module, *, norm: nn.RMSNorm | nn.LayerNorm, drop_path: float = 0.0) -> None:
        super().__init__()
        dim = norm.normalized_shape[-1]
        self.mixer = mixer
        self.norm = norm
        self.drop_path = DropPath(drop_path)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 3 * dim))
        for parameter in self.adaLN_modulation.parameters():
            nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor, residual: Tensor | None, grid: Grid, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and residual (b, l, d) in, tokens and residual out; condition (b, d)."""
        x, stream = add_and_norm(self.drop_path(tokens), residual, self.norm)
        shift, scale, gate = self.adaLN_modulation(condition).unsqueeze(1).chunk(3, dim=-1)  # (b, 1, d) each
        return x + gate * self.mixer(x * (1 + scale) + shift, grid), stream
