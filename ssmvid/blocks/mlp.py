"""The transformer's pre-norm block with any mixer in place of attention."""

from __future__ import annotations

from timm.layers import DropPath, LayerScale, Mlp
from torch import Tensor, nn

from ssmvid.layers import tokenwise
from ssmvid.scan import Grid


class MlpBlock(nn.Module):
    """`tokens += DropPath(mixer(norm1(tokens)))`, then `tokens += DropPath(mlp(norm2(tokens)))`.

    Args:
        mixer: `mixer(tokens, grid) -> tokens`.
        dim: width of a token.
        mlp_ratio: hidden width of the MLP over `dim`; 0: no MLP.
        drop_path: rate at which a sample's branches are dropped.
        layer_scale: what each channel of a branch is multiplied by at first; None: no such factors.

    Source: Liu et al. 2024 (VMamba), arXiv:2401.10166, section 4; the factors: Touvron et al. 2021 (CaiT),
        arXiv:2103.17239, section 2.
    """

    def __init__(
        self,
        mixer: nn.Module,
        *,
        dim: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__()
        scale = lambda: nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.drop_path = DropPath(drop_path)
        self.norm1 = nn.LayerNorm(dim)
        self.mixer = mixer
        self.ls1 = scale()
        self.mlp = None
        if mlp_ratio:
            self.norm2 = nn.LayerNorm(dim)
            self.mlp = Mlp(dim, int(dim * mlp_ratio))
            self.ls2 = scale()
            for linear in (self.mlp.fc1, self.mlp.fc2):
                nn.init.trunc_normal_(linear.weight, std=0.02)
                nn.init.zeros_(linear.bias)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Tokens (b, l, dim) in, tokens out."""
        tokens = tokens + self.drop_path(self.ls1(self.mixer(self.norm1(tokens), grid)))
        mlp = self.mlp
        if mlp is None:
            return tokens
        return tokens + self.drop_path(tokenwise(lambda tokens: self.ls2(mlp(self.norm2(tokens))), tokens))
