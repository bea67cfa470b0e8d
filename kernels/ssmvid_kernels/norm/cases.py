"""Named shapes, read by the tests and by the benchmark."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..calls import Call


class Case(NamedTuple):
    """Sizes of one call: `groups` of d // groups channels are normed each on their own."""

    b: int
    l: int
    d: int
    groups: int = 1


EXACT = {  # odd sizes, so that every mask and every tail is exercised
    "empty": Case(2, 0, 3),
    "no_batch": Case(0, 4, 3),
    "no_channels": Case(1, 3, 0),
    "one_row": Case(1, 1, 3),
    "ragged": Case(2, 37, 5),
    "wide": Case(1, 17, 40),
    "power_of_two": Case(3, 5, 64),
    "wider": Case(1, 3, 1030),
    "two_groups": Case(2, 18, 10, groups=2),
    "single_channels": Case(2, 37, 16, groups=16),
    "many_groups": Case(1, 7, 119, groups=7),
}
SPEED = {  # d = 384 is the inner width of a 192-wide model; l = frames x 14 x 14 of 224 x 224 pixels
    "image": Case(2, 196, 384),
    "clip": Case(2, 1568, 384),
    "long": Case(2, 12544, 384),
}
CALLS = {
    "gate": Call({}),
    "gate_first": Call({"norm_before_gate": False}),
    "add": Call({}, without=("bias", "z")),
    "plain": Call({}, without=("residual", "z")),
    "bare": Call({}, without=("weight", "bias", "residual", "z")),
}


def make_options(case: Case) -> dict[str, Any]:
    return {"group_size": case.d // case.groups} if case.groups > 1 else {}


def make_inputs(case: Case, dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, Tensor]:
    """Every float argument of `rms_norm` and of `layer_norm` for `case`, leaves that require gradients."""
    b, l, d, _ = case
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    inputs = {
        "x": draw(b, l, d),
        "weight": draw(d),
        "bias": draw(d),
        "residual": draw(b, l, d),
        "z": draw(b, l, d),
    }
    return {name: tensor.to(dtype).requires_grad_() for name, tensor in inputs.items()}
