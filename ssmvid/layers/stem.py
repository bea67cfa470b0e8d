"""The first convolutions and the downsampling of hierarchical models, frame by frame."""

from __future__ import annotations

from einops import rearrange
from timm.models.swin_transformer import PatchMerging
from torch import Tensor, nn

from ssmvid.layers.maps import to_tokens
from ssmvid.layers.tubelet import ClipEmbed
from ssmvid.scan import Grid


class ConvStem(ClipEmbed):
    """(b, c, T, H, W) -> tokens (b, T * H / h * W / w, d) of convolutions over each frame, and their grid.

    Args:
        convs: from frames (b * T, c, H, W) to maps (b * T, d, H / h, W / w).
        channels: colour channels c.
        tubelet: one frame, and the rows h and columns w that become one token.
    """

    def __init__(self, convs: nn.Sequential, *, channels: int = 3, tubelet: tuple[int, int, int] = (1, 4, 4)) -> None:
        super().__init__(channels, tubelet)
        self.convs = convs

    def forward(self, clip: Tensor) -> tuple[Tensor, Grid]:
        """Embed a clip (b, c, T, H, W) with H and W multiples of h and w; raises as `TubeletEmbed`."""
        grid = self.check(clip)
        return to_tokens(self.convs(rearrange(clip, "b c t h w -> (b t) c h w")), grid.t), grid


class PatchMerge2d(PatchMerging):
    """Swin's patch merging of maps (n, d, h, w): zeros below and to the right where h or w is odd.

    Source: Liu et al. 2021 (Swin), arXiv:2103.14030, section 3.1; timm's layer, which has channels last.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
