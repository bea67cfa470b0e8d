"""Hugging Face: the visual token encoder as a model of transformers, and in the place of an LMM's own vision tower."""

try:
    import transformers
except ImportError as error:
    raise ImportError("ssmvid.lmm.hf needs transformers: pip install 'ssmvid[hf]'") from error

from ssmvid.lmm.hf.attach import attach, load
from ssmvid.lmm.hf.config import VisualTokenEncoderConfig
from ssmvid.lmm.hf.model import VisualTokenEncoderModel, VisualTokenEncoderOutput
from ssmvid.lmm.hf.processor import VisualTokenProcessor

transformers.AutoConfig.register(VisualTokenEncoderConfig.model_type, VisualTokenEncoderConfig)
transformers.AutoModel.register(VisualTokenEncoderConfig, VisualTokenEncoderModel)
transformers.AutoProcessor.register(VisualTokenEncoderConfig, VisualTokenProcessor)

__all__ = [
    "VisualTokenEncoderConfig",
    "VisualTokenEncoderModel",
    "VisualTokenEncoderOutput",
    "VisualTokenProcessor",
    "attach",
    "load",
]
