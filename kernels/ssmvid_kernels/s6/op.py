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
    """Fills y, h and, unless it is None, `states`: the state before every `chunk`-th step.

    y (b, l, d) summed over k, or (b, k, l, d); h (s, k, d, n). `states` is (b, k, l // chunk + s // b, n, d):
    chunk j of clip c of its row, which starts at `start`, stands at index start // chunk + c + j.
    """

    def __call__(
        self,
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        dt_bias: Tensor | None,
        h0: Tensor | None,
        paths: Tensor | None,
        cu_seqlens: Tensor | None,
        dt_softplus: bool,
        y: Tensor,
        h: Tensor,
        states: Tensor | None,
    ) -> None: ...


class Backward(Protocol):
    """Gradients of (x, dt, A, B, C, D, dt_bias, h0) for those of y and h; None for an argument that is None."""

    def __call__(
        self,
        dy: Tensor,
        dh: Tensor,
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        dt_bias: Tensor | None,
        h0: Tensor | None,
        paths: Tensor | None,
        cu_seqlens: Tensor | None,
        dt_softplus: bool,
        states: Tensor,
    ) -> tuple[Tensor | None, ...]: ...


class ScanOp(Protocol):
    """What `define` returns: an implementation in the form `selective_scan` calls."""

    def __call__(
        self,
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        dt_bias: Tensor | None,
        h0: Tensor | None,
        paths: Tensor | None,
        cu_seqlens: Tensor | None,
        *,
        dt_softplus: bool,
        summed: bool,
    ) -> tuple[Tensor, Tensor]: ...


def define(name: str, forward: Forward, backward: Backward, chunk: int) -> ScanOp:
    """Register `ssmvid::{name}` and its backward with torch, and return it as an implementation.

    Args:
        name: of the operator.
        forward, backward: the launchers.
        chunk: steps between the states kept for the backward.
    """

    forward, backward = refusing_to_compile(name, forward), refusing_to_compile(name, backward)

    def allocate(
        x: Tensor, dt: Tensor, A: Tensor, cu_seqlens: Tensor | None, summed: bool, save: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        (b, k, l, d), n = dt.shape, A.shape[-1]
        clips = 1 if cu_seqlens is None else cu_seqlens.shape[0] - 1
        state_dtype = torch.promote_types(x.dtype, torch.float32)
        y = x.new_empty((b, l, d) if summed else (b, k, l, d))
        h = x.new_empty((b * clips, k, d, n), dtype=state_dtype)
        states = x.new_empty((b, k, l // chunk + clips, n, d) if save else (0,), dtype=state_dtype)
        return y, h, states

    @torch.library.custom_op(f"ssmvid::{name}", mutates_args=())
    def scan(
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        dt_bias: Tensor | None,
        h0: Tensor | None,
        paths: Tensor | None,
        cu_seqlens: Tensor | None,
        dt_softplus: bool,
        summed: bool,
        save: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        y, h, states = allocate(x, dt, A, cu_seqlens, summed, save)
        forward(x, dt, A, B, C, D, dt_bias, h0, paths, cu_seqlens, dt_softplus, y, h, states if save else None)
        return y, h, states

    @scan.register_fake
    def _(x, dt, A, B, C, D, dt_bias, h0, paths, cu_seqlens, dt_softplus, summed, save):  # type: ignore[no-untyped-def]
        return allocate(x, dt, A, cu_seqlens, summed, save)

    @torch.library.custom_op(f"ssmvid::{name}_backward", mutates_args=())
    def scan_backward(
        dy: Tensor,
        dh: Tensor,
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        dt_bias: Tensor | None,
        h0: Tensor | None,
        paths: Tensor | None,
        cu_seqlens: Tensor | None,
        dt_softplus: bool,
        states: Tensor,
    ) -> list[Tensor]:
        inputs = (x, dt, A, B, C, D, dt_bias, h0)
        grads = backward(dy, dh, *inputs, paths, cu_seqlens, dt_softplus, states)
        return [
            grad.to(tensor.dtype).contiguous() if grad is not None and tensor is not None else x.new_empty(0)
            for grad, tensor in zip(grads, inputs)
        ]

    @scan_backward.register_fake
    def _(dy, dh, x, dt, A, B, C, D, dt_bias, h0, paths, cu_seqlens, dt_softplus, states):  # type: ignore[no-untyped-def]
        inputs = (x, dt, A, B, C, D, dt_bias, h0)
        return [x.new_empty(0) if t is None else t.new_empty(t.shape) for t in inputs]

    def keep(ctx, inputs, output):  # type: ignore[no-untyped-def]
        *tensors, ctx.dt_softplus, _, ctx.saved = inputs
        ctx.set_materialize_grads(True)
        ctx.save_for_backward(*tensors, output[2])

    def differentiate(ctx, dy, dh, _):  # type: ignore[no-untyped-def]
        *tensors, states = ctx.saved_tensors
        grads = scan_backward(dy, dh, *tensors, ctx.dt_softplus, states)
        grads = [None if tensor is None else grad for tensor, grad in zip(tensors[:8], grads)]
        return (*grads, None, None, None, None, None)

    scan.register_autograd(differentiate, setup_context=keep)
    refuse_second_derivative(scan_backward, name)
    count_flops(name, forward_flops, backward_flops)

    def implementation(x, dt, A, B, C, D, dt_bias, h0, paths, cu_seqlens, *, dt_softplus, summed):  # type: ignore[no-untyped-def]
        floats = (x, dt, A, B, C, D, dt_bias, h0)
        save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in floats)
        y, h, _ = scan(*floats, paths, cu_seqlens, dt_softplus, summed, save)
        return y, h

    return implementation


def forward_flops(x: Shape, dt: Shape, A: Shape, *_: Any, **__: Any) -> int:
    """README.md, "FLOPs"."""
    return 7 * prod(dt) * A[-1]


def backward_flops(dy: Shape, dh: Shape, x: Shape, dt: Shape, A: Shape, *_: Any, **__: Any) -> int:
    """README.md, "FLOPs"."""
    return 19 * prod(dt) * A[-1]
