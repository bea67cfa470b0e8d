"""RMSNorm and LayerNorm with the residual add or the gate beside them. Maths, backward and floor: README.md here."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..backends import pick
from ..checks import expect_float, expect_shape
from .cpu_norm import norm_cpu
from .reference import norm_reference
from .torch_norm import norm_torch
from .triton_norm import norm_triton

IMPLEMENTATIONS = {
    "reference": norm_reference,
    "torch": norm_torch,
    "cpu": norm_cpu,
    "triton": norm_triton,
}


class Norm(NamedTuple):
    """`y`: normed, in x's dtype. `residual`: x + residual, fp32 at least; None where no residual was given."""

    y: Tensor
    residual: Tensor | None


def rms_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    residual: Tensor | None = None,
    z: Tensor | None = None,
    group_size: int | None = None,
    norm_before_gate: bool = True,
    eps: float = 1e-5,
    backend: str | None = None,
) -> Norm:
    """`y = s / sqrt(mean(s^2) + eps) * weight + bias` over the last axis, with `s = x + residual`, gated by `silu(z)`.

    Differentiable in every float argument and through both outputs; the arithmetic is fp32 at least, whatever x is.

    Args:
        x: input (..., d). Any leading axes and strides, as all that follow.
        weight: (d,). None: 1.
        bias: (d,). None: 0.
        residual: the stream x is added to before the norm, as x; its sum is returned. None: x alone is normed.
        z: gate, as x. None: no gate.
        group_size: channels that are normed together, a divisor of d. None: all d.
        norm_before_gate: `norm(s) silu(z)`; else `norm(s silu(z))`. Without z it is not read.
        eps: added to the mean square.
        backend: 'triton', 'cpu', 'torch', 'reference'. None: as `use_backend` says, else 'auto'.

    Returns:
        `Norm(y, residual)`: y as x; the sum in fp32 at least (fp64 where x or residual is), None without a residual.

    Raises:
        ValueError: a shape, device or group_size does not fit; the message names the argument, got and expected.
        TypeError: a tensor is not floating point.
        BackendError: an explicit `backend` cannot run here; the message lists every reason.

    Source: Zhang & Sennrich 2019, arXiv:1910.07467; the gate: Dao & Gu 2024, arXiv:2405.21060, section 7.
    """
    return _norm("rms_norm", False, x, weight, bias, residual, z, group_size, norm_before_gate, eps, backend)


def layer_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    residual: Tensor | None = None,
    z: Tensor | None = None,
    group_size: int | None = None,
    norm_before_gate: bool = True,
    eps: float = 1e-5,
    backend: str | None = None,
) -> Norm:
    """`y = (s - mean(s)) / sqrt(var(s) + eps) * weight + bias`; all else as in `rms_norm`.

    Args:
        x, weight, bias, residual, z, group_size, norm_before_gate, backend: as in `rms_norm`.
        eps: added to the variance, which divides by the number of channels.

    Returns:
        `Norm(y, residual)`: as `rms_norm`.

    Raises:
        ValueError, TypeError, BackendError: as `rms_norm`.

    Source: Ba, Kiros & Hinton 2016, arXiv:1607.06450.
    """
    return _norm("layer_norm", True, x, weight, bias, residual, z, group_size, norm_before_gate, eps, backend)


def _norm(
    op: str,
    centred: bool,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    z: Tensor | None,
    group_size: int | None,
    norm_before_gate: bool,
    eps: float,
    backend: str | None,
) -> Norm:
    _check(op, x, weight, bias, residual, z, group_size)
    norm = pick(op, IMPLEMENTATIONS, backend, x.device)
    y, stream = norm(
        _three_axes(x),
        weight,
        bias,
        None if residual is None else _three_axes(residual),
        None if z is None else _three_axes(z),
        groups=x.shape[-1] // group_size if group_size else 1,
        gate_first=z is not None and not norm_before_gate,
        centred=centred,
        eps=eps,
    )
    return Norm(y.reshape(x.shape), None if stream is None else stream.reshape(x.shape))


def _three_axes(tensor: Tensor) -> Tensor:
    """(..., d) as (b, l, d), the one form an implementation sees; nothing is copied up to three axes."""
    if tensor.dim() > 3:
        return tensor.flatten(0, -3)
    return tensor[(None,) * (3 - tensor.dim())]


def _check(
    op: str,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    z: Tensor | None,
    group_size: int | None,
) -> None:
    expect_float(op, x.device, dict(x=x, weight=weight, bias=bias, residual=residual, z=z).items())
    if x.dim() < 1:
        raise ValueError(f"{op}: x must be (..., d), got {tuple(x.shape)}")
    d = x.shape[-1]
    if group_size is not None and (group_size < 1 or d % group_size):
        raise ValueError(f"{op}: group_size must be a divisor of d = {d}, got {group_size}")
    shapes = {
        "weight": (weight, "(d,)", (d,)),
        "bias": (bias, "(d,)", (d,)),
        "residual": (residual, "(..., d)", tuple(x.shape)),
        "z": (z, "(..., d)", tuple(x.shape)),
    }
    for name, (tensor, axes, shape) in shapes.items():
        if tensor is not None:
            expect_shape(op, name, tensor, axes, shape, f"d and the axes before it come from x {tuple(x.shape)}")
