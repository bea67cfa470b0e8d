"""The convolution in plain PyTorch: any device, any transform of torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import walk
from ..checks import clip_bounds


def causal_conv1d_torch(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    paths: Tensor | None,
    cu_seqlens: Tensor | None,
    *,
    silu: bool,
) -> tuple[Tensor, Tensor]:
    """As `causal_conv1d_reference`, every row and path at once; packed clips one after the other."""
    # Shifted products and not F.conv1d: that wants channels first, some steps at least, and is TF32 on a GPU.
    dtype = torch.promote_types(x.dtype, torch.float32)
    (b, _, l, d), (k, _, width) = x.shape, weight.shape
    taps = weight.to(dtype).unsqueeze(1).unbind(-1)  # width of (k, 1, d)
    along = x.to(dtype).expand(b, k, l, d)
    if paths is not None:
        rows, path = walk.decode(paths, l).long(), torch.arange(k, device=x.device)[:, None]
        along = along[:, path, rows]
    sizes = [l] if cu_seqlens is None else [end - start for _, start, end in clip_bounds(b, l, cu_seqlens)]

    ys, hs = [along[:, :, :0]], [along.new_zeros(0, k, d, width - 1)]
    # Split and not sliced: the gradient of a slice is as long as the row.
    for i, (size, own) in enumerate(zip(sizes, along.split(sizes, dim=2))):
        if h0 is None:
            past = along.new_zeros(b, k, width - 1, d)
        else:
            past = (h0 if cu_seqlens is None else h0[i : i + 1]).to(dtype).transpose(-1, -2)
        seen = torch.cat([past, own], dim=2)
        y = taps[0] * seen[:, :, :size]
        for j in range(1, width):
            y = y + taps[j] * seen[:, :, j : j + size]
        if bias is not None:
            y = y + bias.to(dtype).unsqueeze(1)
        ys.append(F.silu(y) if silu else y)
        hs.append(seen[:, :, size:].transpose(-1, -2))
    y = torch.cat(ys, dim=2)
    if paths is not None:
        y = y[:, path, rows.argsort(1)]
    return y.to(x.dtype), torch.cat(hs)
