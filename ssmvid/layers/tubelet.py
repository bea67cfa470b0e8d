"""Cut a clip into tubelets, the tokens of a video."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ssmvid.scan import Grid


class ClipEmbed(nn.Module):
    """What cuts a clip into tokens: which sizes fit, and the grid they give.

    Args:
        channels: colour channels c.
        tubelet: frames, rows and columns of a token.
        stride: frames, rows and columns from one token to the next; None for `tubelet`, which then do not overlap.
    """

    def __init__(
        self, channels: int, tubelet: tuple[int, int, int], stride: tuple[int, int, int] | None = None
    ) -> None:
        super().__init__()
        self.channels = channels
        self.tubelet = tubelet
        self.stride = stride or tubelet

    def grid(self, sizes: Sequence[int]) -> Grid | None:
        """The grid of a clip of `sizes` = T, H, W; None where tubelets do not cover it exactly."""
        steps = [(size - tubelet, stride) for size, tubelet, stride in zip(sizes, self.tubelet, self.stride)]
        if any(rest < 0 or rest % stride for rest, stride in steps):
            return None
        t, h, w = (rest // stride + 1 for rest, stride in steps)
        return Grid(t, h, w)

    @property
    def fitting(self) -> str:
        """Which sizes fit, for messages."""
        if self.stride == self.tubelet:
            return f"multiples of {self.tubelet}"
        return f"{self.tubelet} plus multiples of {self.stride}"

    def check(self, clip: Tensor) -> Grid:
        """The grid of a clip; ValueError or TypeError unless it is (b, c, T, H, W), fits and is floating point."""
        expected = f"(b, {self.channels}, T, H, W) with T, H, W {self.fitting}"
        if clip.dim() != 5 or clip.shape[1] != self.channels:
            raise ValueError(f"clip must be {expected}, got {tuple(clip.shape)}: put the axes in that order")
        grid = self.grid(clip.shape[2:])
        if grid is None:
            raise ValueError(f"clip must be {expected}, got {tuple(clip.shape)}: resize, crop or pad it")
        if not clip.is_floating_point():
            raise TypeError(f"clip must be floating point, got {clip.dtype}: scale and normalise it first")
        return grid


class TubeletEmbed(ClipEmbed):
    """(b, c, T, H, W) -> tokens (b, l, dim) in `thw` order, and the grid they lie on.

    Args:
        dim: width of a token.
        tubelet: frames, rows and columns of a token.
        stride: frames, rows and columns from one token to the next; None for `tubelet`, which then do not overlap.
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
        stride: tuple[int, int, int] | None = None,
        channels: int = 3,
        image: bool = False,
    ) -> None:
        super().__init__(channels, tubelet, stride)
        if image and tubelet[0] != 1:
            raise ValueError(f"TubeletEmbed: an image has one frame a tubelet, got tubelet={tubelet}")
        self.proj: nn.Conv2d | nn.Conv3d
        if image:
            self.proj = nn.Conv2d(channels, dim, tubelet[1:], self.stride[1:])
        else:
            self.proj = nn.Conv3d(channels, dim, tubelet, self.stride)
        nn.init.trunc_normal_(self.proj.weight, std=0.02)
        nn.init.zeros_(self.get_parameter("proj.bias"))

    def forward(self, clip: Tensor) -> tuple[Tensor, Grid]:
        """Embed a clip.

        Args:
            clip: (b, c, T, H, W), floating point, T, H and W as the tubelet and its stride fit.

        Returns:
            tokens (b, l, dim) and their grid.

        Raises:
            ValueError: the clip has another shape; the message holds got, expected and what to do.
            TypeError: the clip is not floating point.
        """
        grid = self.check(clip)
        if self.stride != self.tubelet:
            weight = self.proj.weight.view(-1, clip.shape[1], *self.tubelet)
            return F.conv3d(clip, weight, self.proj.bias, self.stride).flatten(2).mT, grid
        t, h, w = self.tubelet
        # Tubelets do not overlap, so the convolution is one product, whichever way the weight is kept.
        bricks = rearrange(clip, "b c (t i) (h j) (w k) -> b (t h w) (c i j k)", i=t, j=h, k=w)
        return F.linear(bricks, self.proj.weight.flatten(1), self.proj.bias), grid
