"""Token mixers: `mixer(tokens (b, l, d), grid) -> (b, l, d)`."""

from ssmvid.mixers.bimamba import BiMamba

__all__ = ["BiMamba"]
