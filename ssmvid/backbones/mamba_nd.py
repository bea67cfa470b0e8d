"""Mamba-ND: one scan a layer, along each axis of the grid in turn, there and back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ssmvid.backbones.base import Stream
from ssmvid.backbones.isotropic import Isotropic
from ssmvid.layers import PatchMerge2d, resize_grid, to_maps, to_tokens
from ssmvid.mixers import Mamba
from ssmvid.parallel import refuse_context
from ssmvid.scan import PATTERNS, Grid, Merge, patterns_by_layer

# Released keys, of the video and of the image models, and ours.
RENAMES = (
    (r"^backbone\.", ""),
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^layers\.\d+\.down_sample_layer\.", "downsample."),
    (r"^(head\.0|ln2)\.", "fc_norm."),
    (r"^head\.(1|fc)\.", "head."),
    (r"^ln1\.", "norm_f."),
)


class MambaND(Isotropic):
    """Tokens of a clip or an image, and logits from their mean.

    Written from the paper; `from_official` turns the released checkpoints' names into these. A block's residual is what
    its mixer reads, and one table has a position for each token of a clip, resized on the fly to a clip of any size.
    The video model's output is held to the released code's. The image model's is not: its parameters are those of the
    release, but in which order it joins the four tokens that become one is taken from Swin.

    Args:
        dim: width of a token.
        depth: blocks.
        halve_after: the block behind which 2 x 2 tokens of a frame become one of the same width; None: none.
        final_norm: norm the features, as the image models do; the classifier norms their mean in any case.
        num_classes: 0 for no classifier.
        num_frames: frames T of the clips the table is made for.
        img_size: H and W, or both, that the table is made for.
        tubelet: frames, rows and columns of a token.
        in_chans: colour channels c.
        state_size: n of the scans.
        orders: the scan orders of every block, or several such lists for `schedule='alternate'`. One order a block
            are the released models; of the orders, only their number changes the parameters.
        schedule: which list a layer takes: 'same', 'alternate' or 'halves'.
        merge: how the outputs along a block's orders merge: 'sum', 'mean', 'concat' or 'gated'; as in `ScanPattern`.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block; the others' grow linearly towards it.

    Raises:
        ValueError: the sizes do not fit the tubelet, there is no block `halve_after`, or an order is unknown.

    Source: Li et al. 2024, arXiv:2402.05892, section 3.
    """

    undecayed = ("pos_embed",)

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        halve_after: int | None = None,
        final_norm: bool = False,
        num_classes: int = 400,
        num_frames: int = 16,
        img_size: int | Sequence[int] = 224,
        tubelet: Sequence[int] = (1, 16, 16),
        in_chans: int = 3,
        state_size: int = 16,
        orders: Sequence[str] | Sequence[Sequence[str]] = PATTERNS["mamba_nd"].orders,
        schedule: str = "alternate",
        merge: Merge = "sum",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        if halve_after is not None and not 0 <= halve_after < depth:
            raise ValueError(f"MambaND: halve_after must be one of {depth} blocks, or None, got {halve_after}")
        patterns = patterns_by_layer(orders, schedule, depth, merge)
        super().__init__(
            mixers=[Mamba(dim, pattern=pattern, state_size=state_size) for pattern in patterns],
            dim=dim,
            num_classes=num_classes,
            num_frames=num_frames,
            img_size=img_size,
            tubelet=tubelet,
            in_chans=in_chans,
            norm=nn.LayerNorm,
            carry="normed",
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )
        if not final_norm:
            self.norm_f = nn.Identity()
        self.fc_norm = nn.LayerNorm(dim)
        self.halve_after = halve_after
        self.downsample = None
        if halve_after is not None:
            self.downsample = PatchMerge2d(dim, out_dim=dim)
            for info in self.feature_info[halve_after:]:
                info["reduction"] = 2 * self.patch_embed.stride[1]

    @staticmethod
    def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Released keys renamed."""
        if not any("patch_embed.projection." in key for key in state):
            return dict(state)
        renamed = {}
        for key, value in state.items():
            for released, own in RENAMES:
                key = re.sub(released, own, key)
            renamed[key] = value
        return renamed

    def positions(self, grid: Grid) -> tuple[Tensor, Tensor]:
        """One table for time and space."""
        refuse_context(f"{type(self).__name__} with a temporal table")
        table = resize_grid(self.pos_embed, self.grid, grid).unflatten(1, (grid.t, -1))
        return table[:, 0, :0], table

    def advance(self, index: int, stream: Stream) -> Stream:
        stream = super().advance(index, stream)
        if self.downsample is None or index != self.halve_after:
            return stream
        maps = self.downsample(to_maps(self.settled(stream).to(stream.tokens.dtype), stream.grid))
        return Stream(to_tokens(maps, stream.grid.t), None, Grid(stream.grid.t, *maps.shape[-2:]))

    def pool(self, features: Tensor) -> Tensor:
        return self.fc_norm(super().pool(features))

    def resize_table(self, key: str, table: Tensor) -> Tensor:
        """`pos_embed` is taken to be of squares and of this model's frames, as a table does not say what it is of."""
        if key != "pos_embed":
            return super().resize_table(key, table)
        side = math.isqrt(table.shape[1] // self.grid.t)
        if side * side * self.grid.t != table.shape[1]:
            raise ValueError(
                f"pos_embed holds {table.shape[1]} positions, not those of {self.grid.t} squares: its frames, rows and "
                "columns are unknown. Load it into a model of its own num_frames and img_size"
            )
        return resize_grid(table, Grid(self.grid.t, side, side), self.grid)

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Downsampling counts to the block before it."""
        matcher = super().group_matcher(coarse)
        blocks = cast(list[object], matcher["blocks"])
        return {**matcher, "blocks": [(r"^downsample", (self.halve_after,)), *blocks]}

    def _make_tables(self) -> None:
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid.length, self.embed_dim))
        self.temporal_pos_embedding = None
