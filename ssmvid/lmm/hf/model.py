"""The visual token encoder as a model of transformers: `save_pretrained`, `from_pretrained`, `AutoModel`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ssmvid.lmm.hf.config import VisualTokenEncoderConfig
from ssmvid.scan import Grid


@dataclass
class VisualTokenEncoderOutput(ModelOutput):
    """As `ssmvid.lmm.VisualTokens`: soft tokens (b, m, llm_dim), their positions (b, m, 3), and where they are."""

    last_hidden_state: Tensor | None = None
    positions: Tensor | None = None
    mask: Tensor | None = None


class VisualTokenEncoderModel(PreTrainedModel):
    """`encoder`, a `ssmvid.lmm.VisualTokenEncoder`, by its configuration.

    Raises:
        ValueError, TypeError: the configuration names what there is not.
    """

    config_class = VisualTokenEncoderConfig
    main_input_name = "pixel_values_videos"

    def __init__(self, config: VisualTokenEncoderConfig) -> None:
        super().__init__(config)
        self.encoder = config.build()
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """As transformers' own, but weights that are missing or do not fit are refused.

        Raises:
            ValueError: the message lists them.
        """
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        refuse_gaps(info)
        return (model, info) if output_loading_info else model

    def forward(
        self, pixel_values_videos: Tensor | Sequence[Tensor], times: Tensor | Sequence[Tensor] | None = None
    ) -> VisualTokenEncoderOutput:
        """Encode videos.

        Args:
            pixel_values_videos: (b, T, c, H, W), or b of (T, c, H, W), or images, without T; normalised.
            times: seconds of each frame, (b, T) or b of (T,); None: positions have frame numbers.

        Raises:
            ValueError, TypeError: a video does not fit.
        """
        weight = next(self.parameters())
        clips = [_clip(video).to(weight) for video in pixel_values_videos]
        same = len({clip.shape for clip in clips}) == 1
        return VisualTokenEncoderOutput(*self.encoder(torch.stack(clips) if same else clips, times))

    def soft_grid(self, T: int, H: int, W: int) -> Grid:
        """The grid of the soft tokens of a clip; its length is `num_tokens`."""
        return self.encoder.connector.out_grid(self.encoder.grid(T, H, W))

    def num_tokens(self, T: int, H: int, W: int) -> int:
        """Soft tokens of a clip of T frames of H x W pixels."""
        return self.encoder.num_tokens(T, H, W)

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: the parts' constructors did, and transformers' defaults would undo their step sizes and zeros."""


def refuse_gaps(info: Any) -> None:
    """Raise for weights that a checkpoint has not, has in another shape, or has besides, by transformers' report."""
    gaps = {kind: sorted(map(str, info[kind])) for kind in ("missing_keys", "mismatched_keys", "unexpected_keys")}
    if any(gaps.values()):
        told = "; ".join(f"{kind.replace('_', ' ')}: {', '.join(keys)}" for kind, keys in gaps.items() if keys)
        raise ValueError(f"the checkpoint does not fit the model its config describes: {told}")


def _clip(video: Tensor) -> Tensor:
    """(c, T, H, W) of a video (T, c, H, W) or an image (c, H, W)."""
    if video.dim() not in (3, 4):
        raise ValueError(f"a video must be (T, c, H, W), an image (c, H, W), got {tuple(video.shape)}")
    return (video if video.dim() == 4 else video[None]).transpose(0, 1)
