"""How mamba_ssm and causal_conv1d name sequences and states by number, in terms of `cu_seqlens` and rows."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import expect_shape


class Packed(NamedTuple):
    """b rows of l steps as one row: `cu_seqlens` int32 (s + 1,), and the first and last sequence of each row (b,)."""

    cu_seqlens: Tensor
    first: Tensor
    last: Tensor


def pack(op: str, seq_idx: Tensor, b: int, l: int) -> Packed:
    """Every run of equal numbers in a row of `seq_idx` (b, l) is a sequence. On a GPU this waits for the device."""
    expect_shape(op, "seq_idx", seq_idx, "(b, l)", (b, l), "b, l come from the tokens")
    starts = torch.ones_like(seq_idx, dtype=torch.bool)
    starts[:, 1:] = seq_idx[:, 1:] != seq_idx[:, :-1]
    borders = starts.flatten().nonzero().flatten()
    after = starts.sum(1).cumsum(0)
    return Packed(torch.cat([borders, borders.new_tensor([b * l])]).int(), after - starts.sum(1), after - 1)


def read_rows(states: Tensor, indices: Tensor | None) -> Tensor:
    """The rows of `states` at `indices` (any row where that is below 0), or all of them."""
    return states if indices is None else states[indices.clamp(min=0).long()]


def write_rows(states: Tensor, indices: Tensor | None, rows: Tensor) -> None:
    """Set the rows of `states` at `indices`, but none below 0, or all of them."""
    if indices is None:
        states.copy_(rows)
    else:
        valid = indices >= 0
        states[indices[valid].long()] = rows[valid].to(states.dtype)
