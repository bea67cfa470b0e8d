"""The definition. One line of Python a line of the maths; every other implementation is held to it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import walk
from ..checks import clip_bounds


def causal_conv1d_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    paths: Tensor | None,
    cu_seqlens: Tensor | None,
    *,
    silu: bool,
) -> tuple[Tensor, Tensor]:
    """Arithmetic in x's dtype, fp32 at least; autograd does the backward.

    The form every implementation takes: x (b, 1 or k, l, d), weight (k, d, width), bias (k, d), h0
    (s, k, d, width - 1), paths as `walk.encode` makes them. Returns y (b, k, l, d) and h as h0.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    (b, _, l, d), (k, _, width) = x.shape, weight.shape
    out_dtype, x, weight = x.dtype, x.to(dtype).expand(b, k, l, d), weight.to(dtype)
    rows = torch.arange(l, device=x.device).expand(k, l) if paths is None else walk.decode(paths, l)

    y = x.new_zeros(b, k, l, d)
    hs = []
    for clip, (row, start, end) in enumerate(clip_bounds(b, l, cu_seqlens)):
        for path in range(k):
            steps = rows[path, start:end].long()
            past = x.new_zeros(d, width - 1) if h0 is None else h0[clip, path].to(dtype)
            seen = torch.cat([past.T, x[row, path][steps]])  # (width - 1 + steps, d)
            out = torch.zeros_like(seen[width - 1 :])
            for j in range(width):
                out = out + weight[path, :, j] * seen[j : j + len(steps)]
            if bias is not None:
                out = out + bias[path].to(dtype)
            if silu:
                out = F.silu(out)
            y = y.index_put((torch.tensor(row), torch.tensor(path), steps), out)
            hs.append(seen[len(steps) :].T)
    h = torch.stack(hs).unflatten(0, (-1, k)) if hs else x.new_zeros(0, k, d, width - 1)
    return y.to(out_dtype), h
