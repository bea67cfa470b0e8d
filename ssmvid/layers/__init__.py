"""What stands between pixels and blocks: tubelets, position tables, precision."""

from ssmvid.layers.position import resize_spatial, resize_temporal
from ssmvid.layers.precision import at_least_fp32
from ssmvid.layers.tubelet import TubeletEmbed

__all__ = ["TubeletEmbed", "at_least_fp32", "resize_spatial", "resize_temporal"]
