"""A model's weights for one that merges its scan paths otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ssmvid.mixers import SS2D
from ssmvid.scan import Merge, ScanPattern

if TYPE_CHECKING:
    from ssmvid.backbones.base import Backbone


def remerge(state: Mapping[str, Tensor], model: Backbone, merged: Merge) -> dict[str, Tensor]:
    """A state_dict of a model that merges its paths by `merged` for `model`, which starts with the same outputs.

    A mean becomes a sum of a k-th, a sum lies side by side with its projection repeated, a gate starts at 1.

    Args:
        state: under the model's keys.
        model: of the same sizes and numbers of orders; its patterns say how it merges.
        merged: 'sum' or 'mean'.

    Raises:
        ValueError: no weights give the same outputs: what was learnt in gates or in a wider projection would be lost,
            or the paths are normed side by side.
    """
    if merged not in ("sum", "mean"):
        raise ValueError(f"remerge: merged must be 'sum' or 'mean', got {merged!r}: other merges hold what was learnt")
    weights = dict(state)
    for name, mixer in model.named_modules():
        pattern = getattr(mixer, "pattern", None)
        if not isinstance(pattern, ScanPattern) or not hasattr(mixer, "path_gate") or pattern.merge == merged:
            continue
        count, projection = len(pattern.orders), f"{name}.out_proj.weight"
        normed = isinstance(mixer, SS2D)  # a norm undoes any factor before the projection
        if normed and pattern.merge == "concat":
            raise ValueError(f"remerge: {name} norms its paths side by side, which is no sum: take 'gated'")
        weight = weights[projection]
        if merged == "mean" and not normed:
            weight = weight / count
        if pattern.merge == "mean" and not normed:
            weight = weight * count
        weights[projection] = weight.repeat(1, count) if pattern.merge == "concat" else weight
        if pattern.merge == "gated":
            own = mixer.get_parameter("path_gate.weight")
            weights[f"{name}.path_gate.weight"] = torch.zeros_like(own, device="cpu")
            weights[f"{name}.path_gate.bias"] = torch.zeros_like(own[:, 0], device="cpu")
    return weights
