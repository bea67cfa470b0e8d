"""Backbones: clip -> tokens and grid. Importing this registers them with timm."""

from ssmvid.backbones import mambareg_variants, multiscan_variants, videomamba_variants, vim_variants
from ssmvid.backbones.base import Backbone
from ssmvid.backbones.checkpoint import load_checkpoint
from ssmvid.backbones.mambareg import MambaReg
from ssmvid.backbones.multiscan import MultiScan
from ssmvid.backbones.videomamba import VideoMamba
from ssmvid.backbones.videomamba_pretrain import VideoMambaPretrain
from ssmvid.backbones.vim import Vim

__all__ = [
    "Backbone",
    "MambaReg",
    "MultiScan",
    "VideoMamba",
    "VideoMambaPretrain",
    "Vim",
    "load_checkpoint",
    "mambareg_variants",
    "multiscan_variants",
    "videomamba_variants",
    "vim_variants",
]
