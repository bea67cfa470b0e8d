"""The released Vim models in timm's registry, with their weights' addresses."""

from __future__ import annotations

from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import nn

from ssmvid.backbones.build import build
from ssmvid.backbones.vim import Vim


def _cfg(**address: str) -> dict[str, Any]:
    return {
        **address,
        "num_classes": 1000,
        "classifier": "head",
        "first_conv": "patch_embed.proj",
        "license": "apache-2.0",
        "origin_url": "https://github.com/hustvl/Vim",
        "paper_name": "Vision Mamba: Efficient Visual Representation Learning with Bidirectional State Space Model",
        "paper_ids": "arXiv:2401.09417",
    }


default_cfgs = generate_default_cfgs(
    {
        "vim_tiny.in1k": _cfg(hf_hub_id="hustvl/Vim-tiny-midclstok", hf_hub_filename="vim_t_midclstok_76p1acc.pth"),
        "vim_small.in1k": _cfg(hf_hub_id="hustvl/Vim-small-midclstok", hf_hub_filename="vim_s_midclstok_80p5acc.pth"),
        "vim_base.in1k": _cfg(hf_hub_id="hustvl/Vim-base-midclstok", hf_hub_filename="vim_b_midclstok_81p9acc.pth"),
        "vim_tiny_stride8.in1k": _cfg(
            hf_hub_id="hustvl/Vim-tiny-midclstok", hf_hub_filename="vim_t_midclstok_ft_78p3acc.pth"
        ),
        "vim_small_stride8.in1k": _cfg(
            hf_hub_id="hustvl/Vim-small-midclstok", hf_hub_filename="vim_s_midclstok_ft_81p6acc.pth"
        ),
    }
)


@register_model
def vim_tiny(**options: Any) -> nn.Module:
    """Vim-Ti, 7 M parameters. Zhu et al. 2024, arXiv:2401.09417, table 1."""
    return build(Vim, "vim_tiny", {"dim": 192, "depth": 24} | options)


@register_model
def vim_small(**options: Any) -> nn.Module:
    """Vim-S, 26 M parameters. Zhu et al. 2024, arXiv:2401.09417, table 1."""
    return build(Vim, "vim_small", {"dim": 384, "depth": 24} | options)


@register_model
def vim_base(**options: Any) -> nn.Module:
    """Vim-B, 98 M parameters. Zhu et al. 2024, arXiv:2401.09417, table 1."""
    return build(Vim, "vim_base", {"dim": 768, "depth": 24} | options)


@register_model
def vim_tiny_stride8(**options: Any) -> nn.Module:
    """Vim-Ti fine-tuned on overlapping patches, four times the tokens. arXiv:2401.09417, section 4.1."""
    return build(Vim, "vim_tiny_stride8", {"dim": 192, "depth": 24, "stride": (1, 8, 8)} | options)


@register_model
def vim_small_stride8(**options: Any) -> nn.Module:
    """Vim-S fine-tuned on overlapping patches, four times the tokens. arXiv:2401.09417, section 4.1."""
    return build(Vim, "vim_small_stride8", {"dim": 384, "depth": 24, "stride": (1, 8, 8)} | options)
