"""Token mixers: `mixer(tokens (b, l, d), grid) -> (b, l, d)`."""

from ssmvid.mixers.mamba import Mamba

__all__ = ["Mamba"]
