"""What ranks send each other: tensors of one shape, states with their decays, differentiable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from ssmvid.parallel.context import Context


def all_gather(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    """The tensors of all ranks, which have one shape: (ranks, ...). Not differentiable."""
    gathered = tensor.new_empty(dist.get_world_size(group), *tensor.shape)
    dist.all_gather(list(gathered.unbind()), tensor.contiguous(), group=group)
    return gathered


class Gathered(torch.autograd.Function):
    """`all_gather`, whose backward sums each rank's share of the gradient over the ranks."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return all_gather(tensor, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        own = grad.new_empty(grad.shape[1:])
        dist.reduce_scatter(own, list(grad.contiguous().unbind()), group=ctx.group)
        return own, None


class Carried(torch.autograd.Function):
    """The state that reaches each rank, from the states and decays of the ranks before it on each path.

    One all-gather forward and one backward. With E_r the end state of rank r from a zero state, D_r its decay and
    h_r what reaches it, `h_(r+1) = E_r + D_r h_r`. So the gradient of E goes the same way from the last rank to the
    first, `u_r = g_(r+1) + D_(r+1) u_(r+1)` with g_r that of h_r, and the gradient of D_r is `u_r h_r`.
    """

    @staticmethod
    def forward(ctx: Any, ends: Tensor, decay: Tensor | None, reverse: Sequence[bool], context: Context) -> Tensor:
        """Args: ends (b, k, ...), decay that broadcasts against it, or None for 0; whether each path is reversed."""
        parts = [ends] if decay is None else [ends, decay]
        flat = all_gather(torch.cat([part.flatten() for part in parts]), context.group)
        sizes = [part.numel() for part in parts]
        all_ends, *rest = (t.view(-1, *part.shape) for t, part in zip(flat.split(sizes, dim=1), parts))
        decays = rest[0] if rest else None
        reached = _chain(all_ends, decays, reverse, context)
        ctx.reverse, ctx.context = reverse, context
        ctx.save_for_backward(reached, decays)
        return reached

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        reached, decays = ctx.saved_tensors
        back = _chain(all_gather(grad, ctx.context.group), decays, [not way for way in ctx.reverse], ctx.context)
        if decays is None:
            return back, None, None, None
        own = (back * reached).sum_to_size(decays.shape[1:])
        return back, own if ctx.context.whole[ctx.context.rank] else torch.zeros_like(own), None, None


def _chain(ends: Tensor, decays: Tensor | None, reverse: Sequence[bool], context: Context) -> Tensor:
    """What reaches this rank, (b, k, ...), from the `ends` (ranks, b, k, ...) of the ranks before it on each path."""
    ways = {}
    for way in set(reverse):
        ranks = range(context.size - 1, context.rank, -1) if way else range(context.rank)
        state = torch.zeros_like(ends[0])
        for rank in ranks:
            if not context.joined[rank if way else rank + 1]:
                state = torch.zeros_like(state)
            elif decays is None or not context.whole[rank]:
                state = ends[rank]
            else:
                state = ends[rank] + decays[rank] * state
        ways[way] = state
    if len(ways) == 1:
        return ways[reverse[0]].contiguous()
    return torch.stack([ways[way][:, j] for j, way in enumerate(reverse)], dim=1)
