"""VideoMamba: bidirectional state-space blocks over all tubelets of a clip, a class token at their head."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from timm.layers import DropPath
from timm.models._features import feature_take_indices
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssmvid.blocks import NORM_EPS, Block, add_and_norm
from ssmvid.layers import TubeletEmbed, resize_spatial, resize_temporal
from ssmvid.mixers import BiMamba
from ssmvid.scan import Grid, patterns_by_layer


class VideoMamba(nn.Module):
    """Tokens of a clip or an image, and logits from its class token.

    The attribute names are those of the released checkpoints, which load with `strict=True`. Position tables are
    resized on the fly to a clip of any size. `num_frames=1` makes the image model, which has no temporal table.

    Args:
        dim: width of a token.
        depth: blocks.
        num_classes: 0 for no classifier.
        num_frames: frames T of the clips the temporal table is made for.
        img_size: H and W, or both, that the spatial table is made for.
        tubelet: frames, rows and columns of a token.
        in_chans: colour channels c.
        state_size: n of the scans.
        orders: the two scan orders of every block, or several such pairs for `schedule='alternate'`.
        schedule: which pair a layer takes: 'same', 'alternate' or 'halves'. It changes no parameter, as orders do not.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block; the others' grow linearly towards it.

    Raises:
        ValueError: the sizes are no multiple of the tubelet, or an order or schedule is unknown or does not fit.

    Source: Li et al. 2024, arXiv:2403.06977, section 3 and its released code (Apache-2.0).
    """

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        num_classes: int = 400,
        num_frames: int = 8,
        img_size: int | Sequence[int] = 224,
        tubelet: Sequence[int] = (1, 16, 16),
        in_chans: int = 3,
        state_size: int = 16,
        orders: Sequence[str] | Sequence[Sequence[str]] = ("thw", "thw+rev"),
        schedule: str = "same",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_features = self.embed_dim = dim
        self.num_classes = num_classes
        self.num_frames = num_frames
        self.num_prefix_tokens = 1
        self.grad_checkpointing = False
        self.grid = _grid(num_frames, img_size, tubelet)  # of the position tables
        self.feature_info = [{"module": f"layers.{i}", "num_chs": dim, "reduction": tubelet[1]} for i in range(depth)]

        t, h, w = tubelet
        image = num_frames == 1
        self.patch_embed = TubeletEmbed(dim, (t, h, w), channels=in_chans, image=image)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid.h * self.grid.w, dim))
        self.temporal_pos_embedding = None if image else nn.Parameter(torch.zeros(1, self.grid.t, dim))
        # A block drops the output of the one before it, norm_f that of the last.
        rates = [0.0] + [drop_path_rate * i / (depth - 1) for i in range(depth - 1)]
        self.layers = nn.ModuleList(
            Block(BiMamba(dim, pattern=pattern, state_size=state_size), dim=dim, drop_path=rate)
            for pattern, rate in zip(patterns_by_layer(orders, schedule, depth), rates)
        )
        self.drop_path = DropPath(drop_path_rate)
        self.norm_f = nn.RMSNorm(dim, eps=NORM_EPS)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = self._make_head()
        self._init_weights()

    def forward(self, clip: Tensor) -> Tensor:
        """Logits (b, num_classes) of a clip (b, c, T, H, W) or of images (b, c, H, W)."""
        return self.forward_head(self.forward_features(clip))

    def forward_tokens(self, clip: Tensor) -> tuple[Tensor, Grid]:
        """Encode a clip.

        Args:
            clip: (b, c, T, H, W), or images (b, c, H, W), normalised; T, H, W multiples of the tubelet.

        Returns:
            tokens (b, l, dim) after the final norm, without the class token, in `thw` order; their grid.

        Raises:
            ValueError, TypeError: the clip has another shape or dtype; got, expected and what to do.
        """
        features, grid = self._features(clip)
        return features[:, self.num_prefix_tokens :], grid

    def forward_features(self, clip: Tensor) -> Tensor:
        """Class token and tokens after the final norm (b, 1 + l, dim); `clip` as in `forward_tokens`."""
        return self._features(clip)[0]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits (b, num_classes) from `forward_features`; with `pre_logits` what the classifier reads, (b, dim)."""
        pooled = self.head_drop(features[:, 0])
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
        """The residual stream after chosen blocks, as timm's backbones give it.

        Args:
            clip: as in `forward_tokens`.
            indices: blocks; an int for the last so many, None for all.
            norm: apply the final norm to each.
            stop_early: run no block past the last one taken.
            output_fmt: 'NCHW' for (b, dim, t, h, w), 'NLC' for tokens (b, l, dim).
            intermediates_only: leave the features out.

        Returns:
            (features as `forward_features`, intermediates), or the intermediates only.

        Raises:
            ValueError: `output_fmt` is unknown.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise ValueError(f"output_fmt must be 'NCHW' or 'NLC', got {output_fmt!r}")
        taken, last = feature_take_indices(len(self.layers), indices)
        tokens, grid = self._embed(clip)
        streams = []
        residual: Tensor | None = None
        for i, block in enumerate(self.layers[: last + 1] if stop_early else self.layers):
            tokens, residual = self._run(block, tokens, residual, grid)
            if i in taken:
                normed, stream = add_and_norm(tokens, residual, self.norm_f)
                streams.append((normed if norm else stream)[:, self.num_prefix_tokens :])
        if output_fmt == "NCHW":
            t, h, w = grid
            streams = [rearrange(x, "b (t h w) d -> b d t h w", t=t, h=h, w=w) for x in streams]
        if intermediates_only:
            return streams
        return add_and_norm(self.drop_path(tokens), residual, self.norm_f)[0], streams

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the blocks, norm and head that `forward_intermediates(indices=...)` does not need; timm's hook."""
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
        self.head = self._make_head().to(self.cls_token)

    def no_weight_decay(self) -> set[str]:
        """Parameters an optimizer must not decay: tables, class token, and what sets the scans' dynamics."""
        scans = {
            f"{name}.{key}"
            for name, mixer in self.named_modules()
            if isinstance(mixer, BiMamba)
            for key in mixer.no_weight_decay()
        }
        tables = {"cls_token", "pos_embed"} | ({"temporal_pos_embedding"} if self.num_frames > 1 else set())
        return tables | scans

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """timm's map from parameter names to layers, for layer-wise learning rates."""
        return {
            "stem": r"^cls_token|pos_embed|temporal_pos_embedding|patch_embed",
            "blocks": [(r"^layers\.(\d+)", None), (r"^norm_f", (99999,))],
        }

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward instead of keeping its activations."""
        self.grad_checkpointing = enable

    def _embed(self, clip: Tensor) -> tuple[Tensor, Grid]:
        if clip.dim() == 4:
            clip = clip.unsqueeze(2)  # an image is a one-frame clip
        tokens, grid = self.patch_embed(clip)
        spatial = resize_spatial(self.pos_embed, self.grid[1:], grid[1:])  # (1, 1 + h w, d)
        tokens = tokens.unflatten(1, (grid.t, -1)) + spatial[:, None, 1:]  # (b, t, h w, d)
        if self.temporal_pos_embedding is not None:
            tokens = tokens + resize_temporal(self.temporal_pos_embedding, grid.t)[:, :, None]
        elif grid.t > 1:
            raise ValueError(
                f"clip must have T = 1 frame for this image model, got T = {clip.shape[2]}: "
                "it has no temporal table; make the model with num_frames > 1"
            )
        cls_token = (self.cls_token + spatial[:, :1]).expand(len(tokens), -1, -1)
        return torch.cat([cls_token, tokens.flatten(1, 2)], dim=1), grid

    def _run(self, block: nn.Module, tokens: Tensor, residual: Tensor | None, grid: Grid) -> tuple[Tensor, Tensor]:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, tokens, residual, grid, use_reentrant=False)
        return block(tokens, residual, grid)

    def _features(self, clip: Tensor) -> tuple[Tensor, Grid]:
        tokens, grid = self._embed(clip)
        residual: Tensor | None = None
        for block in self.layers:
            tokens, residual = self._run(block, tokens, residual, grid)
        return add_and_norm(self.drop_path(tokens), residual, self.norm_f)[0], grid

    def _make_head(self) -> nn.Module:
        if not self.num_classes:
            return nn.Identity()
        head = nn.Linear(self.num_features, self.num_classes)
        nn.init.trunc_normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
        return head

    def _init_weights(self) -> None:
        for key in ("patch_embed.proj.weight", "pos_embed"):
            nn.init.trunc_normal_(self.get_parameter(key), std=0.02)
        nn.init.zeros_(self.get_parameter("patch_embed.proj.bias"))
        with torch.no_grad():
            for name, weight in self.layers.named_parameters():
                if name.endswith("out_proj.weight"):
                    weight.div_(math.sqrt(len(self.layers)))


def _grid(num_frames: int, img_size: int | Sequence[int], tubelet: Sequence[int]) -> Grid:
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    sizes = (num_frames, height, width)
    if any(size < 1 or size % step for size, step in zip(sizes, tubelet, strict=True)):
        raise ValueError(
            f"VideoMamba: num_frames and img_size must be multiples of tubelet={tuple(tubelet)}, got {sizes}"
        )
    t, h, w = (size // step for size, step in zip(sizes, tubelet))
    return Grid(t, h, w)
