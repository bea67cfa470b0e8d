"""The MultiScan models in timm's registry, each of about a ViT's parameters at its width."""

from __future__ import annotations

from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import nn

from ssmvid.backbones.build import build
from ssmvid.backbones.multiscan import MultiScan

# No weights are released.
default_cfgs = generate_default_cfgs(
    {
        f"multiscan_{size}": {
            "num_classes": 400,
            "classifier": "head",
            "first_conv": "patch_embed.proj",
            "license": "apache-2.0",
            "paper_name": "Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured "
            "State Space Duality",
            "paper_ids": "arXiv:2405.21060",
        }
        for size in ("tiny", "small", "base", "large")
    }
)


@register_model
def multiscan_tiny(**options: Any) -> nn.Module:
    """MultiScan of ViT-Ti's width, 6 M parameters."""
    return build(MultiScan, "multiscan_tiny", {"dim": 192, "depth": 24} | options)


@register_model
def multiscan_small(**options: Any) -> nn.Module:
    """MultiScan of ViT-S's width, 22 M parameters."""
    return build(MultiScan, "multiscan_small", {"dim": 384, "depth": 24} | options)


@register_model
def multiscan_base(**options: Any) -> nn.Module:
    """MultiScan of ViT-B's width, 83 M parameters."""
    return build(MultiScan, "multiscan_base", {"dim": 768, "depth": 24} | options)


@register_model
def multiscan_large(**options: Any) -> nn.Module:
    """MultiScan of ViT-L's width, 289 M parameters."""
    return build(MultiScan, "multiscan_large", {"dim": 1024, "depth": 48} | options)
