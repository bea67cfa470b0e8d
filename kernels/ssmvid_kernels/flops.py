"""What torch's `FlopCounterMode` counts for a fused operator: its own formula, from the shapes of its arguments."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import register_flop_formula


def count_flops(name: str, forward: Callable[..., int], backward: Callable[..., int]) -> None:
    """Register the formulas of `ssmvid::{name}` and its backward; they get shapes in place of tensors.

    A multiply, an addition and an exponential are one each. The sums stand in the op's README.md, "FLOPs".
    """
    register_flop_formula(getattr(torch.ops.ssmvid, name))(forward)
    register_flop_formula(getattr(torch.ops.ssmvid, f"{name}_backward"))(backward)
