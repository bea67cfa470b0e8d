"""Named shapes, read by the tests and by the benchmark."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..calls import Call, make_paths


class Case(NamedTuple):
    """Sizes of one call: k = 0 stands for no walks; `clips` holds the lengths of a packed row (then b = 1)."""

    b: int
    l: int
    d: int
    width: int
    k: int = 0
    clips: tuple[int, ...] = ()


EXACT = {  # odd sizes, so that every mask and every tail is exercised
    "empty": Case(2, 0, 3, 4),
    "no_batch": Case(0, 4, 3, 4),
    "no_channels": Case(1, 3, 0, 4),
    "one_step": Case(1, 1, 3, 4),
    "two_taps": Case(2, 37, 5, 2),
    "three_taps": Case(2, 37, 5, 3),
    "ragged": Case(2, 37, 5, 4),
    "wide": Case(1, 41, 40, 4),
    "wider": Case(1, 3, 130, 2),
    "two_paths": Case(2, 18, 5, 4, k=2),
    "four_paths": Case(1, 30, 17, 3, k=4),
    "packed": Case(1, 23, 5, 4, clips=(9, 0, 1, 13)),
    "packed_paths": Case(1, 24, 5, 3, k=2, clips=(6, 18)),
}
SPEED = {  # d = 384 is the inner width of a 192-wide model; l = frames x 14 x 14 of 224 x 224 pixels
    "image": Case(2, 196, 384, 4),
    "clip": Case(2, 1568, 384, 4),
    "clip_two_paths": Case(2, 1568, 384, 4, k=2),
    "long": Case(2, 12544, 384, 4),
}
CALLS = {
    "silu": Call({"activation": "silu"}),
    "bare": Call({}, without=("bias", "h0")),
}
make_options = make_paths


def make_inputs(case: Case, dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, Tensor]:
    """Every float argument of `causal_conv1d` for `case`, leaves that require gradients."""
    b, l, d, width, k, clips = case
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    paths = (k,) if k else ()
    inputs = {
        "x": draw(b, l, d),
        "weight": draw(*paths, d, width),
        "bias": draw(*paths, d),
        "h0": draw(len(clips) or b, *paths, d, width - 1),
    }
    return {name: tensor.to(dtype).requires_grad_() for name, tensor in inputs.items()}
