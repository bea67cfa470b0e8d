"""How the outputs of k scan paths become one: the sum and the mean are a kernel's, the others have weights."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ssmvid.scan import Merge, ScanPattern
from ssmvid_kernels import s6


def kernel_merge(merge: Merge) -> s6.Merge | None:
    """What a scan takes as its `merge`: None where it leaves the paths apart, for `merge_paths`."""
    return cast(s6.Merge, merge) if merge in ("sum", "mean") else None


def refuse_weighted_merge(mixer: nn.Module, pattern: ScanPattern) -> None:
    """Raise unless the scan itself merges the paths."""
    if kernel_merge(pattern.merge) is None:
        raise ValueError(f"{type(mixer).__name__}: merge must be 'sum' or 'mean', got {pattern.merge!r}")


def merged_width(pattern: ScanPattern, width: int) -> int:
    """Channels of what `merge_paths` makes of paths of `width` channels."""
    return len(pattern.orders) * width if pattern.merge == "concat" else width


def path_gate(dim: int, pattern: ScanPattern) -> nn.Linear | None:
    """The layer that a 'gated' merge reads its factors from, out of tokens of `dim` channels; None for the others.

    Its fresh weights are zeros: every factor is 1, the merge is the sum.
    """
    if pattern.merge != "gated":
        return None
    gate = nn.Linear(dim, len(pattern.orders))
    nn.init.zeros_(gate.weight)
    nn.init.zeros_(gate.bias)
    return gate


def merge_paths(y: Tensor, tokens: Tensor, merge: Merge, gate: nn.Module | None) -> Tensor:
    """Outputs that a scan left apart, merged row by row; as causal as the paths are.

    Args:
        y: (b, k, l, d), in token order.
        tokens: what the mixer read, (b, l, dim).
        merge: 'sum', 'mean', 'concat': side by side, or 'gated': the sum, each path times a factor in (0, 2).
        gate: from `path_gate`.

    Returns:
        (b, l, d); with 'concat' (b, l, k d), path after path.

    Source: 'concat': Shaker et al. 2024 (GroupMamba), arXiv:2407.13772, though of as many channels as there are paths;
        gates a direction: Liao et al. 2024 (ViG), arXiv:2405.18425, though of a scan's inputs.
    """
    if merge == "concat":
        return y.transpose(1, 2).flatten(2)
    if gate is not None:
        factors = 2 * torch.sigmoid(gate(tokens)).to(y.dtype)  # (b, l, k)
        return torch.einsum("bkld,blk->bld", y, factors)
    return y.sum(1) if merge == "sum" else y.mean(1)
