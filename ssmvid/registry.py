"""Models by name, in timm's registry."""

from __future__ import annotations

import fnmatch
from typing import Any

import timm
from timm.models import is_model, model_entrypoint
from torch import nn

import ssmvid.backbones  # noqa: F401  registers the models
from ssmvid.backbones.base import Backbone
from ssmvid.backbones.build import suggest


def create_model(name: str, **options: Any) -> nn.Module:
    """`timm.create_model`, which knows ssmvid's models too; a misspelt name or option gets a suggestion.

    Args:
        name: a registry name, with a tag ('videomamba_tiny.in1k') or without; or what timm takes besides.
        options: keywords of the model's class, and timm's own (`pretrained`, `features_only`, ...).

    Returns:
        The model, in training mode.

    Raises:
        ValueError: the name is unknown; the message suggests the nearest.
        TypeError: an option is unknown; the message suggests the nearest.

    >>> model = create_model("videomamba_tiny", num_classes=10, num_frames=16)
    """
    if ":" not in name and not is_model(name.partition(".")[0]):
        hint = suggest(name, list_models()) or suggest(name, timm.list_models()) or "see ssmvid.list_models()"
        raise ValueError(f"unknown model {name!r}: {hint}")
    return timm.create_model(name, **options)


def create_backbone(name: str, **options: Any) -> Backbone:
    """`create_model` for code that needs tokens: a model of timm's that gives none is refused.

    Raises:
        ValueError: the name is unknown, or its model has no `forward_tokens`.
        TypeError: an option is unknown.
    """
    model = create_model(name, **options)
    if not isinstance(model, Backbone):
        raise ValueError(f"{name!r} is no video backbone: it has no forward_tokens; take one of ssmvid.list_models()")
    return model


def list_models(pattern: str = "*") -> list[str]:
    """The names of ssmvid's own models that match a shell pattern, sorted."""
    ours = [name for name in timm.list_models() if model_entrypoint(name).__module__.startswith("ssmvid.")]
    return sorted(fnmatch.filter(ours, pattern))
