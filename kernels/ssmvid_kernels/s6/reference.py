"""The definition. One line of Python a line of the paper; every other implementation is held to it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import walk
from ..checks import clip_bounds


def selective_scan_reference(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt_bias: Tensor | None,
    h0: Tensor | None,
    paths: Tensor | None,
    cu_seqlens: Tensor | None,
    *,
    dt_softplus: bool,
    summed: bool,
) -> tuple[Tensor, Tensor]:
    """Arithmetic in x's dtype, fp32 at least; autograd does the backward.

    The form every implementation takes: x (b, 1 or k, l, d), dt (b, k, l, d), A (k, d, n), B and C (b, k, l, n),
    D and dt_bias (k, d), h0 (s, k, d, n), paths as `walk.encode` makes them. Returns y, (b, l, d) summed over k
    or (b, k, l, d), and h (s, k, d, n).
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    b, k, l, d = dt.shape
    out_dtype, x = x.dtype, x.to(dtype).expand(b, k, l, d)
    dt, A, B, C = dt.to(dtype), A.to(dtype), B.to(dtype), C.to(dtype)
    if dt_bias is not None:
        dt = dt + dt_bias.to(dtype)[:, None]
    if dt_softplus:
        dt = F.softplus(dt)
    rows = torch.arange(l, device=x.device).expand(k, l) if paths is None else walk.decode(paths, l)

    ys = x.new_zeros(b, k, l, d)
    hs = []
    for clip, (row, start, end) in enumerate(clip_bounds(b, l, cu_seqlens)):
        for path in range(k):
            steps = rows[path, start:end].long()
            h = x.new_zeros(d, A.shape[-1]) if h0 is None else h0[clip, path].to(dtype)
            y = []
            inputs = (tensor[row, path][steps].unbind() for tensor in (x, dt, B, C))
            for x_i, dt_i, B_i, C_i in zip(*inputs):
                decay = torch.exp(dt_i[:, None] * A[path])
                h = decay * h + (dt_i * x_i)[:, None] * B_i
                y.append((h * C_i).sum(-1))  # no matmul: autocast would run it in bf16
            if y:
                ys = ys.index_put((torch.tensor(row), torch.tensor(path), steps), torch.stack(y))
            hs.append(h)
    if D is not None:
        ys = ys + D.to(dtype)[:, None] * x
    h = torch.stack(hs).unflatten(0, (-1, k)) if hs else x.new_zeros(0, k, d, A.shape[-1])
    return (ys.sum(1) if summed else ys).to(out_dtype), h
