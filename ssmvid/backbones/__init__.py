"""Backbones: clip -> tokens and grid. Importing this registers them with timm."""

from ssmvid.backbones import videomamba_variants
from ssmvid.backbones.checkpoint import load_checkpoint
from ssmvid.backbones.videomamba import VideoMamba

__all__ = ["VideoMamba", "load_checkpoint", "videomamba_variants"]
