"""From visual tokens to what a language model reads, and one that reads them. Knows no data."""

from ssmvid.lmm.bimba import Bimba
from ssmvid.lmm.decimate import Decimate
from ssmvid.lmm.encoder import EncoderState, VisualTokenEncoder, VisualTokens
from ssmvid.lmm.language_model import LanguageModel
from ssmvid.lmm.mambamia import MambaMia
from ssmvid.lmm.mlp import MLPConnector
from ssmvid.lmm.perceiver import Perceiver
from ssmvid.lmm.pooling import Pool
from ssmvid.lmm.positions import V2PE_DELTAS, absolute_positions, rotary_table, token_positions
from ssmvid.lmm.redundancy import Redundancy
from ssmvid.lmm.soft import Connector, Reducer, SoftTokens
from ssmvid.lmm.storm import Storm
from ssmvid.lmm.tome import Merge
from ssmvid.lmm.vamba import Vamba, Watched
from ssmvid.lmm.video_language_model import VideoLanguageModel
from ssmvid.lmm.vss import VSS

__all__ = [
    "V2PE_DELTAS",
    "VSS",
    "Bimba",
    "Connector",
    "Decimate",
    "EncoderState",
    "LanguageModel",
    "MLPConnector",
    "MambaMia",
    "Merge",
    "Perceiver",
    "Pool",
    "Reducer",
    "Redundancy",
    "SoftTokens",
    "Storm",
    "Vamba",
    "VideoLanguageModel",
    "VisualTokenEncoder",
    "VisualTokens",
    "Watched",
    "absolute_positions",
    "rotary_table",
    "token_positions",
]
