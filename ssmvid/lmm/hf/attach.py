"""An encoder in the place of an LMM's own vision tower and projector, and the whole of them saved and loaded."""

from __future__ import annotations

from functools import cache
from typing import Any

import transformers
from transformers import PreTrainedModel

from ssmvid.lmm.hf.config import CONFIG_KEY, VisualTokenEncoderConfig
from ssmvid.lmm.hf.model import VisualTokenEncoderModel, refuse_gaps
from ssmvid.lmm.hf.plug import PLUG_POINTS, plug_point
from ssmvid.lmm.hf.soft_inputs import ReadsSoftTokens


def attach(lmm: PreTrainedModel, encoder: VisualTokenEncoderModel) -> PreTrainedModel:
    """Let `lmm` read images and videos by `encoder`; its own vision tower and projector are dropped.

    Afterwards `lmm(...)` and `lmm.generate(...)` take `input_ids` with a placeholder for every soft token, as
    `VisualTokenProcessor` gives them, and `pixel_values_videos` or `pixel_values`, as the encoder takes them.

    Args:
        lmm: an InternVL, LLaVA-NeXT-Video, LLaVA-OneVision, Qwen2.5-VL, Qwen3-VL or VideoLLaMA3 model for
            conditional generation. It is changed.
        encoder: takes the LMM's device and dtype; its soft tokens must have the width of the LMM's embeddings.

    Returns:
        `lmm`.

    Raises:
        ValueError: the class of `lmm` is none of these, the widths differ, or the encoder does not know before how
            many soft tokens it gives.
    """
    plug_point(lmm)
    width, own = lmm.config.get_text_config().hidden_size, encoder.encoder.connector.llm_dim
    if own != width:
        raise ValueError(
            f"attach: soft tokens must have the width of the LMM's embeddings, {width}, got {own}: make the connector "
            f"with llm_dim={width}"
        )
    if not encoder.encoder.connector.exact:
        raise ValueError(
            f"attach: {type(encoder.encoder.connector).__name__} decides itself how many soft tokens a video gets, "
            "so that placeholders cannot be counted before: make it so that it does not (MambaMia: threshold=None)"
        )
    weight = lmm.get_input_embeddings().weight
    _plug_in(lmm, encoder.to(device=weight.device, dtype=weight.dtype))
    setattr(lmm.config, CONFIG_KEY, encoder.config.to_diff_dict())
    lmm.__class__ = _generating(type(lmm))  # type: ignore[arg-type]
    return lmm


def load(folder: str, **options: Any) -> PreTrainedModel:
    """An LMM and the encoder attached to it, from where `lmm.save_pretrained` wrote them.

    Args:
        folder: a local folder or an id on the hub.
        options: of transformers' `from_pretrained`.

    Raises:
        ValueError: no encoder was attached to what is there, or weights are missing or do not fit.
    """
    config = transformers.AutoConfig.from_pretrained(folder)
    if not hasattr(config, CONFIG_KEY) or config.model_type not in PLUG_POINTS:
        raise ValueError(f"load: {folder!r} is no LMM with an encoder attached: load it by transformers, then attach")
    lmm_class = _generating(getattr(transformers, PLUG_POINTS[config.model_type].lmm))
    lmm, info = lmm_class.from_pretrained(folder, output_loading_info=True, **options)
    refuse_gaps(info)
    return lmm


class _Generates:
    """The whole LMM."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)  # type: ignore[call-arg]
        _plug_in(self, VisualTokenEncoderModel(VisualTokenEncoderConfig(**getattr(config, CONFIG_KEY))))

    def generate(self, inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As transformers' own; images and videos are read once, before the first step.

        Raises:
            ValueError: as `forward`; or use_cache=False, with which later steps would not see the soft tokens; or a
                prompt ends with a soft token of an LMM with M-RoPE, whose positions transformers would count on from.
        """
        kwargs = {"input_ids": inputs} | kwargs
        if self.model.has_pixels(kwargs):  # type: ignore[attr-defined]
            if not kwargs.get("use_cache", True):
                raise ValueError("generate: use_cache must not be False where there are images or videos")
            kwargs = self.model.read(kwargs)  # type: ignore[attr-defined]
            positions = kwargs.get("position_ids")
            if positions is not None and positions.dim() == 3 and (positions[0, :, -1] != positions[-1, :, -1]).any():
                raise ValueError("generate: a prompt must end with text, not with an image or a video")
        return super().generate(None, *args, **kwargs)  # type: ignore[misc]


@cache
def _generating(lmm_class: type) -> Any:
    return lmm_class if issubclass(lmm_class, _Generates) else _joined(_Generates, lmm_class)


@cache
def _reading(model_class: type) -> Any:
    return model_class if issubclass(model_class, ReadsSoftTokens) else _joined(ReadsSoftTokens, model_class)


def _joined(mixin: type, own: type) -> type:
    """`own` with the mixin's methods before its own, under its own name, which is what its config names."""
    return type(own.__name__, (mixin, own), {"__module__": own.__module__, "__doc__": own.__doc__})


def _plug_in(lmm: Any, encoder: VisualTokenEncoderModel) -> None:
    point, model = plug_point(lmm), lmm.model
    for name in (point.tower, *point.behind):
        if hasattr(model, name):  # of an encoder attached before there is only the tower
            delattr(model, name)
    setattr(model, point.tower, encoder)
    model.__class__ = _reading(type(model))  # type: ignore[arg-type]
