"""The mean over tokens that lie on several ranks."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from ssmvid.layers import at_least_fp32
from ssmvid.parallel.context import active_context


def mean_tokens(tokens: Tensor) -> Tensor:
    """The mean (b, d) over the tokens (b, l, d) of one clip, those on other ranks among them; the same on every rank.

    Raises:
        ValueError: the ranks hold packed clips.
    """
    context = active_context()
    if context is None:
        return tokens.mean(1)
    if not all(context.joined[1:-1]) or not all(context.whole):
        raise ValueError("mean_tokens: the ranks hold packed clips, which have a mean each: take that of each clip")
    count = torch.tensor(tokens.shape[1], device=tokens.device)
    dist.all_reduce(count, group=context.group)
    return (_Summed.apply(at_least_fp32(tokens).sum(1), context.group) / count).to(tokens.dtype)


class _Summed(torch.autograd.Function):
    """The sum over ranks, on each of them; the gradient is that of the sum of what all ranks make of it."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return _summed(tensor, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _summed(grad, ctx.group), None


def _summed(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    total = tensor.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total
