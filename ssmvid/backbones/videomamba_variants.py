"""The released VideoMamba models in timm's registry, with their weights' addresses."""

from __future__ import annotations

from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import nn

from ssmvid.backbones.build import build
from ssmvid.backbones.videomamba import VideoMamba
from ssmvid.backbones.videomamba_pretrain import VideoMambaPretrain

# Frames the weights of each tag were trained on; `in1k` is the image model.
FRAMES = {"k400_f8": 8, "k400_f16": 16, "k400_f32": 32, "k400_f64": 64, "in1k": 1}
CLASSES = {"k400": 400, "in1k": 1000}


def _clips(dataset: str, frames: int) -> str:
    if frames == 1:
        return f"{dataset}, images of 224x224"
    return f"{dataset}, {frames} frames of 224x224, one of each of {frames} equal parts of a video: no fps, no stride"


def _cfg(size: str, tag: str) -> dict[str, Any]:
    dataset = tag.partition("_")[0]
    return {
        "hf_hub_id": "OpenGVLab/VideoMamba",
        "hf_hub_filename": f"videomamba_{size}16_{tag}_res224.pth",
        "num_classes": CLASSES[dataset],
        "classifier": "head",
        "first_conv": "patch_embed.proj",
        "license": "apache-2.0",
        "description": _clips(dataset, FRAMES[tag]),
        "origin_url": "https://github.com/OpenGVLab/VideoMamba",
        "paper_name": "VideoMamba: State Space Model for Efficient Video Understanding",
        "paper_ids": "arXiv:2403.06977",
    }


# The first tag of a model is its default; the base model was released for images only.
default_cfgs = generate_default_cfgs(
    {
        f"videomamba_{size}.{tag}": _cfg(size[0], tag)
        for size, tags in {
            "tiny": FRAMES,
            "small": FRAMES,
            "middle": FRAMES,
            "base": ["in1k"],
        }.items()
        for tag in tags
    }
    | {
        f"videomamba_middle_pretrain.{dataset}": {
            **_cfg("m", "k400_f8"),
            "hf_hub_filename": f"videomamba_m16_{dataset}_mask_pt_f8_res224.pth",
            "num_classes": 0,
            "classifier": None,
            "description": f"masked pretraining on {_clips(dataset, 8)}",
        }
        for dataset in ("k400", "ssv2")
    }
)


def _videomamba(name: str, dim: int, depth: int, options: dict[str, Any]) -> nn.Module:
    tag = options.get("pretrained_cfg") or default_cfgs[name].tags[0]
    # A tag names the clip length its weights were trained on; hub configurations (a dict) carry their own.
    frames = FRAMES.get(tag, 8) if isinstance(tag, str) else 8
    return build(VideoMamba, name, {"dim": dim, "depth": depth, "num_frames": frames} | options)


@register_model
def videomamba_tiny(**options: Any) -> nn.Module:
    """VideoMamba-Ti, 7 M parameters. Li et al. 2024, arXiv:2403.06977, table 1."""
    return _videomamba("videomamba_tiny", 192, 24, options)


@register_model
def videomamba_small(**options: Any) -> nn.Module:
    """VideoMamba-S, 26 M parameters. Li et al. 2024, arXiv:2403.06977, table 1."""
    return _videomamba("videomamba_small", 384, 24, options)


@register_model
def videomamba_middle(**options: Any) -> nn.Module:
    """VideoMamba-M, 74 M parameters. Li et al. 2024, arXiv:2403.06977, table 1."""
    return _videomamba("videomamba_middle", 576, 32, options)


@register_model
def videomamba_base(**options: Any) -> nn.Module:
    """VideoMamba-B, 98 M parameters, an image model unless `num_frames` is given. Li et al. 2024, arXiv:2403.06977."""
    return _videomamba("videomamba_base", 768, 24, options)


@register_model
def videomamba_middle_pretrain(**options: Any) -> nn.Module:
    """The student of VideoMamba-M's masked pretraining, 74 M parameters. arXiv:2403.06977, section 3.3."""
    return build(VideoMambaPretrain, "videomamba_middle_pretrain", {"dim": 576, "depth": 32} | options)
