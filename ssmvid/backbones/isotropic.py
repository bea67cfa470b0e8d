"""Backbones of one width and one grid from the first block to the last."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from ssmvid.backbones.base import Backbone, Stream, grid_for
from ssmvid.blocks import NORM_EPS, Block, add_and_norm
from ssmvid.layers import ClipEmbed, TubeletEmbed, join_prefix, resize_spatial, resize_temporal, split_prefix
from ssmvid.parallel import refuse_context
from ssmvid.scan import Grid, Place


def rms_norm(dim: int) -> nn.RMSNorm:
    """The norm of Mamba's blocks."""
    return nn.RMSNorm(dim, eps=NORM_EPS)


class Isotropic(Backbone):
    """Tubelets, position tables and prefix tokens; pre-norm blocks; a final norm.

    Position tables are resized on the fly to a clip of any size. `num_frames=1` makes an image model, which has no
    temporal table. The classifier reads the class token, or the mean over all tokens where there is none.

    Args:
        mixers: the mixer of each block.
        dim: width of a token.
        num_classes: 0 for no classifier.
        num_frames: frames T of the clips the temporal table is made for.
        img_size: H and W, or both, that the spatial table is made for.
        tubelet: frames, rows and columns of a token.
        stride: of the tubelets; None: they do not overlap.
        in_chans: colour channels c.
        patch_embed: cuts clips into tokens, in place of `tubelet`, `stride` and `in_chans`; None: a `TubeletEmbed`.
        prefix: class and register tokens.
        place: where a scan meets them, and where the spatial table has their slots.
        norm: from a width to a block's norm.
        carry: as in `Block`.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block; the others' grow linearly towards it.
        head_dim: what the classifier reads, where that is not `dim`.

    Raises:
        ValueError: the sizes do not fit the tubelet.
    """

    undecayed: tuple[str, ...] = ("cls_token", "pos_embed", "temporal_pos_embedding")

    def __init__(
        self,
        *,
        mixers: Sequence[nn.Module],
        dim: int,
        num_classes: int,
        num_frames: int,
        img_size: int | Sequence[int],
        tubelet: Sequence[int] = (1, 16, 16),
        stride: Sequence[int] | None = None,
        in_chans: int = 3,
        patch_embed: ClipEmbed | None = None,
        prefix: int = 0,
        place: Place = "head",
        norm: Callable[[int], nn.RMSNorm | nn.LayerNorm] = rms_norm,
        carry: Literal["stream", "normed"] = "stream",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        head_dim: int | None = None,
    ) -> None:
        super().__init__(dim=dim, num_classes=num_classes, drop_rate=drop_rate, head_dim=head_dim)
        depth = len(mixers)
        self.num_frames = num_frames
        self.num_prefix_tokens = prefix
        self.place: Place = place
        if patch_embed is None:
            t, h, w = tubelet
            step_t, step_h, step_w = stride or tubelet
            patch_embed = TubeletEmbed(
                dim, (t, h, w), stride=(step_t, step_h, step_w), channels=in_chans, image=num_frames == 1
            )
        self.patch_embed = patch_embed
        step = patch_embed.stride[1]
        self.feature_info = [{"module": f"layers.{i}", "num_chs": dim, "reduction": step} for i in range(depth)]
        self.grid = grid_for(type(self).__name__, self.patch_embed, num_frames, img_size)
        self.cls_token = nn.Parameter(torch.zeros(1, prefix, dim)) if prefix else None
        self._make_tables()
        # A block drops the output of the one before it, norm_f that of the last.
        rates = [0.0] + [drop_path_rate * i / (depth - 1) for i in range(depth - 1)]
        self.layers = nn.ModuleList(
            Block(mixer, norm=norm(dim), drop_path=rate, carry=carry) for mixer, rate in zip(mixers, rates)
        )
        self.drop_path = DropPath(drop_path_rate)
        self.norm_f: nn.RMSNorm | nn.LayerNorm | nn.Identity = norm(dim)
        self._init_weights()

    def embed(self, clip: Tensor) -> Stream:
        tokens, grid = self.cut(clip)
        slots, table = self.positions(grid)
        tokens = (tokens.unflatten(1, (grid.t, -1)) + table).flatten(1, 2)
        if self.cls_token is not None:
            tokens = torch.cat([(self.cls_token + slots).expand(len(tokens), -1, -1), tokens], dim=1)
        return Stream(tokens, None, grid)

    def positions(self, grid: Grid) -> tuple[Tensor, Tensor]:
        """What is added to the prefix tokens, (1, prefix, d), and to those of a grid, (1, t or 1, h * w, d)."""
        slots, spatial = split_prefix(self.pos_embed, self.num_prefix_tokens, self.place)
        return slots, self.grid_positions(spatial, grid)

    def grid_positions(self, spatial: Tensor, grid: Grid) -> Tensor:
        """A spatial table (1, h * w, d), and the temporal one where there is one, at the size of `grid`."""
        table = resize_spatial(spatial, self.grid[1:], grid[1:])[:, None]
        if self.temporal_pos_embedding is None:
            return table
        refuse_context(f"{type(self).__name__} with a temporal table")
        return table + resize_temporal(self.temporal_pos_embedding, grid.t)[:, :, None]

    def advance(self, index: int, stream: Stream) -> Stream:
        tokens, residual = self.run(self.layers[index], *stream)
        return Stream(tokens, residual, stream.grid)

    def settled(self, stream: Stream) -> Tensor:
        return stream.tokens if stream.residual is None else stream.residual + stream.tokens

    def finish(self, stream: Stream) -> Tensor:
        return add_and_norm(self.drop_path(stream.tokens), stream.residual, self.norm_f)[0]

    def pool(self, features: Tensor) -> Tensor:
        if not self.num_prefix_tokens:
            return super().pool(features)
        refuse_context(f"{type(self).__name__} with a class token")
        return features[:, 0]

    def resize_table(self, key: str, table: Tensor) -> Tensor:
        """`pos_embed` is taken to be of a square, as a table does not say how many rows it has."""
        if key != "pos_embed":
            return super().resize_table(key, table)
        slots, spatial = split_prefix(table, self._table_prefix, self.place)
        side = math.isqrt(spatial.shape[1])
        if side * side != spatial.shape[1]:
            raise ValueError(
                f"pos_embed holds {spatial.shape[1]} positions beside the class token's, not those of a square: "
                "its rows and columns are unknown. Load it into a model of its own img_size"
            )
        return join_prefix(slots, resize_spatial(spatial, (side, side), self.grid[1:]), self.place)

    @property
    def _table_prefix(self) -> int:
        """Slots of prefix tokens in `pos_embed`."""
        return self.pos_embed.shape[1] - self.grid.h * self.grid.w

    def _make_tables(self) -> None:
        slots, (t, h, w) = self.num_prefix_tokens, self.grid
        self.pos_embed = nn.Parameter(torch.zeros(1, slots + h * w, self.embed_dim))
        temporal = self.num_frames > 1
        self.temporal_pos_embedding = nn.Parameter(torch.zeros(1, t, self.embed_dim)) if temporal else None

    def _init_weights(self) -> None:
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        with torch.no_grad():
            for name, weight in self.layers.named_parameters():
                if name.endswith("out_proj.weight"):
                    weight.div_(math.sqrt(len(self.layers)))
