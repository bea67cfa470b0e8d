"""Backbones: clip -> tokens and grid. Importing this registers them with timm."""

from ssmvid.backbones import (
    local_vim_variants,
    mamba_nd_variants,
    mambareg_variants,
    mambavision_variants,
    multiscan_variants,
    plain_mamba_variants,
    videomamba_variants,
    vim_variants,
    vmamba_variants,
)
from ssmvid.backbones.base import Backbone
from ssmvid.backbones.checkpoint import load_checkpoint
from ssmvid.backbones.local_vim import LocalVim
from ssmvid.backbones.mamba_nd import MambaND
from ssmvid.backbones.mambareg import MambaReg
from ssmvid.backbones.mambavision import MambaVision
from ssmvid.backbones.multiscan import MultiScan
from ssmvid.backbones.plain_mamba import PlainMamba
from ssmvid.backbones.videomamba import VideoMamba
from ssmvid.backbones.videomamba_pretrain import VideoMambaPretrain
from ssmvid.backbones.vim import Vim
from ssmvid.backbones.vmamba import VMamba

__all__ = [
    "Backbone",
    "LocalVim",
    "MambaND",
    "MambaReg",
    "MambaVision",
    "MultiScan",
    "PlainMamba",
    "VMamba",
    "VideoMamba",
    "VideoMambaPretrain",
    "Vim",
    "load_checkpoint",
    "local_vim_variants",
    "mamba_nd_variants",
    "mambareg_variants",
    "mambavision_variants",
    "multiscan_variants",
    "plain_mamba_variants",
    "videomamba_variants",
    "vim_variants",
    "vmamba_variants",
]
