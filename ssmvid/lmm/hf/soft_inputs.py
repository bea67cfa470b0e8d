"""What an LMM's base model does with images and videos once an encoder is attached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ssmvid.lmm.hf.model import VisualTokenEncoderModel
from ssmvid.lmm.hf.plug import ALL_FRAMES, PLUG_POINTS, PlugPoint
from ssmvid.lmm.hf.positions import Span, multimodal_positions

PIXELS = {"image": "pixel_values", "video": "pixel_values_videos"}
# What a processor may say of pixels as the dropped tower would have cut them.
FOR_THE_TOWER = ("image_grid_thw", "video_grid_thw", "mm_token_type_ids", "image_merge_sizes", "video_merge_sizes")
ONE_PLACEHOLDER = (
    "one placeholder stands for images and videos, so that their order is not known: give all of them as videos, an "
    "image as one of a single tubelet"
)


class ReadsSoftTokens:
    """A base model whose images and videos become soft tokens in its embeddings, where the placeholders are."""

    config: Any
    rope_deltas: Tensor  # what transformers reads where it makes positions itself, when it decodes

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
        if self._point.mrope and inputs.get("position_ids") is None:
            mask = inputs.get("attention_mask")
            mask = torch.ones_like(ids) if mask is None else mask
            spans = {tokens[kind]: self._spans(kind, own, seconds) for kind, own in pixels.items()}
            positions = multimodal_positions(ids, mask, spans)
            inputs["position_ids"] = positions
            self.rope_deltas = positions.amax((0, 2))[:, None] + 1 - mask.sum(1, keepdim=True)
        return inputs | {"inputs_embeds": embeds}

    def placeholder(self, kind: str) -> int:
        """The token that stands for a soft token of an image or a video; they share it where there is only one."""
        return getattr(self.config, f"{kind}_token_id", None) or self.config.image_token_id

    def _init_weights(self, module: Any) -> None:
        """The class's own; of the base model itself it would fill in only what was dropped, LLaVA's newline."""
        if module is not self:
            super()._init_weights(module)  # type: ignore[misc]

    @property
    def _point(self) -> PlugPoint:
        return PLUG_POINTS[self.config.model_type]

    @property
    def _encoder(self) -> VisualTokenEncoderModel:
        return getattr(self, self._point.tower)

    def _soft(self, pixels: Tensor | Sequence[Tensor]) -> list[Tensor]:
        tokens, _, mask = self._encoder(pixels).to_tuple()
        return [own[there] for own, there in zip(tokens, mask)]

    def _spans(self, kind: str, pixels: Tensor | Sequence[Tensor], seconds: Tensor | None) -> list[Span]:
        """Their soft tokens as they follow one another in a prompt."""
        sizes = [(1, *own.shape[-2:]) if own.dim() == 3 else (len(own), *own.shape[-2:]) for own in pixels]
        grids = [self._encoder.soft_grid(*size) for size in sizes]
        if kind == "image":
            return [Span(grid) for grid in grids]
        if self._point.frame != ALL_FRAMES:
            return [Span(grid._replace(t=1)) for grid in grids for _ in range(grid.t)]
        if seconds is None or len(seconds) != len(grids):
            raise ValueError(
                f"second_per_grid_ts must be the seconds from one frame of soft tokens to the next of {len(grids)} "
                f"videos, got {seconds}: make it by VisualTokenProcessor"
            )
        rate = self.config.vision_config.tokens_per_second
        return [Span(grid, rate * float(own)) for grid, own in zip(grids, seconds)]
