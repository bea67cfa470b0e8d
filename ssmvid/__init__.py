"""State-space video backbones and linear-time visual token encoders."""

# First: timm imports torchvision, which beside a CPU-only torch needs this.
import ssmvid.torchvision_shim  # noqa: F401  # isort: skip
from ssmvid.registry import create_model, list_models

__all__ = ["create_model", "list_models"]
