"""MambaVision: two stages of convolutions, then two of scans and attention in windows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ssmvid.backbones.hierarchical import Hierarchical, Run, Stage, drop_path_rates
from ssmvid.blocks import ConvBlock, MlpBlock
from ssmvid.layers import ConvStem, to_maps, to_tokens
from ssmvid.mixers import MambaVisionAttention, MambaVisionMixer
from ssmvid.scan import Grid, ScanPattern, patterns_by_layer

CONV_STAGES = 2
STEM_EPS = 1e-4


class WindowStage(Stage):
    """A stage whose blocks see one window at a time, through all frames; zeros fill the windows at the border.

    Args:
        blocks, downsample: as of `Stage`.
        window: rows and columns of a window.
    """

    def __init__(self, blocks: Sequence[nn.Module], *, downsample: nn.Module, window: int) -> None:
        super().__init__(blocks, downsample=downsample)
        self.window = window

    def mix(self, tokens: Tensor, grid: Grid, run: Run) -> Tensor:
        side = self.window
        maps = F.pad(to_maps(tokens, grid), (0, -grid.w % side, 0, -grid.h % side))
        h, w = maps.shape[-2] // side, maps.shape[-1] // side
        windows = rearrange(maps, "(b t) d (h i) (w j) -> (b h w) (t i j) d", t=grid.t, i=side, j=side)
        windows = super().mix(windows, Grid(grid.t, side, side), run)
        maps = rearrange(windows, "(b h w) (t i j) d -> (b t) d (h i) (w j)", t=grid.t, h=h, w=w, i=side, j=side)
        return to_tokens(maps[..., : grid.h, : grid.w], grid.t)


class TokenBatchNorm(nn.BatchNorm1d):
    """Batch norm of the channels of tokens (b, l, d)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.mT).mT


class MambaVision(Hierarchical):
    """Tokens of an image, and logits from their mean.

    Written from the paper; `from_official` turns released checkpoints into these names. `num_frames > 1` adds a
    temporal table and windows through all frames: a video model, which was not released.

    Args:
        dim: width of a token in the first stage, even; it doubles from stage to stage.
        depths: blocks of each of four stages. In the last two the first half scan, with one more where the number is
            odd, the others attend.
        heads: of the attention in the last two stages.
        windows: rows and columns of a window in them.
        stem_dim: width between the stem's two convolutions.
        mlp_ratio: hidden width of the MLPs over that of a token.
        layer_scale: what each channel of a branch in the last two stages is multiplied by at first; None: no factors.
        state_size: n of the scans.
        num_classes: 0 for no classifier.
        num_frames: frames T of the clips the temporal table is made for.
        img_size: H and W, or both, that the model is made for.
        in_chans: colour channels c.
        orders: the scan orders of every block that scans, or several such lists for `schedule='alternate'`. They share
            all parameters; the mean of their outputs is taken.
        schedule: which list a block takes, counted over those that scan: 'same', 'alternate' or 'halves'.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block; the others' grow linearly towards it.

    Raises:
        ValueError: there are not four depths and two heads and windows, the sizes are no multiples of 4, or an order
            or schedule is unknown or does not fit.

    Source: Hatamizadeh & Kautz 2024, arXiv:2407.08083, section 3.
    """

    def __init__(
        self,
        *,
        dim: int,
        depths: Sequence[int],
        heads: Sequence[int] = (8, 16),
        windows: Sequence[int] = (14, 7),
        stem_dim: int = 64,
        mlp_ratio: float = 4.0,
        layer_scale: float | None = None,
        state_size: int = 8,
        num_classes: int = 1000,
        num_frames: int = 1,
        img_size: int | Sequence[int] = 224,
        in_chans: int = 3,
        orders: Sequence[str] | Sequence[Sequence[str]] = ("thw",),
        schedule: str = "same",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        if (len(depths), len(heads), len(windows)) != (4, 2, 2):
            raise ValueError(
                f"MambaVision: expected depths of four stages, heads and windows of the last two, "
                f"got {list(depths)}, {list(heads)} and {list(windows)}"
            )
        dims = [dim * 2**i for i in range(4)]
        scanning = [(depth + 1) // 2 for depth in depths]
        patterns = iter(patterns_by_layer(orders, schedule, sum(scanning[CONV_STAGES:]), merge="mean"))
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        stages = []
        for i, (width, depth) in enumerate(zip(dims, depths)):
            if i < CONV_STAGES:
                convs = [ConvBlock(width, drop_path=next(rates)) for _ in range(depth)]
                stages.append(Stage(convs, downsample=_halving(width) if i else None))
                continue
            blocks = [
                MlpBlock(mixer, dim=width, mlp_ratio=mlp_ratio, drop_path=next(rates), layer_scale=layer_scale)
                for mixer in _mixers(width, depth, scanning[i], heads[i - CONV_STAGES], patterns, state_size)
            ]
            stages.append(WindowStage(blocks, downsample=_halving(width), window=windows[i - CONV_STAGES]))
        super().__init__(
            patch_embed=_patch_embed(in_chans, stem_dim, dim),
            stages=stages,
            dims=dims,
            norm=TokenBatchNorm(dims[-1]),
            num_classes=num_classes,
            num_frames=num_frames,
            img_size=img_size,
            drop_rate=drop_rate,
        )

    @staticmethod
    def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Released keys renamed; a stage's downsampling is ours of the next."""
        return {_own_key(key): value for key, value in state.items()}

    def run(self, block: nn.Module, *inputs: object) -> Any:
        """As of every backbone, but convolutions are never recomputed: their norms would count a batch twice."""
        return block(*inputs) if isinstance(block, ConvBlock) else super().run(block, *inputs)


def _mixers(
    width: int, depth: int, scanning: int, heads: int, patterns: Iterator[ScanPattern], state_size: int
) -> Iterator[nn.Module]:
    for i in range(depth):
        if i < scanning:
            yield MambaVisionMixer(width, pattern=next(patterns), state_size=state_size)
        else:
            yield MambaVisionAttention(width, heads=heads)


def _own_key(key: str) -> str:
    match = re.match(r"levels\.(\d)\.downsample\.reduction\.0\.(\w+)", key)
    if match:
        return f"layers.{int(match[1]) + 1}.downsample.{match[2]}"
    key = re.sub(r"^levels\.", "layers.", key).replace("patch_embed.conv_down.", "patch_embed.convs.")
    return re.sub(r"\.gamma_([12])$", r".ls\1.gamma", key)


def _patch_embed(in_chans: int, half: int, dim: int) -> ConvStem:
    widths = [(in_chans, half), (half, dim)]
    convs = [
        layer
        for old, new in widths
        for layer in (
            nn.Conv2d(old, new, 3, 2, 1, bias=False),
            nn.BatchNorm2d(new, eps=STEM_EPS),
            nn.ReLU(),
        )
    ]
    return ConvStem(nn.Sequential(*convs), channels=in_chans)


def _halving(width: int) -> nn.Conv2d:
    """To `width` from half of it, at half the rows and columns."""
    return nn.Conv2d(width // 2, width, 3, 2, 1, bias=False)
