"""What stands between pixels and blocks: tubelets, position tables, precision."""

from ssmvid.layers.maps import to_maps, to_tokens
from ssmvid.layers.position import join_prefix, resize_grid, resize_spatial, resize_temporal, sincos_table, split_prefix
from ssmvid.layers.precision import at_least_fp32
from ssmvid.layers.recompute import before_scan, own_storage, recompute, token_chunks, tokenwise
from ssmvid.layers.rotary import rotate_grid
from ssmvid.layers.stem import ConvStem, PatchMerge2d
from ssmvid.layers.tubelet import ClipEmbed, TubeletEmbed

__all__ = [
    "ClipEmbed",
    "ConvStem",
    "PatchMerge2d",
    "TubeletEmbed",
    "at_least_fp32",
    "before_scan",
    "join_prefix",
    "own_storage",
    "recompute",
    "resize_grid",
    "resize_spatial",
    "resize_temporal",
    "rotate_grid",
    "sincos_table",
    "split_prefix",
    "to_maps",
    "to_tokens",
    "token_chunks",
    "tokenwise",
]
