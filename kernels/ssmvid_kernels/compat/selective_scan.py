"""mamba_ssm's selective scan (`mamba_ssm.ops.selective_scan_interface`) over `selective_scan`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import expect_shape
from ..s6 import Scan, selective_scan
from ..walk import Walk


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run `selective_scan` on channel-first tensors; no transposed copy of them is made.

    Args:
        u: input (b, d, l); delta, the step size, and z, the gate, as u.
        A: state decay (d, n), real.
        B: input gate: fixed (d, n), or of every step (b, n, l), or with g groups of channels (b, g, n, l).
        C: output gate, as B.
        D, delta_bias: (d,).
        delta_softplus: take softplus of delta (+ delta_bias).
        return_last_state: return the state after the last step too.

    Returns:
        y (b, d, l) in u's dtype, or (y, state (b, d, n) in fp32). Unlike there, the state has its gradient.

    Raises:
        ValueError: a shape does not fit, or only one of B and C has groups.
        TypeError: a tensor is complex, or not floating point.

    Source: selective_scan_fn of github.com/state-spaces/mamba, version 2.3.2.
    """
    y, h = scan_channel_first(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    return (y.mT, h) if return_last_state else y.mT


def scan_channel_first(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> Scan:
    """As `selective_scan_fn`, but y is (b, l, d)."""
    _check(u, delta, A, B, C, z)
    z = None if z is None else z.mT
    B, C = (gate.squeeze(1) if gate.dim() == 4 and gate.shape[1] == 1 else gate for gate in (B, C))
    if B.dim() == 2 or C.dim() == 2:
        return _scan_fixed(u.mT, delta.mT, A, B, C, D, delta_bias, z, delta_softplus)
    B, C = (gate.unsqueeze(1) if gate.dim() == 3 else gate for gate in (B, C))
    gates = B.movedim(-1, 1), C.movedim(-1, 1)
    return scan_groups(u.mT, delta.mT, A, *gates, D, delta_bias, z=z, dt_softplus=delta_softplus)


def scan_groups(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt_bias: Tensor | None,
    *,
    z: Tensor | None,
    dt_softplus: bool,
    h0: Tensor | None = None,
) -> Scan:
    """`selective_scan` with B and C (b, l, g, n): group i of them is read by the i-th g-th of the channels."""
    (_, l, d), g = x.shape, B.shape[2]
    if g == 1:
        return selective_scan(
            x, dt, A, B.squeeze(2), C.squeeze(2), D, z=z, dt_bias=dt_bias, dt_softplus=dt_softplus, h0=h0
        )
    # Groups are paths that walk the same way, each with its own channels: one launch, and no input is copied.
    split = lambda tensor, axis: tensor.unflatten(axis, (g, d // g))
    y, h = selective_scan(
        split(x, 2).movedim(2, 1),
        split(dt, 2).movedim(2, 1),
        split(A, 0),
        B.movedim(2, 1),
        C.movedim(2, 1),
        None if D is None else split(D, 0),
        dt_bias=None if dt_bias is None else split(dt_bias, 0),
        dt_softplus=dt_softplus,
        walks=(Walk((l, 1, 1)),) * g,
        merge=None,
        h0=None if h0 is None else split(h0, 1),
    )
    y = y.movedim(1, 2).flatten(2)
    return Scan(y if z is None else (y * F.silu(z)).to(x.dtype), h.flatten(1, 2))


def _scan_fixed(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt_bias: Tensor | None,
    z: Tensor | None,
    dt_softplus: bool,
) -> Scan:
    """B or C (d, n): one path a state, so that what is fixed scales its input or its output, channel by channel."""
    (b, l, d), n, dtype = x.shape, A.shape[1], torch.promote_types(x.dtype, torch.float32)
    wide = x.to(dtype)  # or each path's share of y would be rounded to x's dtype before they are summed
    gate = lambda gate: x.new_ones(1).expand(b, n, l, 1) if gate.dim() == 2 else gate.unsqueeze(-1)
    y, h = selective_scan(
        wide if B.dim() == 3 else wide.unsqueeze(1) * B.mT.to(dtype).unsqueeze(1),
        dt.unsqueeze(1).expand(b, n, l, d),
        A.mT.unsqueeze(-1),
        gate(B),
        gate(C),
        dt_bias=None if dt_bias is None else dt_bias.expand(n, d),
        dt_softplus=dt_softplus,
        walks=(Walk((l, 1, 1)),) * n,
        merge="sum" if C.dim() == 3 else None,
    )
    if C.dim() == 2:
        y = (y * C.mT.to(dtype).unsqueeze(1)).sum(1)
    if D is not None:
        y = y + D.to(dtype) * wide
    if z is not None:
        y = y * F.silu(z.to(dtype))
    return Scan(y.to(x.dtype), h.squeeze(-1).mT)


def _check(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, z: Tensor | None) -> None:
    op = "selective_scan_fn"
    refuse_complex(op, A=A, B=B, C=C)
    if u.dim() != 3 or A.dim() != 2:
        raise ValueError(f"{op}: u must be (b, d, l) and A (d, n), got {tuple(u.shape)} and {tuple(A.shape)}")
    (b, d, l), n = u.shape, A.shape[1]
    origin = f"b, d, l come from u {tuple(u.shape)}, n from A {tuple(A.shape)}"
    for name, tensor in (("delta", delta), ("z", z)):
        if tensor is not None:
            expect_shape(op, name, tensor, "(b, d, l)", (b, d, l), origin)
    for name, gate in (("B", B), ("C", C)):
        if gate.dim() == 4:
            g = gate.shape[1]
            if not g or d % g:
                raise ValueError(f"{op}: the groups of {name} must divide the channels of u: got g = {g}, d = {d}")
            expect_shape(op, name, gate, "(b, g, n, l)", (b, g, n, l), origin)
        else:
            axes, shape = ("(d, n)", (d, n)) if gate.dim() == 2 else ("(b, n, l)", (b, n, l))
            expect_shape(op, name, gate, axes, shape, origin)
    if len({gate.shape[1] if gate.dim() == 4 else 1 for gate in (B, C)}) > 1:
        raise ValueError(f"{op}: B and C must have the same groups, got B {tuple(B.shape)} and C {tuple(C.shape)}")


def refuse_complex(op: str, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.is_complex():
            raise TypeError(f"{op}: {name} must be real, got {tensor.dtype}: complex states are not supported")
