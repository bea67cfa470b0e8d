"""Backbones: clip -> tokens and grid. Importing this registers them with timm: every file of the folder is imported."""

import importlib
import pkgutil

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

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

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
]
