"""causal_conv1d's functions over `causal_conv1d`."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import expect_shape
from ..conv import Activation, causal_conv1d
from .packing import pack, read_rows, write_rows


def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run `causal_conv1d` on channel-first tensors of any strides; no transposed copy of them is made.

    Args:
        x: input (b, d, l).
        weight: (d, width), width 2 to 4.
        bias: (d,).
        seq_idx: int (b, l): which sequence a step belongs to; steps see their own run of equal numbers only. Below 0
            is padding, whose output is 0. Not with `initial_states` or `return_final_states`, as there.
        initial_states: the width - 1 inputs before the first step (b, d, width - 1).
        return_final_states: return the last width - 1 inputs too.
        final_states_out: (b, d, width - 1), where to write them.
        activation: 'silu', the same as 'swish', or None.

    Returns:
        y (b, d, l) in x's dtype, or (y, final states (b, d, width - 1) in x's dtype).

    Raises:
        NotImplementedError: `activation` is another.
        ValueError: a shape does not fit, or `seq_idx` comes with a state.

    Source: causal_conv1d_fn of github.com/Dao-AILab/causal-conv1d, version 1.6.1.
    """
    op = "causal_conv1d_fn"
    act = to_activation(op, activation)
    if seq_idx is None:
        y, h = causal_conv1d(x.mT, weight, bias, activation=act, h0=initial_states)
        if not return_final_states:
            return y.mT
        h = h.to(x.dtype)
        return y.mT, h if final_states_out is None else final_states_out.copy_(h)
    if initial_states is not None or return_final_states:
        raise ValueError(f"{op}: seq_idx cannot come with initial_states or return_final_states: pass one or the other")
    return conv_packed(op, x.mT, weight, bias, seq_idx, act).mT


def conv_packed(
    op: str, x: Tensor, weight: Tensor, bias: Tensor | None, seq_idx: Tensor, activation: Activation | None
) -> Tensor:
    """y (b, l, d) of x (b, l, d), no step of which sees over a border of `seq_idx`; 0 where that is below 0."""
    packed = pack(op, seq_idx, x.shape[0], x.shape[1])
    y, _ = causal_conv1d(
        x.flatten(0, 1).unsqueeze(0), weight, bias, activation=activation, cu_seqlens=packed.cu_seqlens
    )
    return y.view(x.shape).masked_fill((seq_idx < 0).unsqueeze(-1), 0.0)


@torch.no_grad()
def causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    cache_seqlens: Tensor | None = None,
    conv_state_indices: Tensor | None = None,
) -> Tensor:
    """Some steps on from `conv_state`, which is changed in place; no gradients, as there.

    Args:
        x: input (b, d), or (b, d, l).
        conv_state: the last inputs (b, d, state_len), state_len >= width - 1, newest last.
        weight, bias, activation: as in `causal_conv1d_fn`.
        cache_seqlens: int (b,): steps seen before. Then `conv_state` is a ring: step i lies at i % state_len.
        conv_state_indices: int (b,): the row of `conv_state` (then of any number of rows) each row of x goes on
            from. Below 0 is padding: its output is 0, and no state changes.

    Returns:
        y, as x.

    Raises:
        NotImplementedError: `activation` is another.
        ValueError: a shape does not fit.

    Source: causal_conv1d_update of github.com/Dao-AILab/causal-conv1d, version 1.6.1.
    """
    op = "causal_conv1d_update"
    act = to_activation(op, activation)
    steps = x.unsqueeze(-1) if x.dim() == 2 else x
    (b, d, l), past, state_len = steps.shape, weight.shape[1] - 1, conv_state.shape[-1]
    rows = b if conv_state_indices is None else conv_state.shape[0]
    expect_shape(op, "conv_state", conv_state, "(b, d, state_len)", (rows, d, max(state_len, past)),
                 f"b, d come from x {tuple(x.shape)}, state_len is at least width - 1 = {past}")  # fmt: skip
    state = read_rows(conv_state, conv_state_indices)
    if cache_seqlens is None:
        seen = torch.cat([state, steps], -1)
        h0, state = state[..., state_len - past :], seen[..., seen.shape[-1] - state_len :]
    else:
        at = lambda start, end: _ring(cache_seqlens, start, end, state_len).unsqueeze(1).expand(b, d, -1)
        h0 = state.gather(2, at(-past, 0))
        kept = min(l, state_len)  # earlier steps would be written over
        state = state.scatter(2, at(l - kept, l), steps[..., l - kept :])
    y = causal_conv1d(steps.mT, weight, bias, activation=act, h0=h0).y.mT
    write_rows(conv_state, conv_state_indices, state)
    if conv_state_indices is not None:
        y = y.masked_fill((conv_state_indices < 0)[:, None, None], 0.0)
    return y.squeeze(-1) if x.dim() == 2 else y


def causal_conv1d_varlen_states(x: Tensor, cu_seqlens: Tensor, state_len: int) -> Tensor:
    """The last `state_len` steps of every sequence of a packed row, 0 where it has fewer.

    Args:
        x: (l, d).
        cu_seqlens: int (s + 1,): the borders of the sequences.
        state_len: steps to keep.

    Returns:
        (s, d, state_len).

    Source: causal_conv1d_varlen_states of github.com/Dao-AILab/causal-conv1d, version 1.6.1.
    """
    rows = cu_seqlens[1:, None] - state_len + torch.arange(state_len, device=x.device)
    inside = rows >= cu_seqlens[:-1, None]
    return x[rows.clamp(min=0)].masked_fill(~inside.unsqueeze(-1), 0.0).mT


def to_activation(op: str, activation: str | None) -> Activation | None:
    if activation not in (None, "silu", "swish"):
        raise NotImplementedError(f"{op}: activation must be None, 'silu' or 'swish', got {activation!r}")
    return None if activation is None else "silu"


def _ring(seen: Tensor, start: int, end: int, size: int) -> Tensor:
    """Where the steps `start` to `end`, counted from those `seen`, lie in a ring: (b, end - start)."""
    return (seen.long().unsqueeze(1) + torch.arange(start, end, device=seen.device)) % size
