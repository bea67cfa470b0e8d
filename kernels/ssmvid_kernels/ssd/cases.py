"""Named shapes, read by the tests and by the benchmark."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..calls import Call, make_paths


class Case(NamedTuple):
    """Sizes of one call: k = 0 stands for no walks; `clips` holds the lengths of a packed row (then b = 1)."""

    b: int
    l: int
    heads: int
    p: int
    n: int
    g: int = 1
    k: int = 0
    clips: tuple[int, ...] = ()
    chunk: int | None = None


EXACT = {  # odd sizes, so that every mask and every tail is exercised
    "empty": Case(2, 0, 3, 2, 2),
    "no_batch": Case(0, 4, 3, 2, 2),
    "one_step": Case(1, 1, 2, 5, 3),
    "ragged": Case(2, 37, 6, 5, 3, chunk=16),  # dA is one number a head: few of them are a poor sample of its rounding
    "many_chunks": Case(1, 53, 6, 3, 3, g=2, chunk=16),
    "odd_chunk": Case(1, 23, 2, 3, 4, chunk=7),
    "own_chunk": Case(1, 133, 2, 4, 3),
    "wide": Case(1, 18, 2, 33, 17, g=2, chunk=16),
    "one_state": Case(2, 18, 2, 1, 1, chunk=16),
    "groups": Case(2, 18, 6, 3, 2, g=2, chunk=16),
    "two_paths": Case(2, 18, 4, 5, 3, g=2, k=2, chunk=16),
    "four_paths": Case(1, 30, 3, 5, 4, g=3, k=4, chunk=16),
    "packed": Case(1, 43, 2, 5, 3, clips=(9, 0, 1, 33, 0), chunk=16),
    "packed_paths": Case(1, 24, 2, 5, 3, k=2, clips=(6, 18), chunk=16),
}
SPEED = {  # heads x p = 768 is the inner width of a 384-wide model; l = frames x 14 x 14 of 224 x 224 pixels
    "image": Case(2, 196, 12, 64, 64),
    "clip": Case(2, 1568, 12, 64, 64),
    "states": Case(2, 1568, 12, 64, 128),
    "long": Case(2, 12544, 12, 64, 64),
}
CALLS = {
    "softplus": Call({"dt_softplus": True}),
    "limited": Call({"dt_softplus": True, "dt_limit": (0.5, 1.5)}),
    "mean": Call({"dt_softplus": True, "merge": "mean"}),
    "apart": Call({"dt_softplus": True, "merge": None}, without=("z",)),
    "bare": Call({}, without=("D", "z", "dt_bias", "h0"), positive=("dt",)),  # no softplus makes dt positive
}


def make_inputs(case: Case, dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, Tensor]:
    """Every float argument of `ssd_scan` for `case`, leaves that require gradients, dt of order one."""
    b, l, heads, p, n, groups, k = case[:7]
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    paths = (k,) if k else ()
    inputs = {
        "x": draw(b, l, heads, p),
        "dt": draw(b, *paths, l, heads),
        "A": -torch.exp(draw(*paths, heads)),
        "B": draw(b, *paths, l, groups, n),
        "C": draw(b, *paths, l, groups, n),
        "D": draw(*paths, heads),
        "z": draw(b, l, heads, p),
        "dt_bias": F.softplus(draw(*paths, heads)),
        "h0": draw(len(case.clips) or b, *paths, heads, p, n),
    }
    return {name: tensor.to(dtype).requires_grad_() for name, tensor in inputs.items()}


def make_options(case: Case) -> dict[str, Any]:
    """The walks, borders and chunk of `case`, as `ssd_scan` takes them."""
    return make_paths(case) | {"chunk": case.chunk}
