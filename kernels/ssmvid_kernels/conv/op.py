"""One torch operator a fused backend: schema, fake tensors and autograd, shared by the CPU and the Triton kernels."""

from __future__ import annotations

from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor

from ..flops import count_flops
from ..graphs import refusing_to_compile
from ..transforms import refuse_second_derivative

Shape = torch.Size


class Forward(Protocol):
    """Fills y (b, k, l, d) and h (s, k, d, width - 1), both dense."""

    def __call__(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        h0: Tensor | None,
        paths: Tensor | None,
        cu_seqlens: Tensor | None,
        silu: bool,
        y: Tensor,
        h: Tensor,
    ) -> None: ...


class Backward(Protocol):
    """Gradients of (x, weight, bias, h0) for those of y and h (None: 0); None for an argument that is None."""

    def __call__(
        self,
        dy: Tensor,
        dh: Tensor | None,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        h0: Tensor | None,
        paths: Tensor | None,
        cu_seqlens: Tensor | None,
        silu: bool,
    ) -> tuple[Tensor | None, ...]: ...


class ConvOp(Protocol):
    """What `define` returns: an implementation in the form `causal_conv1d` calls."""

    def __call__(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        h0: Tensor | None,
        paths: Tensor | None,
        cu_seqlens: Tensor | None,
        *,
        silu: bool,
    ) -> tuple[Tensor, Tensor]: ...


def define(name: str, forward: Forward, backward: Backward) -> ConvOp:
    """Register `ssmvid::{name}` and its backward with torch, and return it as an implementation.

    Nothing but the inputs is saved: the backward computes the sums before the activation again.
    """

    forward, backward = refusing_to_compile(name, forward), refusing_to_compile(name, backward)

    def allocate(x: Tensor, weight: Tensor, cu_seqlens: Tensor | None) -> tuple[Tensor, Tensor]:
        (b, _, l, d), (k, _, width) = x.shape, weight.shape
        s = b if cu_seqlens is None else cu_seqlens.shape[0] - 1
        y = x.new_empty((b, k, l, d))
        return y, x.new_empty((s, k, d, width - 1), dtype=torch.promote_types(x.dtype, torch.float32))

    @torch.library.custom_op(f"ssmvid::{name}", mutates_args=())
    def conv(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        h0: Tensor | None,
        paths: Tensor | None,
        cu_seqlens: Tensor | None,
        silu: bool,
    ) -> tuple[Tensor, Tensor]:
        y, h = allocate(x, weight, cu_seqlens)
        forward(x, weight, bias, h0, paths, cu_seqlens, silu, y, h)
        return y, h

    @conv.register_fake
    def _(x, weight, bias, h0, paths, cu_seqlens, silu):  # type: ignore[no-untyped-def]
        return allocate(x, weight, cu_seqlens)

    @torch.library.custom_op(f"ssmvid::{name}_backward", mutates_args=())
    def conv_backward(
        dy: Tensor,
        dh: Tensor | None,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        h0: Tensor | None,
        paths: Tensor | None,
        cu_seqlens: Tensor | None,
        silu: bool,
    ) -> list[Tensor]:
        inputs = (x, weight, bias, h0)
        grads = backward(dy, dh, *inputs, paths, cu_seqlens, silu)
        return [
            grad.to(tensor.dtype).contiguous() if grad is not None and tensor is not None else x.new_empty(0)
            for grad, tensor in zip(grads, inputs)
        ]

    @conv_backward.register_fake
    def _(dy, dh, x, weight, bias, h0, paths, cu_seqlens, silu):  # type: ignore[no-untyped-def]
        return [x.new_empty(0) if t is None else t.new_empty(t.shape) for t in (x, weight, bias, h0)]

    def keep(ctx, inputs, output):  # type: ignore[no-untyped-def]
        *tensors, ctx.silu = inputs
        ctx.set_materialize_grads(False)  # h is seldom used: then no zeros are made, or read, for its gradient
        ctx.save_for_backward(*tensors)

    def differentiate(ctx, dy, dh):  # type: ignore[no-untyped-def]
        tensors = x, weight, *_ = ctx.saved_tensors
        if dy is None:
            dy = x.new_zeros(x.shape[0], weight.shape[0], *x.shape[2:])
        grads = conv_backward(dy, dh, *tensors, ctx.silu)
        grads = [None if tensor is None else grad for tensor, grad in zip(tensors[:4], grads)]
        return (*grads, None, None, None)

    conv.register_autograd(differentiate, setup_context=keep)
    refuse_second_derivative(conv_backward, name)
    count_flops(name, forward_flops, backward_flops)

    def implementation(x, weight, bias, h0, paths, cu_seqlens, *, silu):  # type: ignore[no-untyped-def]
        return conv(x, weight, bias, h0, paths, cu_seqlens, silu)

    return implementation


def forward_flops(x: Shape, weight: Shape, *_: Any, **__: Any) -> int:
    """README.md, "FLOPs"."""
    return 2 * x[0] * x[2] * prod(weight)


def backward_flops(dy: Shape, dh: Shape | None, x: Shape, weight: Shape, *options: Any, **__: Any) -> int:
    """README.md, "FLOPs"."""
    silu = options[-1]
    return (6 if silu else 4) * x[0] * x[2] * prod(weight)
