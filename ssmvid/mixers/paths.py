"""What the scanning of every S6 mixer is: dt, B and C projected from the tokens, then k selective scans at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ssmvid.layers import at_least_fp32
from ssmvid.parallel import selective_scan
from ssmvid_kernels.s6 import Merge, Scan
from ssmvid_kernels.walk import Walk


def scan_paths(
    x: Tensor,
    walks: list[Walk],
    *,
    x_proj: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    z: Tensor | None = None,
    reverse: Sequence[bool] | None = None,
    merge: Merge | None = "sum",
    h0: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
) -> Scan:
    """Scan x along k walks, with dt, B and C projected from it. No permuted copy of anything is made.

    The first axis of a parameter, and the second of x, is k, or 1 where the paths share it.

    Args:
        x: (b, k, l, d), in token order.
        walks: the k paths over the l rows.
        x_proj: weight (k, rank + 2 n, d) of the rows that dt, B and C come from, in this order.
        dt_proj: weight (k, d, rank) of dt.
        dt_bias: (k, d), added before the softplus.
        A_log: (k, d, n); A = -exp(A_log).
        D: skip weight (k, d).
        z: gate (b, l, d) of the merged outputs.
        reverse: as in `ssmvid.parallel.selective_scan`; None: the mixer does not go across ranks.
        merge, h0, cu_seqlens: as in `selective_scan`.

    Returns:
        `Scan(y, h)`: y (b, l, d) in token order, (b, k, l, d) with `merge=None`; h (b, k, d, n).

    Source: Gu & Dao 2023 (Mamba), arXiv:2312.00752, algorithm 2; k of them: Liu et al. 2024, arXiv:2401.10166.
    """
    k, rank, n = len(walks), dt_proj.shape[-1], A_log.shape[-1]
    dt, B, C = torch.matmul(x, x_proj.mT).split([rank, n, n], dim=-1)
    dt = torch.matmul(dt, dt_proj.mT)
    dt, B, C = (tensor.expand(-1, k, -1, -1) for tensor in (dt, B, C))
    return selective_scan(
        x.squeeze(1) if x.shape[1] == 1 else x,
        dt,
        -torch.exp(at_least_fp32(A_log)).expand(k, -1, -1),
        B,
        C,
        D.expand(k, -1),
        z=z,
        dt_bias=dt_bias.expand(k, -1),
        dt_softplus=True,
        walks=walks,
        reverse=reverse,
        merge=merge,
        h0=h0,
        cu_seqlens=cu_seqlens,
    )
