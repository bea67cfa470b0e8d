"""Named shapes, read by the tests and by the benchmark."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..calls import Call, make_paths


class Case(NamedTuple):
    """Sizes of one call: k = 0 stands for no walks; `clips` holds the lengths of a packed row (then b = 1)."""

    b: int
    l: int
    d: int
    n: int
    k: int = 0
    clips: tuple[int, ...] = ()


EXACT = {  # odd sizes, so that every mask and every tail is exercised
    "empty": Case(2, 0, 3, 2),
    "no_batch": Case(0, 4, 3, 2),
    "no_channels": Case(1, 3, 0, 2),
    "no_states": Case(1, 3, 4, 0),
    "one_step": Case(1, 1, 3, 2),
    "ragged": Case(2, 37, 5, 3),
    "wide": Case(1, 17, 40, 16),
    "one_state": Case(2, 18, 6, 1),
    "many_states": Case(1, 9, 9, 65),
    "two_paths": Case(2, 18, 5, 3, k=2),
    "four_paths": Case(1, 30, 17, 4, k=4),
    "packed": Case(1, 23, 5, 3, clips=(9, 0, 1, 13)),
    "packed_paths": Case(1, 24, 5, 3, k=2, clips=(6, 18)),
}
SPEED = {  # d = 384 is the inner width of a 192-wide model; l = frames x 14 x 14 of 224 x 224 pixels
    "image": Case(2, 196, 384, 16),
    "clip": Case(2, 1568, 384, 16),
    "long": Case(2, 12544, 384, 16),
}
CALLS = {
    "softplus": Call({"dt_softplus": True}),
    "mean": Call({"dt_softplus": True, "merge": "mean"}),
    "apart": Call({"dt_softplus": True, "merge": None}, without=("z",)),
    "bare": Call({}, without=("D", "z", "dt_bias", "h0"), positive=("dt",)),  # no softplus makes dt positive
}
make_options = make_paths


def make_inputs(case: Case, dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, Tensor]:
    """Every float argument of `selective_scan` for `case`, leaves that require gradients, dt of order one."""
    b, l, d, n, k, clips = case
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    paths = (k,) if k else ()
    inputs = {
        "x": draw(b, l, d),
        "dt": draw(b, *paths, l, d),
        "A": -torch.exp(draw(*paths, d, n)),
        "B": draw(b, *paths, l, n),
        "C": draw(b, *paths, l, n),
        "D": draw(*paths, d),
        "z": draw(b, l, d),
        "dt_bias": F.softplus(draw(*paths, d)),
        "h0": draw(len(clips) or b, *paths, d, n),
    }
    return {name: tensor.to(dtype).requires_grad_() for name, tensor in inputs.items()}
