"""Blocks: norm, mixer and residual stream."""

from ssmvid.blocks.residual import NORM_EPS, Block, add_and_norm

__all__ = ["NORM_EPS", "Block", "add_and_norm"]
