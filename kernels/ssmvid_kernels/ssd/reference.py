"""The definition. One line of Python a line of the paper; every other implementation is held to it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import einsum, repeat
from torch import Tensor

from .. import walk
from ..checks import clip_bounds
from ..walk import Walk


def ssd_scan_reference(
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
    dt_limit: tuple[float, float] | None,
    summed: bool,
    chunk: int | None,
    walks: Sequence[Walk] | None,
) -> tuple[Tensor, Tensor]:
    """Step by step, in x's dtype, fp32 at least; `chunk` and `walks` are not read, and autograd does the
    backward.

    The form every implementation takes: x (b, 1 or k, l, heads, p), dt (b, k, l, heads), A and dt_bias (k, heads),
    B and C (b, k, l, g, n), D (k, heads, p), h0 (s, k, heads, p, n), paths as `walk.encode` makes them. Returns y,
    (b, l, heads, p) summed over k or (b, k, l, heads, p), and h (s, k, heads, p, n).
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    (b, k, l, heads), p, n = dt.shape, x.shape[-1], B.shape[-1]
    out_dtype, x = x.dtype, x.to(dtype).expand(b, k, l, heads, p)
    dt, A, B, C = dt.to(dtype), A.to(dtype), B.to(dtype), C.to(dtype)
    B, C = (repeat(t, "b k l g n -> b k l (g each) n", each=heads // t.shape[3]) for t in (B, C))
    if dt_bias is not None:
        dt = dt + dt_bias.to(dtype)[:, None]
    if dt_softplus:
        dt = F.softplus(dt)
    if dt_limit is not None:
        dt = dt.clamp(*dt_limit)
    rows = torch.arange(l, device=x.device).expand(k, l) if paths is None else walk.decode(paths, l)

    ys = x.new_zeros(b, k, l, heads, p)
    hs = []
    for clip, (row, start, end) in enumerate(clip_bounds(b, l, cu_seqlens)):
        for path in range(k):
            steps = rows[path, start:end].long()
            h = x.new_zeros(heads, p, n) if h0 is None else h0[clip, path].to(dtype)
            y = []
            inputs = (tensor[row, path][steps].unbind() for tensor in (x, dt, B, C))
            for x_i, dt_i, B_i, C_i in zip(*inputs):
                decay = torch.exp(dt_i * A[path])
                h = decay[:, None, None] * h + einsum(dt_i, x_i, B_i, "heads, heads p, heads n -> heads p n")
                y.append(einsum(C_i, h, "heads n, heads p n -> heads p"))
            if y:
                ys = ys.index_put((torch.tensor(row), torch.tensor(path), steps), torch.stack(y))
            hs.append(h)
    if D is not None:
        ys = ys + D.to(dtype)[:, None] * x
    h = torch.stack(hs).unflatten(0, (-1, k)) if hs else x.new_zeros(0, k, heads, p, n)
    return (ys.sum(1) if summed else ys).to(out_dtype), h
