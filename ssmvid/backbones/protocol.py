"""What code that knows no model class may ask of a backbone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from ssmvid.backbones.checkpoint import Backbone
from ssmvid.layers import TubeletEmbed
from ssmvid.scan import Grid


class VideoBackbone(Backbone, Protocol):
    """A registered model of ssmvid.

    Attributes:
        num_features: width d of a token.
        num_frames: frames T of the clips it is made for; 1 for an image model.
        patch_embed: cuts a clip into tubelets; `patch_embed.tubelet` holds their frames, rows and columns.
        pretrained_cfg: timm's record of the weights: `mean`, `std`, `input_size` (c, H, W), `hf_hub_id` ...
    """

    num_features: int
    num_frames: int
    patch_embed: TubeletEmbed
    pretrained_cfg: Mapping[str, Any]

    def forward_tokens(self, clip: Tensor) -> tuple[Tensor, Grid]:
        """Tokens (b, l, d) of a clip (b, c, T, H, W), and the grid they lie on."""

    def reset_classifier(self, num_classes: int) -> None:
        """A fresh classifier of another size; 0 for none."""

    def parameters(self) -> Iterator[nn.Parameter]: ...
    def to(self, device: torch.device) -> Self: ...
    def eval(self) -> Self: ...
