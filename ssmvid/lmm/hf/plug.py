"""Where an LMM of transformers takes an encoder in: what differs between them, as data."""

from __future__ import annotations

from typing import NamedTuple

from transformers import PreTrainedModel

ALL_FRAMES = "{tokens}"  # one after the other


class PlugPoint(NamedTuple):
    """`tower` reads pixels in `lmm.model`; `behind` are the attributes between it and the language model."""

    lmm: str  # class in transformers
    tower: str
    behind: tuple[str, ...]
    mrope: bool = False  # its positions have three axes, and it is told the time between frames of soft tokens
    frame: str = ALL_FRAMES  # what stands in the prompt for each of those frames
    around: tuple[str, str] = ("", "")  # what may stand around a video's placeholder, and is in `frame` already


PLUG_POINTS = {
    "internvl": PlugPoint("InternVLForConditionalGeneration", "vision_tower", ("multi_modal_projector",)),
    "llava_next_video": PlugPoint(
        "LlavaNextVideoForConditionalGeneration",
        "vision_tower",
        ("multi_modal_projector", "vision_resampler", "image_newline"),
    ),
    "llava_onevision": PlugPoint(
        "LlavaOnevisionForConditionalGeneration", "vision_tower", ("multi_modal_projector", "image_newline")
    ),
    "qwen2_5_vl": PlugPoint("Qwen2_5_VLForConditionalGeneration", "visual", (), mrope=True),
    "qwen3_vl": PlugPoint(
        "Qwen3VLForConditionalGeneration",
        "visual",
        (),
        mrope=True,
        frame="<{second:.1f} seconds><|vision_start|>{tokens}<|vision_end|>",
        around=("<|vision_start|>", "<|vision_end|>"),
    ),
    "video_llama_3": PlugPoint("VideoLlama3ForConditionalGeneration", "vision_model", ("projector",)),
}


def plug_point(lmm: PreTrainedModel) -> PlugPoint:
    """Where `lmm` takes an encoder in.

    Raises:
        ValueError: it is none of the known classes.
    """
    known = PLUG_POINTS.get(getattr(lmm.config, "model_type", ""))
    if known is None or known.lmm not in {cls.__name__ for cls in type(lmm).__mro__}:
        raise ValueError(
            f"attach: the LMM must be one of {', '.join(point.lmm for point in PLUG_POINTS.values())}, got a "
            f"{type(lmm).__name__}: give the whole model, not its base, or let the encoder run by itself and hand its "
            "tokens on as inputs_embeds"
        )
    return known
