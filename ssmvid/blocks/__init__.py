"""Blocks: norm, mixer and residual stream."""

from ssmvid.blocks.conv import ConvBlock
from ssmvid.blocks.mlp import MlpBlock
from ssmvid.blocks.modulated import ModulatedBlock
from ssmvid.blocks.residual import NORM_EPS, Block, Norm, add_and_norm

__all__ = ["NORM_EPS", "Block", "ConvBlock", "MlpBlock", "ModulatedBlock", "Norm", "add_and_norm"]
