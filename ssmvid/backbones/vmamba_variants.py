"""The released VMamba models in timm's registry, with their weights' addresses."""

from __future__ import annotations

from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import nn

from ssmvid.backbones.build import build
from ssmvid.backbones.vmamba import VMamba

# Name -> the file of its weights.
FILES = {
    "vanilla_vmamba_tiny": "%23v0cls/vssmtiny_dp01_ckpt_epoch_292.pth",
    "vanilla_vmamba_small": "%23v0cls/vssmsmall_dp03_ckpt_epoch_238.pth",
    "vanilla_vmamba_base": "%23v0cls/vssmbase_dp06_ckpt_epoch_241.pth",
    "vmamba_tiny_s2l5": "%23v2cls/vssm_tiny_0230_ckpt_epoch_262.pth",
    "vmamba_small_s2l15": "%23v2cls/vssm_small_0229_ckpt_epoch_222.pth",
    "vmamba_base_s2l15": "%23v2cls/vssm_base_0229_ckpt_epoch_237.pth",
    "vmamba_tiny_s1l8": "%23v2cls/vssm1_tiny_0230s_ckpt_epoch_264.pth",
    "vmamba_small_s1l20": "%23v2cls/vssm1_small_0229s_ckpt_epoch_240.pth",
    "vmamba_base_s1l20": "%23v2cls/vssm1_base_0229s_ckpt_epoch_225.pth",
}

default_cfgs = generate_default_cfgs(
    {
        f"{name}.in1k": {
            "url": f"https://github.com/MzeroMiko/VMamba/releases/download/{file}",
            "num_classes": 1000,
            "classifier": "head",
            "first_conv": "patch_embed.convs.0",
            "license": "mit",
            "origin_url": "https://github.com/MzeroMiko/VMamba",
            "paper_name": "VMamba: Visual State Space Model",
            "paper_ids": "arXiv:2401.10166",
        }
        for name, file in FILES.items()
    }
)

VANILLA = {"state_size": 16, "mlp_ratio": 0.0, "vanilla": True}


@register_model
def vanilla_vmamba_tiny(**options: Any) -> nn.Module:
    """VMamba-T of the first release, 23 M parameters. Liu et al. 2024, arXiv:2401.10166v1."""
    return build(VMamba, "vanilla_vmamba_tiny", {"dim": 96, "depths": (2, 2, 9, 2), **VANILLA} | options)


@register_model
def vanilla_vmamba_small(**options: Any) -> nn.Module:
    """VMamba-S of the first release, 44 M parameters. Liu et al. 2024, arXiv:2401.10166v1."""
    return build(VMamba, "vanilla_vmamba_small", {"dim": 96, "depths": (2, 2, 27, 2), **VANILLA} | options)


@register_model
def vanilla_vmamba_base(**options: Any) -> nn.Module:
    """VMamba-B of the first release, 76 M parameters. Liu et al. 2024, arXiv:2401.10166v1."""
    return build(VMamba, "vanilla_vmamba_base", {"dim": 128, "depths": (2, 2, 27, 2), **VANILLA} | options)


@register_model
def vmamba_tiny_s2l5(**options: Any) -> nn.Module:
    """VMamba-T with scans of twice the width, 31 M parameters. Liu et al. 2024, arXiv:2401.10166, its code."""
    return build(VMamba, "vmamba_tiny_s2l5", {"dim": 96, "depths": (2, 2, 5, 2)} | options)


@register_model
def vmamba_small_s2l15(**options: Any) -> nn.Module:
    """VMamba-S, 50 M parameters. Liu et al. 2024, arXiv:2401.10166, table 1."""
    return build(VMamba, "vmamba_small_s2l15", {"dim": 96, "depths": (2, 2, 15, 2)} | options)


@register_model
def vmamba_base_s2l15(**options: Any) -> nn.Module:
    """VMamba-B, 89 M parameters. Liu et al. 2024, arXiv:2401.10166, table 1."""
    return build(VMamba, "vmamba_base_s2l15", {"dim": 128, "depths": (2, 2, 15, 2)} | options)


@register_model
def vmamba_tiny_s1l8(**options: Any) -> nn.Module:
    """VMamba-T, 30 M parameters. Liu et al. 2024, arXiv:2401.10166, table 1."""
    return build(VMamba, "vmamba_tiny_s1l8", {"dim": 96, "depths": (2, 2, 8, 2), "expand": 1.0} | options)


@register_model
def vmamba_small_s1l20(**options: Any) -> nn.Module:
    """VMamba-S with narrower scans and more blocks, 49 M parameters. Liu et al. 2024, arXiv:2401.10166, its code."""
    return build(VMamba, "vmamba_small_s1l20", {"dim": 96, "depths": (2, 2, 20, 2), "expand": 1.0} | options)


@register_model
def vmamba_base_s1l20(**options: Any) -> nn.Module:
    """VMamba-B with narrower scans and more blocks, 87 M parameters. Liu et al. 2024, arXiv:2401.10166, its code."""
    return build(VMamba, "vmamba_base_s1l20", {"dim": 128, "depths": (2, 2, 20, 2), "expand": 1.0} | options)
