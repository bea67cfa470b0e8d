"""The MambaVision models in timm's registry. The weights are NVIDIA's: loaded from it, not redistributed."""

from __future__ import annotations

from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import nn

from ssmvid.backbones.build import build
from ssmvid.backbones.mambavision import MambaVision

# Name and tag -> repository and file of its weights, and pixels along a side.
FILES = {
    "mambavision_tiny.in1k": ("T-1K", "mambavision_tiny_1k", 224),
    "mambavision_tiny2.in1k": ("T2-1K", "mambavision_tiny2_1k", 224),
    "mambavision_small.in1k": ("S-1K", "mambavision_small_1k", 224),
    "mambavision_base.in1k": ("B-1K", "mambavision_base_1k", 224),
    "mambavision_base.in21k_ft_in1k": ("B-21K", "mambavision_base_21k", 224),
    "mambavision_large.in1k": ("L-1K", "mambavision_large_1k", 224),
    "mambavision_large.in21k_ft_in1k": ("L-21K", "mambavision_large_21k", 224),
    "mambavision_large2.in1k": ("L2-1K", "mambavision_large2_1k", 224),
    "mambavision_large2_512.in21k_ft_in1k": ("L2-512-21K", "mambavision_L2_21k_240m_512", 512),
    "mambavision_large3_256.in21k_ft_in1k": ("L3-256-21K", "mambavision_L3_21k_740m_256", 256),
    "mambavision_large3_512.in21k_ft_in1k": ("L3-512-21K", "mambavision_L3_21k_740m_512", 512),
}

default_cfgs = generate_default_cfgs(
    {
        name: {
            "hf_hub_id": f"nvidia/MambaVision-{repository}",
            "hf_hub_filename": f"{file}.pth.tar",
            "num_classes": 1000,
            "input_size": (3, size, size),
            "classifier": "head",
            "first_conv": "patch_embed.convs.0",
            "license": "NVIDIA Source Code License-NC: no commercial use; the weights are not redistributed here",
            "origin_url": "https://github.com/NVlabs/MambaVision",
            "paper_name": "MambaVision: A Hybrid Mamba-Transformer Vision Backbone",
            "paper_ids": "arXiv:2407.08083",
        }
        for name, (repository, file, size) in FILES.items()
    }
)

LARGE = {"heads": (16, 32), "layer_scale": 1e-5}


def _mambavision(name: str, variant: dict[str, Any], options: dict[str, Any]) -> nn.Module:
    return build(MambaVision, name, {"img_size": default_cfgs[name].default.input_size[1], **variant} | options)


@register_model
def mambavision_tiny(**options: Any) -> nn.Module:
    """MambaVision-T, 32 M parameters. Hatamizadeh & Kautz 2024, arXiv:2407.08083, table 1."""
    return _mambavision("mambavision_tiny", {"dim": 80, "depths": (1, 3, 8, 4), "stem_dim": 32}, options)


@register_model
def mambavision_tiny2(**options: Any) -> nn.Module:
    """MambaVision-T2, 35 M parameters. Hatamizadeh & Kautz 2024, arXiv:2407.08083, table 1."""
    return _mambavision("mambavision_tiny2", {"dim": 80, "depths": (1, 3, 11, 4), "stem_dim": 32}, options)


@register_model
def mambavision_small(**options: Any) -> nn.Module:
    """MambaVision-S, 50 M parameters. Hatamizadeh & Kautz 2024, arXiv:2407.08083, table 1."""
    return _mambavision("mambavision_small", {"dim": 96, "depths": (3, 3, 7, 5)}, options)


@register_model
def mambavision_base(**options: Any) -> nn.Module:
    """MambaVision-B, 98 M parameters. Hatamizadeh & Kautz 2024, arXiv:2407.08083, table 1."""
    return _mambavision("mambavision_base", {"dim": 128, "depths": (3, 3, 10, 5), "layer_scale": 1e-5}, options)


@register_model
def mambavision_large(**options: Any) -> nn.Module:
    """MambaVision-L, 228 M parameters. Hatamizadeh & Kautz 2024, arXiv:2407.08083, table 1."""
    return _mambavision("mambavision_large", {"dim": 196, "depths": (3, 3, 10, 5), **LARGE}, options)


@register_model
def mambavision_large2(**options: Any) -> nn.Module:
    """MambaVision-L2, 242 M parameters. Hatamizadeh & Kautz 2024, arXiv:2407.08083, table 1."""
    return _mambavision("mambavision_large2", {"dim": 196, "depths": (3, 3, 12, 5), **LARGE}, options)


@register_model
def mambavision_large2_512(**options: Any) -> nn.Module:
    """MambaVision-L2 for 512 x 512 pixels, 242 M parameters. arXiv:2407.08083."""
    variant = {"dim": 196, "depths": (3, 3, 12, 5), "windows": (32, 16), **LARGE}
    return _mambavision("mambavision_large2_512", variant, options)


@register_model
def mambavision_large3_256(**options: Any) -> nn.Module:
    """MambaVision-L3 for 256 x 256 pixels, 740 M parameters. arXiv:2407.08083."""
    variant = {"dim": 256, "depths": (3, 3, 20, 10), "windows": (16, 8), **LARGE}
    return _mambavision("mambavision_large3_256", variant, options)


@register_model
def mambavision_large3_512(**options: Any) -> nn.Module:
    """MambaVision-L3 for 512 x 512 pixels, 740 M parameters. arXiv:2407.08083."""
    variant = {"dim": 256, "depths": (3, 3, 20, 10), "windows": (32, 16), **LARGE}
    return _mambavision("mambavision_large3_512", variant, options)
