"""Causal depthwise convolution along l, or along k walks. Maths, backward and floor: README.md beside this file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor

from .. import walk as walk_
from ..backends import pick
from ..checks import expect_clips, expect_float, expect_shape
from ..walk import Walk
from .cpu_conv import causal_conv1d_cpu
from .mamba_ssm_conv import causal_conv1d_mamba_ssm, limits
from .reference import causal_conv1d_reference
from .torch_conv import causal_conv1d_torch
from .triton_conv import causal_conv1d_triton

IMPLEMENTATIONS = {
    "reference": causal_conv1d_reference,
    "torch": causal_conv1d_torch,
    "cpu": causal_conv1d_cpu,
    "triton": causal_conv1d_triton,
    "mamba_ssm": causal_conv1d_mamba_ssm,
}
WIDTHS = (2, 3, 4)
Activation = Literal["silu"]


class Conv(NamedTuple):
    """`y`: outputs, in x's dtype. `h`: the last width - 1 inputs, fp32 (fp64 where x is)."""

    y: Tensor
    h: Tensor


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: Activation | None = None,
    walks: Sequence[Walk] | None = None,
    h0: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    backend: str | None = None,
) -> Conv:
    """Run `y_i = act(bias + sum_j weight[:, j] x_(i - width + 1 + j))` along l, or along k walks at once.

    A channel sees only itself, now (`weight[:, -1]`) and width - 1 steps back. With `walks`, step i of path k reads
    and writes row `walks[k](i)`; x and y stay in token order and no permuted copy of them is made.
    Differentiable in every float argument and through `h`; the arithmetic is fp32 at least, whatever x is.

    Args:
        x: input (b, l, d), or (b, k, l, d) where each walk has its own. Any strides, as all that follow.
        weight: (d, width), width 2 to 4; with walks (k, d, width).
        bias: (d,); with walks (k, d). None: no bias.
        activation: 'silu', or None for none.
        walks: k paths over the l rows. None: the order the tokens lie in.
        h0: the width - 1 inputs before the first step, oldest first, (b, d, width - 1); with walks
            (b, k, d, width - 1); packed: s clips in place of b. None: 0.
        cu_seqlens: int32 (s + 1,): s clips packed in one row (b = 1); none sees over a border.
        backend: 'triton', 'cpu', 'torch', 'reference'; 'mamba_ssm', which is the package causal_conv1d. None: as
            `use_backend` says, else 'auto'.

    Returns:
        `Conv(y, h)`: y (b, l, d) in x's dtype, with walks (b, k, l, d), never merged; h in the shape of h0.

    Raises:
        ValueError: a shape or device does not fit; the message names the argument, got and expected.
        TypeError: a tensor is not floating point.
        BackendError: an explicit `backend` cannot run here; the message lists every reason.

    Source: the convolution before the scan of Gu & Dao 2023, arXiv:2312.00752, section 3.4.
    """
    _check(x, weight, bias, activation, walks, h0, cu_seqlens)
    unfit = {"mamba_ssm": lambda: limits(x, walks, cu_seqlens)}
    conv = pick("causal_conv1d", IMPLEMENTATIONS, backend, x.device, unfit)
    # Every implementation sees one form only: with a k axis, and the walks as a tensor.
    lone = walks is None
    k = lambda tensor, axis: tensor.unsqueeze(axis) if lone and tensor is not None else tensor
    y, h = conv(
        x.unsqueeze(1) if x.dim() == 3 else x,
        k(weight, 0),
        k(bias, 0),
        k(h0, 1),
        None if walks is None else walk_.encode(walks, x.device),
        cu_seqlens,
        silu=activation == "silu",
    )
    return Conv(y.squeeze(1), h.squeeze(1)) if lone else Conv(y, h)


def causal_conv1d_step(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    h: Tensor,
    activation: Activation | None = None,
    backend: str | None = None,
) -> Conv:
    """One token, or one chunk of tokens, on from the state `h`.

    Args:
        x: input (b, d), or a chunk (b, l, d).
        h: the width - 1 inputs before it (b, d, width - 1). It is not changed: the ones after it are returned.
        weight, bias, activation, backend: as in `causal_conv1d`.

    Returns:
        `Conv(y, h)`: y as x, h (b, d, width - 1).

    Raises:
        ValueError, TypeError, BackendError: as `causal_conv1d`.
    """
    one = x.dim() == 2
    y, after = causal_conv1d(x.unsqueeze(1) if one else x, weight, bias, activation=activation, h0=h, backend=backend)
    return Conv(y.squeeze(1) if one else y, after)


def _check(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    walks: Sequence[Walk] | None,
    h0: Tensor | None,
    cu_seqlens: Tensor | None,
) -> None:
    op = "causal_conv1d"
    expect_float(op, x.device, dict(x=x, weight=weight, bias=bias, h0=h0).items())
    if x.dim() != 3 and not (x.dim() == 4 and walks is not None):
        raise ValueError(f"{op}: x must be (b, l, d), or (b, k, l, d) with walks, got {tuple(x.shape)}")
    k, axis = ((), "") if walks is None else ((len(walks),), "k, ")
    if weight.dim() != len(k) + 2 or weight.shape[-1] not in WIDTHS:
        raise ValueError(f"{op}: weight must be ({axis}d, width) with width 2, 3 or 4, got {tuple(weight.shape)}")
    if activation not in ("silu", None):
        raise ValueError(f"{op}: activation must be 'silu' or None, got {activation!r}")
    b, l, d, width = x.shape[0], x.shape[-2], x.shape[-1], weight.shape[-1]
    clips = None if cu_seqlens is None else expect_clips(op, cu_seqlens, b, l)
    if walks is not None:
        walk_.check(op, walks, l, clips)
    origin = f"b, l, d come from x {tuple(x.shape)}, width from weight {tuple(weight.shape)}"
    first, s = ("b", b) if clips is None else ("s", clips)
    expected = {
        "x": (x if x.dim() == 4 else None, "(b, k, l, d)", (b, *k, l, d)),
        "weight": (weight, f"({axis}d, width)", (*k, d, width)),
        "bias": (bias, f"({axis}d)" if axis else "(d,)", (*k, d)),
        "h0": (h0, f"({first}, {axis}d, width - 1)", (s, *k, d, width - 1)),
    }
    for name, (tensor, axes, shape) in expected.items():
        if tensor is not None:
            expect_shape(op, name, tensor, axes, shape, origin)
