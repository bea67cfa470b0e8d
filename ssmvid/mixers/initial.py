"""What fresh state-space parameters start from, in every mixer.

Source: Gu & Dao 2023 (Mamba), arXiv:2312.00752, section 3.6, and its released code.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# Step sizes start log-uniform between the first two.
DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 1e-1, 1e-4


@torch.no_grad()
def fresh_decay_(A_log: Tensor) -> None:
    """A_log (..., n) = log(1..n): state i decays i times as fast as the first."""
    A_log.copy_(torch.arange(1, A_log.shape[-1] + 1).log().expand_as(A_log))


@torch.no_grad()
def fresh_step_(weight: Tensor, bias: Tensor) -> None:
    """dt's projection (..., d, rank) uniform within rank^-0.5; its bias as `fresh_dt_bias_`."""
    bound = weight.shape[-1] ** -0.5
    nn.init.uniform_(weight, -bound, bound)
    fresh_dt_bias_(bias)


@torch.no_grad()
def fresh_dt_bias_(bias: Tensor) -> None:
    """Softplus of it is log-uniform in [1e-3, 1e-1]."""
    dt = bias.uniform_(math.log(DT_MIN), math.log(DT_MAX)).exp_().clamp_(min=DT_FLOOR)
    bias.copy_(dt + torch.log(-torch.expm1(-dt)))
