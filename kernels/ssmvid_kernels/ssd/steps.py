"""Step sizes as the recurrence takes them, for the implementations in torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def step_sizes(dt: Tensor, bias: Tensor | None, softplus: bool, limit: Sequence[float] | None) -> Tensor:
    """dt with bias, softplus and limit applied; `bias` broadcasts against it."""
    if bias is not None:
        dt = dt + bias
    if softplus:
        dt = F.softplus(dt)
    return dt if limit is None else dt.clamp(*limit)


def step_gradients(d_taken: Tensor, raw: Tensor, softplus: bool, limit: Sequence[float] | None) -> Tensor:
    """The gradient of dt + bias (`raw`), from that of what `step_sizes` makes of it: 0 outside the limit."""
    if limit is not None:
        taken = F.softplus(raw) if softplus else raw
        d_taken = d_taken.masked_fill((taken < limit[0]) | (taken > limit[1]), 0.0)
    return d_taken * torch.sigmoid(raw) if softplus else d_taken
