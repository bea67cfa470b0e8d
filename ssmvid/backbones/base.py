"""What every backbone can do, timm's methods among it, over the few steps a family defines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from einops import rearrange
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from ssmvid.backbones.hub import HubModel
from ssmvid.layers import ClipEmbed, recompute, resize_temporal
from ssmvid.parallel import active_context, mean_tokens, split_frames
from ssmvid.scan import Grid


class Stream(NamedTuple):
    """What flows from layer to layer: tokens (b, prefix + l, d), the residual beside them or None, and their grid."""

    tokens: Tensor
    residual: Tensor | None
    grid: Grid


class Backbone(nn.Module, HubModel):
    """Tokens of a clip or an image, and logits.

    A family sets the attributes below and defines `embed`, `advance` and `finish`. Attribute names are those of the
    released checkpoints, or `from_official` turns them into these.

    `save_pretrained`, `push_to_hub` and `from_pretrained` are Hugging Face's: see `hub`.

    Args:
        dim: width of a token of the last layer, `num_features`.
        num_classes: 0 for no classifier.
        drop_rate: dropout before the classifier.
    """

    num_frames: int  # T that the position tables are made for
    grid: Grid  # tokens they are made for
    patch_embed: ClipEmbed  # cuts a clip into tokens
    pretrained_cfg: Mapping[str, Any]  # timm's record of the weights: mean, std, input_size (c, H, W), hf_hub_id ...
    layers: nn.ModuleList  # one intermediate each
    feature_info: list[dict[str, object]]  # timm's: one entry a layer
    feature_levels: int = 3  # the last layers that `features_only` gives unless told, as many as of timm's ViTs
    frames_together: int = 1  # token frames that lie on one rank where a clip lies on several
    num_prefix_tokens: int = 0  # class and register tokens, before the grid
    undecayed: tuple[str, ...] = ()  # own parameters that weight decay would only shrink: tables and tokens
    stem: str = r"^cls_token|pos_embed|temporal_pos_embedding|patch_embed"  # names, for layer-wise learning rates

    def __init__(self, *, dim: int, num_classes: int, drop_rate: float = 0.0, head_dim: int | None = None) -> None:
        super().__init__()
        self.num_features = self.embed_dim = dim
        self.head_hidden_size = head_dim or dim  # what the classifier reads
        self.num_classes = num_classes
        self.grad_checkpointing = False
        self.head_drop = nn.Dropout(drop_rate)
        self.head = self._make_head()

    def embed(self, clip: Tensor) -> Stream:
        """The stream before the first layer, of a clip (b, c, T, H, W)."""
        raise NotImplementedError

    def advance(self, index: int, stream: Stream) -> Stream:
        """The stream after layer `index`."""
        raise NotImplementedError

    def finish(self, stream: Stream) -> Tensor:
        """Features (b, prefix + l, d) after the final norm."""
        raise NotImplementedError

    def settled(self, stream: Stream) -> Tensor:
        """What an intermediate shows: tokens (b, prefix + l, d), the residual added."""
        return stream.tokens

    def pool(self, features: Tensor) -> Tensor:
        """What the classifier reads, (b, head_hidden_size), from `forward_features`."""
        return mean_tokens(features)

    def stretch(self, clip: Tensor) -> Tensor:
        """This rank's frames of a clip (b, c, T, H, W) that lies on several ranks; all of it outside a context.

        Raises:
            ValueError: there are fewer frames, segments or windows than ranks.
        """
        context = active_context()
        if context is None:
            return clip
        (own,) = split_frames([self.patch_embed.check(clip).t], context.size, self.frames_together)[context.rank]
        step = self.patch_embed.tubelet[0]
        return clip[:, :, own.start * step : own.stop * step]

    @staticmethod
    def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A released state_dict under this class's keys; one that is under them already is left alone."""
        return dict(state)

    def resize_table(self, key: str, table: Tensor) -> Tensor:
        """A checkpoint's position table at the size of this model's; any other tensor is left alone.

        Raises:
            ValueError: the table does not say what size it was made for.
        """
        return resize_temporal(table, self.grid.t) if key == "temporal_pos_embedding" else table

    def cut(self, clip: Tensor) -> tuple[Tensor, Grid]:
        """The first tokens of a clip or of images, before any table, and their grid."""
        if clip.dim() == 4:
            clip = clip.unsqueeze(2)  # an image is a one-frame clip
        tokens, grid = self.patch_embed(clip)
        if self.num_frames == 1 and grid.t > 1:
            raise ValueError(
                f"clip must have T = 1 frame for this image model, got T = {clip.shape[2]}: "
                "it has no temporal table; make the model with num_frames > 1"
            )
        return tokens, grid

    def forward(self, clip: Tensor) -> Tensor:
        """Logits (b, num_classes) of a clip (b, c, T, H, W) or of images (b, c, H, W)."""
        return self.forward_head(self.forward_features(clip))

    def forward_tokens(self, clip: Tensor) -> tuple[Tensor, Grid]:
        """Encode a clip.

        Args:
            clip: (b, c, T, H, W), or images (b, c, H, W), normalised; T, H, W multiples of the tubelet.

        Returns:
            tokens (b, l, dim) after the final norm, without prefix tokens, in `thw` order; their grid.

        Raises:
            ValueError, TypeError: the clip has another shape or dtype; got, expected and what to do.
        """
        features, grid = self._features(clip)
        return features[:, self.num_prefix_tokens :], grid

    def forward_features(self, clip: Tensor) -> Tensor:
        """Prefix tokens, then the grid's, after the final norm (b, prefix + l, dim); `clip` as in `forward_tokens`."""
        return self._features(clip)[0]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits (b, num_classes) from `forward_features`; with `pre_logits` what the classifier reads."""
        pooled = self.head_drop(self.pool(features))
        return pooled if pre_logits else self.head(pooled)

    def forward_intermediates(
        self,
        clip: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The stream after chosen layers, as timm's backbones give it.

        Args:
            clip: as in `forward_tokens`.
            indices: layers; an int for the last so many, None for all.
            norm: apply the final norm to each; only where all layers have its width.
            stop_early: run no layer past the last one taken.
            output_fmt: 'NCHW' for (b, dim, t, h, w), 'NLC' for tokens (b, l, dim).
            intermediates_only: leave the features out.

        Returns:
            (features as `forward_features`, intermediates), or the intermediates only.

        Raises:
            ValueError: `output_fmt` is unknown, or `norm` does not fit.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise ValueError(f"output_fmt must be 'NCHW' or 'NLC', got {output_fmt!r}")
        taken, last = feature_take_indices(len(self.layers), indices)
        if norm and any(self.feature_info[i]["num_chs"] != self.num_features for i in taken):
            raise ValueError(
                f"norm=True needs layers of width {self.num_features}, the last one's: take others without"
            )
        stream, intermediates = self.embed(clip), []
        for i in range(last + 1 if stop_early else len(self.layers)):
            stream = self.advance(i, stream)
            if i in taken:
                tokens = self.finish(stream) if norm else self.settled(stream)
                intermediates.append(_formatted(tokens[:, self.num_prefix_tokens :], stream.grid, output_fmt))
        return intermediates if intermediates_only else (self.finish(stream), intermediates)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the layers, norm and head that `forward_intermediates(indices=...)` does not need; timm's hook."""
        taken, last = feature_take_indices(len(self.layers), indices)
        self.layers = self.layers[: last + 1]
        if prune_head:
            self.reset_classifier(0)
        return taken

    def get_classifier(self) -> nn.Module:
        """The last linear layer, or the identity."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """A fresh classifier of another size; 0 for none."""
        self.num_classes = num_classes
        self.remember(num_classes=num_classes)
        self.head = self._make_head().to(next(self.parameters()))

    def no_weight_decay(self) -> set[str]:
        """Parameters an optimizer must not decay: tables, tokens, and what sets the scans' dynamics."""
        names = {name for name in self.undecayed if getattr(self, name, None) is not None}
        for prefix, module in self.named_modules():
            if module is not self and hasattr(module, "no_weight_decay"):
                names |= {f"{prefix}.{name}" for name in module.no_weight_decay()}
        return names

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """timm's map from parameter names to layers, for layer-wise learning rates."""
        return {"stem": self.stem, "blocks": [(r"^layers\.(\d+)", None), (r"^norm_f|fc_norm|neck", (99999,))]}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward instead of keeping its activations."""
        self.grad_checkpointing = enable

    def run(self, block: nn.Module, *inputs: object) -> Any:
        """`block(*inputs)`, recomputed in the backward where gradient checkpointing is on."""
        if self.grad_checkpointing and torch.is_grad_enabled():
            return recompute(block, *inputs)
        return block(*inputs)

    def _features(self, clip: Tensor) -> tuple[Tensor, Grid]:
        stream = self.embed(clip)
        for i in range(len(self.layers)):
            stream = self.advance(i, stream)
        return self.finish(stream), stream.grid

    def _make_head(self) -> nn.Module:
        if not self.num_classes:
            return nn.Identity()
        head = nn.Linear(self.head_hidden_size, self.num_classes)
        nn.init.trunc_normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
        return head


def grid_for(name: str, embed: ClipEmbed, num_frames: int, img_size: int | Sequence[int]) -> Grid:
    """The grid of a clip of `num_frames` and `img_size` (H and W, or both); ValueError with `name` unless they fit."""
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    grid = embed.grid((num_frames, height, width))
    if grid is None:
        raise ValueError(
            f"{name}: num_frames and img_size must be {embed.fitting}, as the tubelet says, "
            f"got {(num_frames, height, width)}"
        )
    return grid


def _formatted(tokens: Tensor, grid: Grid, output_fmt: str) -> Tensor:
    if output_fmt == "NLC":
        return tokens
    return rearrange(tokens, "b (t h w) d -> b d t h w", t=grid.t, h=grid.h, w=grid.w)
