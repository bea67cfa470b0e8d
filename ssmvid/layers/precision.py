"""Which dtype a number that must not be rounded is kept in."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_fp32(tensor: Tensor) -> Tensor:
    """The tensor in fp32, or in fp64 where it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
