"""Selective scan (S6), the recurrence of Mamba-1. Maths, backward and floor: README.md beside this file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from .. import walk as walk_
from ..backends import pick
from ..checks import expect_clips, expect_float, expect_shape
from ..walk import Walk
from .cpu_scan import selective_scan_cpu
from .mamba_ssm_scan import limits, selective_scan_mamba_ssm
from .reference import selective_scan_reference
from .torch_scan import selective_scan_torch
from .triton_scan import selective_scan_triton

IMPLEMENTATIONS = {
    "reference": selective_scan_reference,
    "torch": selective_scan_torch,
    "cpu": selective_scan_cpu,
    "triton": selective_scan_triton,
    "mamba_ssm": selective_scan_mamba_ssm,
}
Merge = Literal["sum", "mean"]


class Scan(NamedTuple):
    """`y`: outputs, as x. `h`: the state after the last step, fp32 (fp64 where x is)."""

    y: Tensor
    h: Tensor


def selective_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    walks: Sequence[Walk] | None = None,
    merge: Merge | None = "sum",
    h0: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    backend: str | None = None,
) -> Scan:
    """Run `h_i = exp(dt_i A) h_(i-1) + dt_i B_i x_i`, `y_i = C_i h_i + D x_i` along l, or along k walks at once.

    With `walks`, step i of path k reads and writes row `walks[k](i)`; every tensor stays in token order and
    no permuted copy of it is made. The paths' outputs are merged row by row. Differentiable in every
    float argument and through `h`. State, A and dt are fp32 at least, whatever x is, under autocast too.

    Args:
        x: input (b, l, d), or (b, k, l, d) where each walk has its own. Any strides, as all that follow.
        dt: step size (b, l, d); with walks (b, k, l, d). Positive once bias and softplus are applied.
        A: state decay (d, n), negative; with walks (k, d, n).
        B: input gate (b, l, n); with walks (b, k, l, n).
        C: output gate, as B.
        D: skip weight (d,); with walks (k, d), each added to its path before the merge. None: no skip.
        z: gate (b, l, d): the merged y is multiplied by silu(z). None: no gate.
        dt_bias: added to dt before anything else, (d,); with walks (k, d).
        dt_softplus: take softplus of dt (+ dt_bias).
        walks: k paths over the l rows. None: the order the tokens lie in.
        merge: 'sum' or 'mean' over the k outputs, or None to keep them apart; without walks it is not read.
        h0: state before the first step (b, d, n); with walks (b, k, d, n); packed: s clips in place of b. None: 0.
        cu_seqlens: int32 (s + 1,): s clips packed in one row (b = 1), states reset at each border.
        backend: 'triton', 'cpu', 'torch', 'reference'; 'mamba_ssm', whose h has no gradient. None: as `use_backend`
            says, else 'auto'.

    Returns:
        `Scan(y, h)`: y (b, l, d) in x's dtype, (b, k, l, d) with `merge=None`; h in the shape of h0.

    Raises:
        ValueError: a shape or device does not fit; the message names the argument, got and expected.
        TypeError: a tensor is not floating point.
        BackendError: an explicit `backend` cannot run here; the message lists every reason.

    Source: Gu & Dao 2023, arXiv:2312.00752, algorithm 2; several paths a block: Liu et al. 2024, arXiv:2401.10166.
    """
    _check(x, dt, A, B, C, D, z, dt_bias, walks, merge, h0, cu_seqlens)
    unfit = {"mamba_ssm": lambda: limits(x, dt, A, B, C, walks, h0, cu_seqlens)}
    scan = pick("selective_scan", IMPLEMENTATIONS, backend, x.device, unfit)
    # Every implementation sees one form only: with a k axis, and the walks as a tensor.
    lone = walks is None
    k = lambda tensor, axis: tensor.unsqueeze(axis) if lone and tensor is not None else tensor
    y, h = scan(
        x.unsqueeze(1) if x.dim() == 3 else x,
        k(dt, 1),
        k(A, 0),
        k(B, 1),
        k(C, 1),
        k(D, 0),
        k(dt_bias, 0),
        k(h0, 1),
        None if walks is None else walk_.encode(walks, x.device),
        cu_seqlens,
        dt_softplus=dt_softplus,
        summed=lone or merge is not None,
    )
    if walks is not None and merge == "mean":
        y = y / len(walks)
    if z is not None:
        y = y * F.silu(z)
    return Scan(y.to(x.dtype), h.squeeze(1) if lone else h)


def selective_scan_step(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    h: Tensor,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    backend: str | None = None,
) -> Scan:
    """One token, or one chunk of tokens, on from the state `h`.

    Args:
        x: input (b, d), or a chunk (b, l, d); dt and z as x.
        B: input gate (b, n), or (b, l, n); C as B.
        h: the state before it (b, d, n). It is not changed: the state after it is returned.
        A, D, dt_bias, dt_softplus, backend: as in `selective_scan`.

    Returns:
        `Scan(y, h)`: y as x, h (b, d, n).

    Raises:
        ValueError, TypeError, BackendError: as `selective_scan`.
    """
    one = x.dim() == 2
    step = lambda tensor: tensor.unsqueeze(1) if one and tensor is not None else tensor
    y, after = selective_scan(
        step(x), step(dt), A, step(B), step(C), D,
        z=step(z), dt_bias=dt_bias, dt_softplus=dt_softplus, h0=h, backend=backend,
    )  # fmt: skip
    return Scan(y.squeeze(1) if one else y, after)


def _check(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    walks: Sequence[Walk] | None,
    merge: str | None,
    h0: Tensor | None,
    cu_seqlens: Tensor | None,
) -> None:
    op = "selective_scan"
    floats = dict(x=x, dt=dt, A=A, B=B, C=C, D=D, z=z, dt_bias=dt_bias, h0=h0)
    expect_float(op, x.device, floats.items())
    if x.dim() != 3 and not (x.dim() == 4 and walks is not None):
        raise ValueError(f"{op}: x must be (b, l, d), or (b, k, l, d) with walks, got {tuple(x.shape)}")
    if A.dim() != (2 if walks is None else 3):
        raise ValueError(f"{op}: A must be {'(d, n)' if walks is None else '(k, d, n)'}, got {tuple(A.shape)}")
    if merge not in ("sum", "mean", None):
        raise ValueError(f"{op}: merge must be 'sum', 'mean' or None, got {merge!r}")
    b, l, d, n = x.shape[0], x.shape[-2], x.shape[-1], A.shape[-1]
    clips = None if cu_seqlens is None else expect_clips(op, cu_seqlens, b, l)
    s = b if clips is None else clips
    k, axis = ((), "") if walks is None else ((len(walks),), "k, ")
    if walks is not None:
        walk_.check(op, walks, l, clips)
    origin = f"b, l, d come from x {tuple(x.shape)}, n from A {tuple(A.shape)}"
    first = "b" if clips is None else "s"
    expected = {
        "x": (x if x.dim() == 4 else None, "(b, k, l, d)", (b, *k, l, d)),
        "dt": (dt, f"(b, {axis}l, d)", (b, *k, l, d)),
        "A": (A, f"({axis}d, n)", (*k, d, n)),
        "B": (B, f"(b, {axis}l, n)", (b, *k, l, n)),
        "C": (C, f"(b, {axis}l, n)", (b, *k, l, n)),
        "D": (D, f"({axis}d)" if axis else "(d,)", (*k, d)),
        "z": (z, "(b, l, d)", (b, l, d)),
        "dt_bias": (dt_bias, f"({axis}d)" if axis else "(d,)", (*k, d)),
        "h0": (h0, f"({first}, {axis}d, n)", (s, *k, d, n)),
    }
    for name, (tensor, axes, shape) in expected.items():
        if tensor is not None:
            expect_shape(op, name, tensor, axes, shape, origin)
    if z is not None and walks is not None and merge is None:
        raise ValueError(f"{op}: z gates the merged y, so it needs merge='sum' or 'mean', got merge=None")
