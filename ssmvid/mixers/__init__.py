"""Token mixers: `mixer(tokens (b, l, d), grid) -> (b, l, d)`."""

from ssmvid.mixers.local import LocalMamba
from ssmvid.mixers.mamba import Mamba
from ssmvid.mixers.ss2d import SS2D

__all__ = ["SS2D", "LocalMamba", "Mamba"]
