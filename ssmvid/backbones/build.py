"""From a registry name and options to a backbone, through timm's builder."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from timm.models import build_model_with_cfg
from torch import Tensor, nn

from ssmvid.backbones.base import Backbone
from ssmvid.backbones.checkpoint import fit_state_dict

# What timm's builder reads itself; everything else must be a keyword of the class.
BUILDER_OPTIONS = (
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "pretrained_model_args",
    "cache_dir",
    "features_only",
    "feature_cls",
    "out_indices",
)


def build(model_class: type[Backbone], name: str, options: dict[str, Any]) -> nn.Module:
    """Build the registered model `name`.

    Args:
        model_class: the backbone's class.
        name: its registry name, under which its `pretrained_cfg` is known.
        options: keywords of the class and of timm's builder. `pretrained=True` loads the official weights from
            the hub, or from `pretrained_cfg_overlay={'file': path}`, with `checkpoint.fit_state_dict`.

    Raises:
        TypeError: an option is none of the class's; the message suggests the nearest.
        ValueError: the weights do not fit; the message lists every key that does not.
    """
    known = [*inspect.signature(model_class).parameters, *BUILDER_OPTIONS]
    for option in options:
        if option not in known:
            raise TypeError(
                f"{name}: unknown option {option!r}: "
                f"{suggest(option, known) or 'expected one of ' + ', '.join(sorted(known))}"
            )
    return build_model_with_cfg(
        model_class,
        name,
        **{"pretrained": False} | options,
        pretrained_filter_fn=_fit_pretrained,
        # timm hands every class the configuration's number of classes; one without a classifier has no use for it.
        kwargs_filter=() if "num_classes" in known else ("num_classes",),
        feature_cfg={"out_indices": model_class.feature_levels, "feature_cls": "getter"},
    )


def suggest(name: str, known: list[str]) -> str:
    """'did you mean a or b?' with the known names nearest to `name`; empty where none is near."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else ""


def _fit_pretrained(state: Mapping[str, Any], model: Any) -> dict[str, Tensor]:
    return fit_state_dict(state, model, new_head=model.num_classes != model.pretrained_cfg["num_classes"])
