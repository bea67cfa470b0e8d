"""One torch operator a fused backend: schema, fake tensors and autograd, shared by the CPU and the Triton kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from ..flops import count_flops
from ..graphs import refusing_to_compile
from ..transforms import refuse_second_derivative
from ..walk import Walk
from .bundles import bundle

Shape = torch.Size

CHUNK_AFTER_B = 9  # arguments, in both operators


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """A context whose matmuls are not rounded to bf16; the meta device, which rounds nothing, knows no autocast."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


class Forward(Protocol):
    """Fills y, h and, unless it is None, `states`: the state before every chunk of `chunk` steps.

    y (b, l, heads, p) summed over k, or (b, k, l, heads, p); h (s, k, heads, p, n). `states` is
    (b, k, l // chunk + s // b, heads * p * n), in the implementation's own order within a chunk:
    chunk j of clip c of its row, which starts at `start`, stands at index start // chunk + c + j. `bundles`: as
    `bundles.bundle` makes them, for an implementation that takes chunks of several paths together.
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
        bundles: Sequence[Tensor],
        dt_softplus: bool,
        dt_limit: Sequence[float] | None,
        chunk: int,
        y: Tensor,
        h: Tensor,
        states: Tensor | None,
    ) -> None: ...


class Backward(Protocol):
    """Gradients of (x, dt, A, B, C, D, dt_bias, h0) for those of y and h; None for an argument that is None.

    `states` has no elements where the implementation keeps none.
    """

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
        bundles: Sequence[Tensor],
        dt_softplus: bool,
        dt_limit: Sequence[float] | None,
        chunk: int,
        states: Tensor,
    ) -> tuple[Tensor | None, ...]: ...


class ScanOp(Protocol):
    """What `define` returns: an implementation in the form `ssd_scan` calls."""

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
        dt_limit: tuple[float, float] | None,
        summed: bool,
        chunk: int | None,
        walks: Sequence[Walk] | None,
    ) -> tuple[Tensor, Tensor]: ...


def define(
    name: str,
    forward: Forward,
    backward: Backward,
    default_chunk: Callable[[torch.dtype], int],
    keeps_states: bool,
    longest: int | None = None,
) -> ScanOp:
    """Register `ssmvid::{name}` and its backward with torch, and return it as an implementation.

    Args:
        name: of the operator.
        forward, backward: the launchers.
        default_chunk: steps computed together where the caller does not say, for the dtype of x.
        keeps_states: whether the backward wants the states before each chunk, or computes them again.
        longest: the most steps that paths which share x can compute together; None: each path goes alone.
    """

    forward, backward = refusing_to_compile(name, forward), refusing_to_compile(name, backward)

    def allocate(
        x: Tensor, dt: Tensor, B: Tensor, cu_seqlens: Tensor | None, chunk: int, summed: bool, save: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        (b, k, l, heads), p, n = dt.shape, x.shape[-1], B.shape[-1]
        clips = 1 if cu_seqlens is None else cu_seqlens.shape[0] - 1
        state_dtype = torch.promote_types(x.dtype, torch.float32)
        y = x.new_empty((b, l, heads, p) if summed else (b, k, l, heads, p))
        h = x.new_empty((b * clips, k, heads, p, n), dtype=state_dtype)
        kept = (b, k, l // chunk + clips, heads * p * n) if save and keeps_states else (0,)
        return y, h, x.new_empty(kept, dtype=state_dtype)

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
        bundles: Sequence[Tensor],
        dt_softplus: bool,
        dt_limit: Sequence[float] | None,
        chunk: int,
        summed: bool,
        save: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        y, h, states = allocate(x, dt, B, cu_seqlens, chunk, summed, save)
        options = (paths, cu_seqlens, bundles, dt_softplus, dt_limit, chunk)
        forward(x, dt, A, B, C, D, dt_bias, h0, *options, y, h, states if states.dim() > 1 else None)
        return y, h, states

    @scan.register_fake
    def _(x, dt, A, B, C, D, dt_bias, h0, paths, cu_seqlens, bundles, dt_softplus, dt_limit, chunk, summed, save):  # type: ignore[no-untyped-def]
        return allocate(x, dt, B, cu_seqlens, chunk, summed, save)

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
        bundles: Sequence[Tensor],
        dt_softplus: bool,
        dt_limit: Sequence[float] | None,
        chunk: int,
        states: Tensor,
    ) -> list[Tensor]:
        inputs = (x, dt, A, B, C, D, dt_bias, h0)
        with without_autocast(x.device):
            grads = backward(dy, dh, *inputs, paths, cu_seqlens, bundles, dt_softplus, dt_limit, chunk, states)
        return [
            grad.to(tensor.dtype).contiguous() if grad is not None and tensor is not None else x.new_empty(0)
            for grad, tensor in zip(grads, inputs)
        ]

    @scan_backward.register_fake
    def _(dy, dh, x, dt, A, B, C, D, dt_bias, h0, paths, cu_seqlens, *options):  # type: ignore[no-untyped-def]
        inputs = (x, dt, A, B, C, D, dt_bias, h0)
        return [x.new_empty(0) if t is None else t.new_empty(t.shape) for t in inputs]

    def keep(ctx, inputs, output):  # type: ignore[no-untyped-def]
        ctx.options = inputs[11:14]
        ctx.set_materialize_grads(False)  # or zeros would be made for the states
        ctx.like = [(t.shape, t.dtype) for t in output[:2]]
        ctx.save_for_backward(output[2], *inputs[:10], *inputs[10])

    def differentiate(ctx, dy, dh, _):  # type: ignore[no-untyped-def]
        states, *tensors = ctx.saved_tensors
        dy, dh = (
            tensors[0].new_zeros(shape, dtype=dtype) if grad is None else grad
            for grad, (shape, dtype) in zip((dy, dh), ctx.like)
        )
        grads = scan_backward(dy, dh, *tensors[:10], tensors[10:], *ctx.options, states)
        grads = [None if tensor is None else grad for tensor, grad in zip(tensors[:8], grads)]
        return (*grads, None, None, [None] * len(tensors[10:]), *[None] * 5)

    scan.register_autograd(differentiate, setup_context=keep)
    refuse_second_derivative(scan_backward, name)
    count_flops(name, forward_flops, backward_flops)

    def implementation(  # type: ignore[no-untyped-def]
        x, dt, A, B, C, D, dt_bias, h0, paths, cu_seqlens, *, dt_softplus, dt_limit, summed, chunk, walks
    ):
        floats, chunk = (x, dt, A, B, C, D, dt_bias, h0), chunk or default_chunk(x.dtype)
        bundles: list[Tensor] = []
        if longest is not None and x.shape[1] < dt.shape[1]:
            clips = 1 if cu_seqlens is None else cu_seqlens.shape[0] - 1
            chunk, bundles = bundle(walks, chunk, clips, x.device, longest)
        save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in floats)
        limit = None if dt_limit is None else [float(bound) for bound in dt_limit]
        y, h, _ = scan(*floats, paths, cu_seqlens, bundles, dt_softplus, limit, chunk, summed, save)
        return y, h

    return implementation


def forward_flops(x: Shape, dt: Shape, A: Shape, B: Shape, *options: Any, **__: Any) -> int:
    """README.md, "FLOPs"."""
    return _flops(x, dt, B, options[CHUNK_AFTER_B], of_B=1, of_x=1, of_states=2)


def backward_flops(dy: Shape, dh: Shape, x: Shape, dt: Shape, A: Shape, B: Shape, *options: Any, **__: Any) -> int:
    """README.md, "FLOPs"."""
    return _flops(x, dt, B, options[CHUNK_AFTER_B], of_B=3, of_x=2, of_states=5)


def _flops(x: Shape, dt: Shape, B: Shape, chunk: int, of_B: int, of_x: int, of_states: int) -> int:
    """Of so many matmuls a chunk: between steps by way of B or C, between steps by way of x, and with a state."""
    (b, k, l, heads), p, (g, n) = dt, x[-1], B[-2:]
    squares = l // chunk * chunk**2 + (l % chunk) ** 2
    return 2 * b * k * (squares * (of_B * g * n + of_x * heads * p) + of_states * l * heads * p * n)
