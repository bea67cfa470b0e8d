"""The Mamba-Reg models in timm's registry. The weights are their authors': loaded from them, not redistributed."""

from __future__ import annotations

from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import nn

from ssmvid.backbones.build import build
from ssmvid.backbones.mambareg import MambaReg


def _cfg(**address: str) -> dict[str, Any]:
    return {
        **address,
        "num_classes": 1000,
        "classifier": "head",
        "first_conv": "patch_embed.proj",
        "license": "none stated: the weights are their authors' and are not redistributed here",
        "origin_url": "https://github.com/wangf3014/Mamba-Reg",
        "paper_name": "Mamba-R: Vision Mamba ALSO Needs Registers",
        "paper_ids": "arXiv:2405.14858",
    }


default_cfgs = generate_default_cfgs(
    {
        "mambareg_tiny.in1k": _cfg(),  # its weights were not released
        **{
            f"mambareg_{size}.in1k": _cfg(
                hf_hub_id="Wangf3014/Mamba-Reg", hf_hub_filename=f"mambar_{size}_patch16_224.pth"
            )
            for size in ("small", "base", "large")
        },
    }
)


@register_model
def mambareg_tiny(**options: Any) -> nn.Module:
    """Mamba-Reg-T, 9 M parameters, 12 registers. Wang et al. 2024, arXiv:2405.14858."""
    return build(MambaReg, "mambareg_tiny", {"dim": 192, "depth": 24} | options)


@register_model
def mambareg_small(**options: Any) -> nn.Module:
    """Mamba-Reg-S, 28 M parameters, 12 registers. Wang et al. 2024, arXiv:2405.14858, table 2."""
    return build(MambaReg, "mambareg_small", {"dim": 384, "depth": 24, "reduce": 2} | options)


@register_model
def mambareg_base(**options: Any) -> nn.Module:
    """Mamba-Reg-B, 99 M parameters, 12 registers. Wang et al. 2024, arXiv:2405.14858, table 2."""
    return build(MambaReg, "mambareg_base", {"dim": 768, "depth": 24, "reduce": 4} | options)


@register_model
def mambareg_large(**options: Any) -> nn.Module:
    """Mamba-Reg-L, 341 M parameters, 16 registers. Wang et al. 2024, arXiv:2405.14858, table 2."""
    return build(MambaReg, "mambareg_large", {"dim": 1024, "depth": 48, "registers": 16, "reduce": 8} | options)
