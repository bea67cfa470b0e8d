"""Token mixers: `mixer(tokens (b, l, d), grid) -> (b, l, d)`."""

from ssmvid.mixers.attention import Attention
from ssmvid.mixers.local import LocalMamba
from ssmvid.mixers.mamba import Mamba
from ssmvid.mixers.mambavision import MambaVisionMixer
from ssmvid.mixers.ss2d import SS2D

__all__ = ["SS2D", "Attention", "LocalMamba", "Mamba", "MambaVisionMixer"]
