"""State-space duality (SSD), the recurrence of Mamba-2. Maths, backward and floor: README.md beside this file."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from .. import walk as walk_
from ..backends import pick
from ..checks import expect_clips, expect_float, expect_shape
from ..s6 import Merge, Scan
from ..walk import Walk
from .cpu_scan import ssd_scan_cpu
from .mamba_ssm_scan import limits, ssd_scan_mamba_ssm
from .op import without_autocast
from .reference import ssd_scan_reference
from .torch_scan import ssd_scan_torch
from .triton_scan import ssd_scan_triton

IMPLEMENTATIONS = {
    "reference": ssd_scan_reference,
    "torch": ssd_scan_torch,
    "cpu": ssd_scan_cpu,
    "triton": ssd_scan_triton,
    "mamba_ssm": ssd_scan_mamba_ssm,
}


def ssd_scan(
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
    dt_limit: tuple[float, float] | None = None,
    walks: Sequence[Walk] | None = None,
    merge: Merge | None = "sum",
    h0: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    chunk: int | None = None,
    backend: str | None = None,
) -> Scan:
    """Run `h_i = exp(dt_i A) h_(i-1) + dt_i x_i B_i^T`, `y_i = h_i C_i + D x_i` along l, or along k walks at once.

    One decay a head and step, so that a chunk of steps is a few matmuls. With `walks`, step i of path k reads and
    writes row `walks[k](i)`; every tensor stays in token order. The paths' outputs are merged row by row.
    Differentiable in every float argument and through `h`. State, A and dt are fp32 at least, whatever x is, under
    autocast too.

    Args:
        x: input (b, l, heads, p), or (b, k, l, heads, p) where each walk has its own. Any strides, as all that follow.
        dt: step size (b, l, heads); with walks (b, k, l, heads). Positive once bias and softplus are applied.
        A: state decay (heads,), negative; with walks (k, heads).
        B: input gate (b, l, g, n); with walks (b, k, l, g, n). Head i reads group i // (heads / g).
        C: output gate, as B.
        D: skip weight, one a head (heads,) or a channel (heads, p); with walks (k, heads) or (k, heads, p), each
            added to its path before the merge. None: no skip.
        z: gate (b, l, heads, p): the merged y is multiplied by silu(z). None: no gate.
        dt_bias: added to dt before anything else, (heads,); with walks (k, heads).
        dt_softplus: take softplus of dt (+ dt_bias).
        dt_limit: (low, high): dt is clamped to it after bias and softplus; its gradient is 0 outside. None: no limit.
        walks: k paths over the l rows. None: the order the tokens lie in.
        merge: 'sum' or 'mean' over the k outputs, or None to keep them apart; without walks it is not read.
        h0: state before the first step (b, heads, p, n); with walks (b, k, heads, p, n); packed: s clips in place of
            b. None: 0.
        cu_seqlens: int32 (s + 1,): s clips packed in one row (b = 1), states reset at each border.
        chunk: steps computed together: speed and rounding, never the result. None: what suits the implementation. Where
            paths share bricks (`Walk.chunks`) a brick on backend 'triton'.
        backend: 'triton', 'cpu', 'torch', 'reference', 'mamba_ssm'. None: as `use_backend` says, else 'auto'.

    Returns:
        `Scan(y, h)`: y (b, l, heads, p) in x's dtype, (b, k, l, heads, p) with `merge=None`; h in the shape of h0.

    Raises:
        ValueError: a shape, device or number does not fit; the message names the argument, got and expected.
        TypeError: a tensor is not floating point.
        RuntimeError: an explicit `backend` cannot run here; the message lists every reason.

    Source: Dao & Gu 2024, arXiv:2405.21060, section 6; several paths a block: Liu et al. 2024, arXiv:2401.10166.
    """
    _check(x, dt, A, B, C, D, z, dt_bias, dt_limit, walks, merge, h0, cu_seqlens, chunk)
    unfit = {"mamba_ssm": lambda: limits(x, B, C, walks, cu_seqlens)}
    scan = pick("ssd_scan", IMPLEMENTATIONS, backend, x.device, unfit)
    # Every implementation sees one form only: with a k axis, D a channel, and the walks as a tensor.
    lone = walks is None
    k = lambda tensor, axis: tensor.unsqueeze(axis) if lone and tensor is not None else tensor
    if D is not None and D.dim() == A.dim():
        D = D.unsqueeze(-1).expand(*D.shape, x.shape[-1])
    with without_autocast(x.device):
        y, h = scan(
            x.unsqueeze(1) if x.dim() == 4 else x,
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
            dt_limit=dt_limit,
            summed=lone or merge is not None,
            chunk=chunk,
            walks=walks,
        )
    if walks is not None and merge == "mean":
        y = y / len(walks)
    if z is not None:
        y = y * F.silu(z)
    return Scan(y.to(x.dtype), h.squeeze(1) if lone else h)


def ssd_step(
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
    dt_limit: tuple[float, float] | None = None,
    backend: str | None = None,
) -> Scan:
    """One token, or one chunk of tokens, on from the state `h`.

    Args:
        x: input (b, heads, p), or a chunk (b, l, heads, p); z as x.
        dt: step size (b, heads), or (b, l, heads).
        B: input gate (b, g, n), or (b, l, g, n); C as B.
        h: the state before it (b, heads, p, n). It is not changed: the state after it is returned.
        A, D, dt_bias, dt_softplus, dt_limit, backend: as in `ssd_scan`.

    Returns:
        `Scan(y, h)`: y as x, h (b, heads, p, n).

    Raises:
        ValueError, TypeError, RuntimeError: as `ssd_scan`.
    """
    one = x.dim() == 3
    step = lambda tensor: tensor.unsqueeze(1) if one and tensor is not None else tensor
    y, after = ssd_scan(
        step(x), step(dt), A, step(B), step(C), D,
        z=step(z), dt_bias=dt_bias, dt_softplus=dt_softplus, dt_limit=dt_limit, h0=h, backend=backend,
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
    dt_limit: tuple[float, float] | None,
    walks: Sequence[Walk] | None,
    merge: str | None,
    h0: Tensor | None,
    cu_seqlens: Tensor | None,
    chunk: int | None,
) -> None:
    op = "ssd_scan"
    expect_float(op, x.device, dict(x=x, dt=dt, A=A, B=B, C=C, D=D, z=z, dt_bias=dt_bias, h0=h0).items())
    lone = walks is None
    if x.dim() != 4 and not (x.dim() == 5 and not lone):
        raise ValueError(f"{op}: x must be (b, l, heads, p), or (b, k, l, heads, p) with walks, got {tuple(x.shape)}")
    if B.dim() != (4 if lone else 5):
        raise ValueError(f"{op}: B must be {'(b, l, g, n)' if lone else '(b, k, l, g, n)'}, got {tuple(B.shape)}")
    b, l, heads, p, (g, n) = x.shape[0], *x.shape[-3:], B.shape[-2:]
    if g < 1 or heads % g:
        raise ValueError(f"{op}: the groups of B must divide the heads of x: got g = {g}, heads = {heads}")
    if merge not in ("sum", "mean", None):
        raise ValueError(f"{op}: merge must be 'sum', 'mean' or None, got {merge!r}")
    if dt_limit is not None and not dt_limit[0] <= dt_limit[1]:
        raise ValueError(f"{op}: dt_limit must be (low, high) with low <= high, got {dt_limit}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"{op}: chunk must be at least 1, got {chunk}")
    clips = None if cu_seqlens is None else expect_clips(op, cu_seqlens, b, l)
    k, axis = ((), "") if walks is None else ((len(walks),), "k, ")
    if walks is not None:
        walk_.check(op, walks, l, clips)
    each_head = "(k, heads)" if axis else "(heads,)"
    D_axes, D_shape = (each_head, (*k, heads))
    if D is not None and D.dim() == 2 + len(k):
        D_axes, D_shape = f"({axis}heads, p)", (*k, heads, p)
    origin = f"b, l, heads, p come from x {tuple(x.shape)}, g, n from B {tuple(B.shape)}"
    expected = {
        "x": (x if x.dim() == 5 else None, "(b, k, l, heads, p)", (b, *k, l, heads, p)),
        "dt": (dt, f"(b, {axis}l, heads)", (b, *k, l, heads)),
        "A": (A, each_head, (*k, heads)),
        "B": (B, f"(b, {axis}l, g, n)", (b, *k, l, g, n)),
        "C": (C, f"(b, {axis}l, g, n)", (b, *k, l, g, n)),
        "D": (D, D_axes, D_shape),
        "z": (z, "(b, l, heads, p)", (b, l, heads, p)),
        "dt_bias": (dt_bias, each_head, (*k, heads)),
        "h0": (
            h0,
            f"({'b' if clips is None else 's'}, {axis}heads, p, n)",
            (b if clips is None else clips, *k, heads, p, n),
        ),
    }
    for name, (tensor, axes, shape) in expected.items():
        if tensor is not None:
            expect_shape(op, name, tensor, axes, shape, origin)
    if z is not None and walks is not None and merge is None:
        raise ValueError(f"{op}: z gates the merged y, so it needs merge='sum' or 'mean', got merge=None")
