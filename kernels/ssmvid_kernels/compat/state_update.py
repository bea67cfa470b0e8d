"""mamba_ssm's single step (`mamba_ssm.ops.triton.selective_state_update`) over `selective_scan`."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import expect_shape
from .packing import read_rows, write_rows
from .selective_scan import scan_groups


@torch.no_grad()
def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    state_batch_indices: Tensor | None = None,
) -> Tensor:
    """One token on from `state`, which is changed in place; no gradients, as there.

    Args:
        state: (b, d, n), or with heads (b, heads, d, n), in any dtype.
        x: input (b, d) or (b, heads, d); dt, the step size, and z, the gate, as x.
        A: state decay (d, n) or (heads, d, n).
        B: input gate (b, n) or, in g groups of heads, (b, g, n); C, the output gate, as B.
        D, dt_bias: (d,) or (heads, d).
        dt_softplus: take softplus of dt (+ dt_bias).
        state_batch_indices: int (b,): the row of `state` (then of any number of rows) each row of x goes on from.
            Below 0 is padding: its output is 0, and no state changes.

    Returns:
        y, as x.

    Raises:
        ValueError: a shape does not fit.

    Source: selective_state_update of github.com/state-spaces/mamba, version 2.3.2.
    """
    op = "selective_state_update"
    lone = x.dim() == 2
    heads_at = lambda tensor, axis, dim: tensor.unsqueeze(axis) if tensor is not None and tensor.dim() < dim else tensor
    states, A = heads_at(state, 1, 4), heads_at(A, 0, 3)
    x, dt, z, B, C = (heads_at(tensor, 1, 3) for tensor in (x, dt, z, B, C))
    D, dt_bias = (heads_at(tensor, 0, 2) for tensor in (D, dt_bias))
    b, (heads, d, n), g = x.shape[0], states.shape[1:], B.shape[1]
    if not g or heads % g:
        raise ValueError(f"{op}: the groups of B must divide the heads of state: got g = {g}, heads = {heads}")
    rows = b if state_batch_indices is None else states.shape[0]
    origin = f"heads, d, n come from state {tuple(state.shape)}, b from x {tuple(x.shape)}, g from B {tuple(B.shape)}"
    expected = (
        ("state", states, "(b, heads, d, n)", (rows, heads, d, n)),
        ("x", x, "(b, heads, d)", (b, heads, d)),
        ("dt", dt, "(b, heads, d)", (b, heads, d)),
        ("z", z, "(b, heads, d)", (b, heads, d)),
        ("A", A, "(heads, d, n)", (heads, d, n)),
        ("B", B, "(b, g, n)", (b, g, n)),
        ("C", C, "(b, g, n)", (b, g, n)),
        ("D", D, "(heads, d)", (heads, d)),
        ("dt_bias", dt_bias, "(heads, d)", (heads, d)),
        ("state_batch_indices", state_batch_indices, "(b,)", (b,)),
    )
    for name, tensor, axes, shape in expected:
        if tensor is not None:
            expect_shape(op, name, tensor, axes, shape, origin)
    token = lambda tensor: tensor.flatten(1).unsqueeze(1)  # (b, 1, heads * d)
    y, h = scan_groups(
        token(x.to(torch.promote_types(x.dtype, torch.float32))),  # y is rounded once, after the gate
        token(dt),
        A.flatten(0, 1),
        B.unsqueeze(1),
        C.unsqueeze(1),
        None if D is None else D.flatten(),
        None if dt_bias is None else dt_bias.flatten(),
        z=None if z is None else token(z),
        dt_softplus=dt_softplus,
        h0=read_rows(states, state_batch_indices).flatten(1, 2),
    )
    write_rows(states, state_batch_indices, h.unflatten(1, (heads, d)))
    y = y.view(b, heads, d).to(x.dtype)
    if state_batch_indices is not None:
        y = y.masked_fill((state_batch_indices < 0)[:, None, None], 0.0)
    return y.squeeze(1) if lone else y
