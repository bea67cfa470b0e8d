"""The released LocalVim models in timm's registry, with their weights' addresses."""

from __future__ import annotations

from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import nn

from ssmvid.backbones.build import build
from ssmvid.backbones.local_vim import LocalVim
from ssmvid.scan import PATTERNS

KEPT = {"orders": PATTERNS["local_vim"].orders, "schedule": PATTERNS["local_vim"].schedule}


def _cfg(**address: str) -> dict[str, Any]:
    return {
        **address,
        "num_classes": 1000,
        "classifier": "head",
        "first_conv": "patch_embed.proj",
        "license": "apache-2.0",
        "origin_url": "https://github.com/hunto/LocalMamba",
        "paper_name": "LocalMamba: Visual State Space Model with Windowed Selective Scan",
        "paper_ids": "arXiv:2403.09338",
    }


RELEASE = "https://github.com/hunto/LocalMamba/releases/download/v1.0.0"

default_cfgs = generate_default_cfgs(
    {
        "local_vim_tiny.in1k": _cfg(url=f"{RELEASE}/local_vim_tiny.ckpt"),
        "local_vim_tiny_middle_cls_token.in1k": _cfg(url=f"{RELEASE}/local_vim_tiny_middle_cls_token.ckpt"),
        "local_vim_small.in1k": _cfg(),  # the address given for it holds another model
        "local_vim_tiny_search.in1k": _cfg(),  # its weights were not released
    }
)


@register_model
def local_vim_tiny(**options: Any) -> nn.Module:
    """LocalVim-T, 8 M parameters. Huang et al. 2024, arXiv:2403.09338."""
    return build(LocalVim, "local_vim_tiny", {"dim": 192, "depth": 20, **KEPT} | options)


@register_model
def local_vim_tiny_middle_cls_token(**options: Any) -> nn.Module:
    """LocalVim-T with Vim's class token in place of rotary positions, 8 M parameters. Its release of May 2024."""
    variant = {"dim": 192, "depth": 20, "cls_token": True, "rope": False, **KEPT}
    return build(LocalVim, "local_vim_tiny_middle_cls_token", variant | options)


@register_model
def local_vim_small(**options: Any) -> nn.Module:
    """LocalVim-S, 28 M parameters. Huang et al. 2024, arXiv:2403.09338."""
    return build(LocalVim, "local_vim_small", {"dim": 384, "depth": 20, **KEPT} | options)


@register_model
def local_vim_tiny_search(**options: Any) -> nn.Module:
    """The supernet that the orders were found with, 5 M parameters. arXiv:2403.09338."""
    plan = PATTERNS["local8"]
    variant = {"dim": 128, "depth": 20, "search": True, "orders": plan.orders, "schedule": plan.schedule}
    return build(LocalVim, "local_vim_tiny_search", variant | options)
