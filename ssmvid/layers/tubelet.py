"""Cut a clip into tubelets, the tokens of a video."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ssmvid.scan import Grid


class TubeletEmbed(nn.Module):
    """(b, c, T, H, W) -> tokens (b, l, dim) in `thw` order, and the grid they lie on.

    Args:
        dim: width of a token.
        tubelet: frames, rows and columns of a token.
        channels: colour channels c.
        image: keep the weight as an image model's checkpoint does, (dim, c, h, w), not (dim, c, t, h, w).

    Raises:
        ValueError: `image` with a tubelet of several frames.
    """

    def __init__(
        self,
        dim: int,
        tubelet: tuple[int, int, int] = (1, 16, 16),
        *,
        channels: int = 3,
        image: bool = False,
    ) -> None:
        super().__init__()
        if image and tubelet[0] != 1:
            raise ValueError(f"TubeletEmbed: an image has one frame a tubelet, got tubelet={tubelet}")
        self.tubelet = tubelet
        self.proj: nn.Conv2d | nn.Conv3d
        if image:
            self.proj = nn.Conv2d(channels, dim, tubelet[1:], tubelet[1:])
        else:
            self.proj = nn.Conv3d(channels, dim, tubelet, tubelet)

    def forward(self, clip: Tensor) -> tuple[Tensor, Grid]:
        """Embed a clip.

        Args:
            clip: (b, c, T, H, W), floating point, T, H and W multiples of the tubelet.

        Returns:
            tokens (b, l, dim) and their grid.

        Raises:
            ValueError: the clip has another shape; the message holds got, expected and what to do.
            TypeError: the clip is not floating point.
        """
        self._check(clip)
        t, h, w = self.tubelet
        # Tubelets do not overlap, so the convolution is one product, whichever way the weight is kept.
        bricks = rearrange(clip, "b c (t i) (h j) (w k) -> b t h w (c i j k)", i=t, j=h, k=w)
        tokens = F.linear(bricks, self.proj.weight.flatten(1), self.proj.bias)
        return tokens.flatten(1, 3), Grid(*tokens.shape[1:4])

    def _check(self, clip: Tensor) -> None:
        channels = self.proj.in_channels
        expected = f"(b, {channels}, T, H, W) with T, H, W multiples of {self.tubelet}"
        if clip.dim() != 5 or clip.shape[1] != channels:
            raise ValueError(f"clip must be {expected}, got {tuple(clip.shape)}: put the axes in that order")
        if any(size == 0 or size % step for size, step in zip(clip.shape[2:], self.tubelet)):
            raise ValueError(f"clip must be {expected}, got {tuple(clip.shape)}: resize, crop or pad it")
        if not clip.is_floating_point():
            raise TypeError(f"clip must be floating point, got {clip.dtype}: scale and normalise it first")
