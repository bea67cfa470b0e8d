"""Token mixers: `mixer(tokens (b, l, d), grid) -> (b, l, d)`; those causal in time have `init_state` and `step`."""

from ssmvid.mixers.attention import Attention
from ssmvid.mixers.decimated import DecimatedMamba
from ssmvid.mixers.hybrid import LETTERS, hybrid_mixers, hybrid_pattern
from ssmvid.mixers.hydra import Hydra
from ssmvid.mixers.local import LocalMamba
from ssmvid.mixers.mamba import Mamba
from ssmvid.mixers.mamba2 import Mamba2
from ssmvid.mixers.mambavision import MambaVisionAttention, MambaVisionMixer
from ssmvid.mixers.mlp import MLP
from ssmvid.mixers.plain_mamba import PlainMambaMixer
from ssmvid.mixers.ss2d import SS2D
from ssmvid.mixers.state import KeyValues, MambaState, State, StreamingMixer
from ssmvid.mixers.tied import TiedMamba

__all__ = [
    "LETTERS",
    "MLP",
    "SS2D",
    "Attention",
    "DecimatedMamba",
    "Hydra",
    "KeyValues",
    "LocalMamba",
    "Mamba",
    "Mamba2",
    "MambaState",
    "MambaVisionAttention",
    "MambaVisionMixer",
    "PlainMambaMixer",
    "State",
    "StreamingMixer",
    "TiedMamba",
    "hybrid_mixers",
    "hybrid_pattern",
]
