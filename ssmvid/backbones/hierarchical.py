"""Backbones of several stages, each of half the resolution of the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ssmvid.backbones.base import Backbone, Stream, grid_for
from ssmvid.layers import ClipEmbed, resize_temporal, to_maps, to_tokens
from ssmvid.scan import Grid

Run = Callable[..., Any]


class Stage(nn.Module):
    """Downsampling, then blocks at one resolution.

    Args:
        blocks: `block(tokens, grid) -> tokens`.
        downsample: of maps (n, d, h, w) to the width and about half the h and w of this stage; None in the first.
    """

    def __init__(self, blocks: Sequence[nn.Module], *, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)

    def forward(self, tokens: Tensor, grid: Grid, run: Run) -> tuple[Tensor, Grid]:
        """Tokens (b, l, d) and their grid in, those after the stage out; `run(block, *inputs)` runs a block."""
        if self.downsample is not None:
            maps = self.downsample(to_maps(tokens, grid))
            tokens, grid = to_tokens(maps, grid.t), Grid(grid.t, *maps.shape[-2:])
        return self.mix(tokens, grid, run), grid

    def mix(self, tokens: Tensor, grid: Grid, run: Run) -> Tensor:
        """The tokens after the blocks."""
        for block in self.blocks:
            tokens = run(block, tokens, grid)
        return tokens


class Hierarchical(Backbone):
    """A convolutional stem, stages, a final norm, and a classifier that reads the mean over all tokens.

    One intermediate a stage, before the next one's downsampling. A clip of any size will do whose H and W are
    multiples of 4; stages round up where they halve. `num_frames=1` makes an image model, more add a temporal table.

    Args:
        patch_embed: the stem.
        stages: one at a quarter of the resolution, one at an eighth, ...
        dims: their widths.
        norm: of tokens (b, l, dims[-1]).
        num_classes: 0 for no classifier.
        num_frames: frames T of the clips the temporal table is made for.
        img_size: H and W, or both, that the model is made for.
        drop_rate: dropout before the classifier.

    Raises:
        ValueError: the sizes do not fit the stem.
    """

    feature_levels = 4  # every stage
    undecayed = ("temporal_pos_embedding",)
    stem = r"^patch_embed|temporal_pos_embedding"

    def __init__(
        self,
        *,
        patch_embed: ClipEmbed,
        stages: Sequence[Stage],
        dims: Sequence[int],
        norm: nn.Module,
        num_classes: int,
        num_frames: int,
        img_size: int | Sequence[int],
        drop_rate: float,
    ) -> None:
        super().__init__(dim=dims[-1], num_classes=num_classes, drop_rate=drop_rate)
        self.num_frames = num_frames
        self.patch_embed = patch_embed
        self.grid = grid_for(type(self).__name__, patch_embed, num_frames, img_size)
        table = nn.Parameter(torch.zeros(1, self.grid.t, dims[0])) if num_frames > 1 else None
        self.temporal_pos_embedding = table
        self.layers = nn.ModuleList(stages)
        self.norm = norm
        step = patch_embed.stride[1]
        self.feature_info = [
            {"module": f"layers.{i}", "num_chs": dim, "reduction": step * 2**i} for i, dim in enumerate(dims)
        ]

    def embed(self, clip: Tensor) -> Stream:
        tokens, grid = self.cut(clip)
        if self.temporal_pos_embedding is not None:
            table = resize_temporal(self.temporal_pos_embedding, grid.t)
            tokens = (tokens.unflatten(1, (grid.t, -1)) + table[:, :, None]).flatten(1, 2)
        return Stream(tokens, None, grid)

    def advance(self, index: int, stream: Stream) -> Stream:
        tokens, grid = self.layers[index](stream.tokens, stream.grid, self.run)
        return Stream(tokens, None, grid)

    def finish(self, stream: Stream) -> Tensor:
        return self.norm(stream.tokens)

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """A layer is a block, with `coarse` a stage; downsampling counts to the first block behind it."""
        blocks = [(r"^layers\.(\d+)\.downsample", (0,)), (r"^layers\.(\d+)\.blocks\.(\d+)", None)]
        return {
            "stem": self.stem,
            "blocks": [*([(r"^layers\.(\d+)", None)] if coarse else blocks), (r"^norm", (99999,))],
        }


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Stochastic depth of each of `depth` blocks: from 0, growing linearly to `rate` in the last."""
    return torch.linspace(0, rate, depth, device="cpu").tolist()
