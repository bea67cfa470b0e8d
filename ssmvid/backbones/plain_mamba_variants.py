"""The released PlainMamba models in timm's registry, with their weights' addresses."""

from __future__ import annotations

from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import nn

from ssmvid.backbones.build import build
from ssmvid.backbones.plain_mamba import PlainMamba

default_cfgs = generate_default_cfgs(
    {
        f"plain_mamba_{size}.in1k": {
            "hf_hub_id": "ChenhongyiYang/PlainMamba",
            "hf_hub_filename": f"{size}.pth",
            "num_classes": 1000,
            "classifier": "head",
            "first_conv": "patch_embed.convs.stem.0",
            "license": "apache-2.0",
            "origin_url": "https://github.com/ChenhongyiYang/PlainMamba",
            "paper_name": "PlainMamba: Improving Non-Hierarchical Mamba in Visual Recognition",
            "paper_ids": "arXiv:2403.17695",
        }
        for size in ("l1", "l2", "l3")
    }
)


@register_model
def plain_mamba_l1(**options: Any) -> nn.Module:
    """PlainMamba-L1, 8 M parameters. Yang et al. 2024, arXiv:2403.17695, table 1."""
    return build(PlainMamba, "plain_mamba_l1", {"dim": 192, "depth": 24, "stem_depth": 1, "conv": True} | options)


@register_model
def plain_mamba_l2(**options: Any) -> nn.Module:
    """PlainMamba-L2, 26 M parameters. Yang et al. 2024, arXiv:2403.17695, table 1."""
    return build(PlainMamba, "plain_mamba_l2", {"dim": 384, "depth": 24} | options)


@register_model
def plain_mamba_l3(**options: Any) -> nn.Module:
    """PlainMamba-L3, 51 M parameters. Yang et al. 2024, arXiv:2403.17695, table 1."""
    return build(PlainMamba, "plain_mamba_l3", {"dim": 448, "depth": 36} | options)
