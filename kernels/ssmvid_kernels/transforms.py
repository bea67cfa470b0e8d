"""What torch's function transforms and second derivatives meet in a fused kernel: an error, never a silent zero."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import forward_ad


def transforming() -> bool:
    """Whether a transform of `torch.func` (grad, vjp, jvp, vmap, ...) or forward-mode AD is at work."""
    # Without this question forward mode would take a fused kernel's tangent to be zero.
    return forward_ad._current_level >= 0 or torch._C._functorch.peek_interpreter_stack() is not None


def refuse_second_derivative(backward: torch.library.CustomOpDef, name: str) -> None:
    """Let the gradient of `backward`, the backward operator of `ssmvid::{name}`, say what to do instead.

    Raises:
        NotImplementedError: from the backward of the backward.
    """

    def differentiate(ctx: Any, *grads: Any) -> None:
        raise NotImplementedError(
            f"{name}: a fused kernel has no second derivative: use backend='torch' or 'reference' for it"
        )

    backward.register_autograd(differentiate)
