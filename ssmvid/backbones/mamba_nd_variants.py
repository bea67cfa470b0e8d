"""The released Mamba-ND models in timm's registry; their weights are for their users to fetch."""

from __future__ import annotations

from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import nn

from ssmvid.backbones.build import build
from ssmvid.backbones.mamba_nd import MambaND

# What the clips of each tag's weights are.
CLIPS: dict[str, dict[str, Any]] = {
    "k400_f16": {"num_frames": 16, "tubelet": (1, 16, 16)},
    "ucf101_f32": {"num_frames": 32, "tubelet": (2, 16, 16)},
}
CLASSES = {"k400_f16": 400, "ucf101_f32": 101, "in1k": 1000}
CLIP_TEXTS = {
    "k400_f16": "k400, 16 frames of 224x224",
    "ucf101_f32": "ucf101, 32 frames of 224x224, stride 2: every second one of the video's",
    "in1k": "in1k, images of 224x224",
}
ROWS = (("thw",), ("thw+rev",), ("twh",), ("twh+rev",))


def _cfg(tag: str) -> dict[str, Any]:
    return {
        "num_classes": CLASSES[tag],
        "classifier": "head",
        "first_conv": "patch_embed.proj",
        "description": CLIP_TEXTS[tag],
        "license": "none stated: the weights are their authors' and are not redistributed here",
        "origin_url": "https://github.com/jacklishufan/Mamba-ND",
        "paper_name": "Mamba-ND: Selective State Space Modeling for Multi-Dimensional Data",
        "paper_ids": "arXiv:2402.05892",
    }


default_cfgs = generate_default_cfgs(
    {f"mamba3d_small.{tag}": _cfg(tag) for tag in CLIPS}
    | {f"mamba2d_{size}.in1k": _cfg("in1k") for size in ("small", "base")}
)


@register_model
def mamba3d_small(**options: Any) -> nn.Module:
    """Mamba-3D, 36 M parameters. Li et al. 2024, arXiv:2402.05892, table 3."""
    tag = options.get("pretrained_cfg") or "k400_f16"
    # A tag names the clips its weights were trained on; hub configurations (a dict) carry their own.
    clip = CLIPS.get(tag, CLIPS["k400_f16"]) if isinstance(tag, str) else CLIPS["k400_f16"]
    return build(MambaND, "mamba3d_small", {"dim": 384, "depth": 36, **clip} | options)


def _image(name: str, dim: int, options: dict[str, Any]) -> nn.Module:
    variant = {"halve_after": 9, "final_norm": True, "num_frames": 1, "tubelet": (1, 8, 8), "orders": ROWS}
    return build(MambaND, name, {"dim": dim, "depth": 24, **variant} | options)


@register_model
def mamba2d_small(**options: Any) -> nn.Module:
    """Mamba-2D-S, 25 M parameters, patches of 8 x 8. Li et al. 2024, arXiv:2402.05892."""
    return _image("mamba2d_small", 384, options)


@register_model
def mamba2d_base(**options: Any) -> nn.Module:
    """Mamba-2D-B, 94 M parameters, patches of 8 x 8. Li et al. 2024, arXiv:2402.05892."""
    return _image("mamba2d_base", 768, options)
