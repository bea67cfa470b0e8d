"""What stands between pixels and blocks: tubelets, position tables, precision."""

from ssmvid.layers.position import join_prefix, resize_spatial, resize_temporal, sincos_table, split_prefix
from ssmvid.layers.precision import at_least_fp32
from ssmvid.layers.tubelet import TubeletEmbed

__all__ = [
    "TubeletEmbed",
    "at_least_fp32",
    "join_prefix",
    "resize_spatial",
    "resize_temporal",
    "sincos_table",
    "split_prefix",
]
