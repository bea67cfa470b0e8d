"""One torch operator a fused backend: schema, fake tensors and autograd, shared by the CPU and the Triton kernels."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..graphs import refusing_to_compile
from ..transforms import refuse_second_derivative


def stream_dtype(x: Tensor, residual: Tensor | None) -> torch.dtype:
    """What the sum is kept and the norm computed in: fp32 at least."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return dtype if residual is None else torch.promote_types(dtype, residual.dtype)


class Forward(Protocol):
    """Fills y and, unless it is None, `stream`, both (b, l, d) and dense."""

    def __call__(
        self,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        residual: Tensor | None,
        z: Tensor | None,
        groups: int,
        gate_first: bool,
        centred: bool,
        eps: float,
        y: Tensor,
        stream: Tensor | None,
    ) -> None: ...


class Backward(Protocol):
    """Fills dx, dstream and dz, unless they are None, and returns the gradients of weight and bias, where these are.

    `stream` is what was normed: x + residual, or x. `dsum` is what comes back to it from later layers (None: 0).
    dx and dstream hold the same numbers, each in its own dtype.
    """

    def __call__(
        self,
        dy: Tensor,
        dsum: Tensor | None,
        stream: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        z: Tensor | None,
        groups: int,
        gate_first: bool,
        centred: bool,
        eps: float,
        dx: Tensor | None,
        dstream: Tensor | None,
        dz: Tensor | None,
    ) -> tuple[Tensor | None, Tensor | None]: ...


class NormOp(Protocol):
    """What `define` returns: an implementation in the form the public functions call."""

    def __call__(
        self,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        residual: Tensor | None,
        z: Tensor | None,
        *,
        groups: int,
        gate_first: bool,
        centred: bool,
        eps: float,
    ) -> tuple[Tensor, Tensor | None]: ...


def define(name: str, forward: Forward, backward: Backward) -> NormOp:
    """Register `ssmvid::{name}` and its backward with torch, and return it as an implementation.

    Saved is what was normed, which the caller holds anyway: mean and variance are computed again.
    """

    forward, backward = refusing_to_compile(name, forward), refusing_to_compile(name, backward)

    def allocate(x: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        stream = x.new_empty(0 if residual is None else x.shape, dtype=stream_dtype(x, residual))
        return x.new_empty(x.shape), stream

    @torch.library.custom_op(f"ssmvid::{name}", mutates_args=())
    def norm(
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        residual: Tensor | None,
        z: Tensor | None,
        groups: int,
        gate_first: bool,
        centred: bool,
        eps: float,
    ) -> tuple[Tensor, Tensor]:
        y, stream = allocate(x, residual)
        kept = None if residual is None else stream
        forward(x, weight, bias, residual, z, groups, gate_first, centred, eps, y, kept)
        return y, stream

    @norm.register_fake
    def _(x, weight, bias, residual, z, groups, gate_first, centred, eps):  # type: ignore[no-untyped-def]
        return allocate(x, residual)

    def allocate_gradients(stream: Tensor, z: Tensor | None, dtype: torch.dtype, added: bool) -> list[Tensor]:
        """dx, dstream and dz; empty where there is none. With one dtype for both, dstream stands for dx too."""
        both = added and dtype == stream.dtype
        return [
            stream.new_empty(0 if both else stream.shape, dtype=dtype),
            stream.new_empty(stream.shape if added else 0),
            stream.new_empty(0) if z is None else z.new_empty(z.shape),
        ]

    @torch.library.custom_op(f"ssmvid::{name}_backward", mutates_args=())
    def norm_backward(
        dy: Tensor,
        dsum: Tensor | None,
        stream: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        z: Tensor | None,
        dtype: torch.dtype,
        added: bool,
        groups: int,
        gate_first: bool,
        centred: bool,
        eps: float,
    ) -> list[Tensor]:
        made = allocate_gradients(stream, z, dtype, added)
        wanted = [grad if grad.shape == stream.shape else None for grad in made]
        sums = backward(dy, dsum, stream, weight, bias, z, groups, gate_first, centred, eps, *wanted)
        return made + [
            grad.to(tensor.dtype) if grad is not None and tensor is not None else stream.new_empty(0)
            for grad, tensor in zip(sums, (weight, bias))
        ]

    @norm_backward.register_fake
    def _(dy, dsum, stream, weight, bias, z, dtype, added, groups, gate_first, centred, eps):  # type: ignore[no-untyped-def]
        made = allocate_gradients(stream, z, dtype, added)
        return made + [stream.new_empty(0) if t is None else t.new_empty(t.shape) for t in (weight, bias)]

    def keep(ctx, inputs, output):  # type: ignore[no-untyped-def]
        x, weight, bias, residual, z, *ctx.settings = inputs
        ctx.dtype, ctx.residual_dtype = x.dtype, None if residual is None else residual.dtype
        ctx.set_materialize_grads(False)  # the stream may go nowhere: then no zeros are made, or read, for it
        ctx.save_for_backward(x if residual is None else output[1], weight, bias, z)

    def differentiate(ctx, dy, dsum):  # type: ignore[no-untyped-def]
        stream, weight, bias, z = ctx.saved_tensors
        added = ctx.residual_dtype is not None
        if dy is None:
            dy = stream.new_zeros(()).expand(stream.shape)
        dsum = dsum if added else None
        grads = norm_backward(dy, dsum, stream, weight, bias, z, ctx.dtype, added, *ctx.settings)
        dx, dstream, dz, dweight, dbias = grads
        if added and ctx.dtype == stream.dtype:
            dx = dstream
        return (
            dx,
            None if weight is None else dweight,
            None if bias is None else dbias,
            dstream.to(ctx.residual_dtype) if added else None,
            None if z is None else dz,
            *(None for _ in ctx.settings),
        )

    norm.register_autograd(differentiate, setup_context=keep)
    refuse_second_derivative(norm_backward, name)

    def implementation(x, weight, bias, residual, z, *, groups, gate_first, centred, eps):  # type: ignore[no-untyped-def]
        y, stream = norm(x, weight, bias, residual, z, groups, gate_first, centred, eps)
        return y, None if residual is None else stream

    return implementation
