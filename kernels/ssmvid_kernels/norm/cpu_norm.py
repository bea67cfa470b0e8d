"""The norms on a CPU: numba kernels over SIMD lanes, compiled on the first call and cached on disk."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..cpu import dense, flat, parallel
from .op import define, stream_dtype

ROWS = 128  # rows of a task: their sums for weight and bias are one part, whatever the number of threads
SHARES = 2  # calls into a kernel a thread
TASKS = 4  # of a share at least: with fewer, waking a thread costs more than it saves


def forward(
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
) -> None:
    from .cpu_kernels import norm_forward  # numba is imported by the first call, not with the package

    if not y.numel():
        return
    dtype = stream_dtype(x, residual)
    out = y if y.dtype == dtype else torch.empty_like(y, dtype=dtype)
    shares = _shares(x)
    args = (
        shares,
        *x.shape[:2],
        *flat(x, dtype),
        residual is not None,
        *_optional(residual, dtype),
        *_optional(z, dtype),
        *_affine(weight, bias, x.shape[-1], dtype),
        _gate(z, gate_first),
        centred,
        eps,
        groups,
        (out if stream is None else stream).numpy().ravel(),
        out.numpy().ravel(),
        ROWS,
        64 // dtype.itemsize,
    )
    parallel(lambda share: norm_forward(share, *args), shares)
    if out is not y:
        y.copy_(out)


def backward(
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
) -> tuple[Tensor | None, Tensor | None]:
    from .cpu_kernels import norm_backward

    dtype, (b, l, d) = torch.promote_types(stream.dtype, torch.float32), stream.shape
    new = lambda *shape: stream.new_empty(shape, dtype=dtype)
    total = next((grad for grad in (dstream, dx) if grad is not None and grad.dtype == dtype), None)
    total = new(b, l, d) if total is None else total
    dgate = dz if dz is not None and dz.dtype == dtype else new(*(() if z is None else z.shape))
    tasks = -(-b * l // ROWS) if d else 0
    dweight, dbias = new(tasks, d), new(tasks, d)
    shares = _shares(stream) if d else 0
    args = (
        shares,
        b,
        l,
        *flat(dy, dtype),
        dsum is not None,
        *_optional(dsum, dtype),
        *flat(stream, dtype),
        *_optional(z, dtype),
        *_affine(weight, bias, d, dtype),
        _gate(z, gate_first),
        centred,
        eps,
        groups,
        total.numpy().ravel(),
        dgate.numpy().ravel(),
        dweight.numpy(),
        dbias.numpy(),
        ROWS,
        64 // dtype.itemsize,
    )
    parallel(lambda share: norm_backward(share, *args), shares)
    for grad, made in ((dx, total), (dz, dgate)):
        if grad is not None and grad is not made:
            grad.copy_(made)
    return (None if weight is None else dweight.sum(0)), (None if bias is None else dbias.sum(0))


def _shares(x: Tensor) -> int:
    return min(-(-x.shape[0] * x.shape[1] // (TASKS * ROWS)), SHARES * torch.get_num_threads())


def _optional(tensor: Tensor | None, dtype: torch.dtype) -> tuple[Any, Any]:
    """The memory of a tensor and its strides; an array and strides of the same types where there is none."""
    return flat(torch.empty(0, 0, 0) if tensor is None else tensor, dtype)


def _affine(weight: Tensor | None, bias: Tensor | None, d: int, dtype: torch.dtype) -> tuple[Any, Any]:
    return dense(torch.ones(d) if weight is None else weight, (d,), dtype), dense(bias, (d,), dtype)


def _gate(z: Tensor | None, gate_first: bool) -> int:
    """How the kernels are told: 0 no gate, 1 before the norm, 2 after it."""
    return 0 if z is None else 1 if gate_first else 2


norm_cpu = define("norm_cpu", forward, backward)
