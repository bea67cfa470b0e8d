"""What an LMM's base model does with images and videos once an encoder is attached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ssmvid.lmm.hf.model import VisualTokenEncoderModel

PIXELS = {"image": "pixel_values", "video": "pixel_values_videos"}
# What a processor may say of pixels that only the LMM's own tower would read; M-RoPE needs the soft tokens' grids.
FOR_THE_TOWER = ("image_grid_thw", "video_grid_thw", "mm_token_type_ids", "image_merge_sizes", "video_merge_sizes")
ONE_PLACEHOLDER = (
    "one placeholder stands for images and videos, so that their order is not known: give all of them as videos, an "
    "image as one of a single tubelet"
)


class ReadsSoftTokens:
    """A base model whose images and videos become soft tokens in its embeddings, where the placeholders are."""

    config: Any
    soft_token_tower: str

    def forward(self, input_ids: Tensor | None = None, **inputs: Any) -> Any:
        """As the class's own.

        Raises:
            ValueError: the placeholders are not as many as the soft tokens, or the encoder refuses the pixels.
        """
        inputs["input_ids"] = input_ids
        if self.has_pixels(inputs):
            inputs = self.read(inputs) | {"input_ids": None}
        return super().forward(**inputs)  # type: ignore[misc]

    def get_image_features(
        self, pixel_values: Tensor | Sequence[Tensor], *_: Any, **__: Any
    ) -> BaseModelOutputWithPooling:
        """Soft tokens of images (n, c, H, W) or n of (c, H, W): `pooler_output` is a list of (m, llm_dim)."""
        return BaseModelOutputWithPooling(pooler_output=self._soft(pixel_values))

    def get_video_features(
        self, pixel_values_videos: Tensor | Sequence[Tensor], *_: Any, **__: Any
    ) -> BaseModelOutputWithPooling:
        """Soft tokens of videos (n, T, c, H, W) or n of (T, c, H, W): `pooler_output` is a list of (m, llm_dim)."""
        return BaseModelOutputWithPooling(pooler_output=self._soft(pixel_values_videos))

    def has_pixels(self, inputs: dict[str, Any]) -> bool:
        """Whether there are images or videos among a call's inputs."""
        return any(inputs.get(name) is not None for name in PIXELS.values())

    def read(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """A call's inputs with `inputs_embeds`, and position ids where the LMM's are those of grids, for pixels."""
        inputs = {key: own for key, own in inputs.items() if key not in FOR_THE_TOWER}
        pixels = {kind: inputs.pop(name, None) for kind, name in PIXELS.items()}
        pixels = {kind: own for kind, own in pixels.items() if own is not None}
        tokens = {kind: self.placeholder(kind) for kind in pixels}
        ids = inputs.get("input_ids")
        if ids is None:
            raise ValueError("images and videos need input_ids, which say where their soft tokens go")
        if len(set(tokens.values())) < len(tokens):
            raise ValueError(f"{type(self).__name__}: {ONE_PLACEHOLDER}")
        embeds = self.get_input_embeddings()(ids)  # type: ignore[attr-defined]
        for kind, own in pixels.items():
            soft, place = torch.cat(self._soft(own)), ids == tokens[kind]
            if place.sum() != len(soft):
                raise ValueError(
                    f"input_ids must have a placeholder ({tokens[kind]}) for each soft token of the {kind}s, "
                    f"{len(soft)}, got {int(place.sum())}: make them by VisualTokenProcessor"
                )
            embeds = embeds.masked_scatter(place[..., None], soft.to(embeds))
        seconds = inputs.pop("second_per_grid_ts", None)
        if hasattr(self, "get_rope_index") and inputs.get("position_ids") is None:
            grids = {f"{kind}_grid_thw": self._grids(own) for kind, own in pixels.items()}
            kinds = sum((ids == tokens[kind]) * value for kind, value in (("image", 1), ("video", 2)) if kind in tokens)
            inputs["position_ids"], self.rope_deltas = self.get_rope_index(
                ids, kinds, attention_mask=inputs.get("attention_mask"), second_per_grid_ts=seconds, **grids
            )
        return inputs | {"inputs_embeds": embeds}

    def placeholder(self, kind: str) -> int:
        """The token that stands for a soft token of an image or a video; they share it where there is only one."""
        return getattr(self.config, f"{kind}_token_id", None) or self.config.image_token_id

    def _init_weights(self, module: Any) -> None:
        """The class's own; of the base model itself it would fill in only what was dropped, LLaVA's newline."""
        if module is not self:
            super()._init_weights(module)  # type: ignore[misc]

    @property
    def _encoder(self) -> VisualTokenEncoderModel:
        return getattr(self, self.soft_token_tower)

    def _soft(self, pixels: Tensor | Sequence[Tensor]) -> list[Tensor]:
        tokens, _, mask = self._encoder(pixels).to_tuple()
        return [own[there] for own, there in zip(tokens, mask)]

    def _grids(self, pixels: Tensor | Sequence[Tensor]) -> Tensor:
        """The soft tokens' grids, (n, 3), in the units of the dropped tower: before it merged side by side tokens."""
        side = self.config.vision_config.spatial_merge_size
        sizes = [(1, *own.shape[-2:]) if own.dim() == 3 else (own.shape[0], *own.shape[-2:]) for own in pixels]
        grids = [self._encoder.soft_grid(*size) for size in sizes]
        return torch.tensor([(grid.t, grid.h * side, grid.w * side) for grid in grids])
