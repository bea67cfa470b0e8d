"""Position tables at another size than the one they were learned at."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from ssmvid.scan import Grid, Place, prefix_steps


def split_prefix(table: Tensor, prefix: int, place: Place) -> tuple[Tensor, Tensor]:
    """A table's slots apart: the prefix tokens' (1, prefix, d), and the grid's (1, n, d) in order.

    Args:
        table: (1, prefix + n, d), its slots in the order of a sequence that has the prefix tokens at `place`.
        prefix: slots of class and register tokens.
        place: where they are: as for a scan.
    """
    steps = prefix_steps(place, prefix, table.shape[1] - prefix)
    rest = [i for i in range(table.shape[1]) if i not in steps]
    return table[:, steps], table[:, rest]


def join_prefix(slots: Tensor, spatial: Tensor, place: Place) -> Tensor:
    """The inverse of `split_prefix`."""
    prefix, length = slots.shape[1], spatial.shape[1]
    order = torch.full((prefix + length,), -1)
    order[prefix_steps(place, prefix, length)] = torch.arange(prefix)
    order[order < 0] = torch.arange(prefix, prefix + length)
    return torch.cat([slots, spatial], dim=1)[:, order]


def resize_spatial(table: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """A spatial table made for `old` rows and columns, bicubically at `new`.

    Args:
        table: (1, h * w, d).
        old: h and w of the table.
        new: h and w wanted.

    Returns:
        (1, h * w, d) of the new size; the table itself where the sizes are equal.

    Source: without antialiasing, as VideoMamba's fine-tuning resizes its checkpoints (arXiv:2403.06977, its code).
    """
    if old == new:
        return table
    return resample_abs_pos_embed(table, list(new), list(old), num_prefix_tokens=0, antialias=False)


def resize_temporal(table: Tensor, frames: int) -> Tensor:
    """A temporal table, linearly at another number of (tubelet) frames.

    Args:
        table: (1, t, d).
        frames: t wanted.

    Returns:
        (1, frames, d); the table itself where it has that many.

    Source: as `resize_spatial`.
    """
    if table.shape[1] == frames:
        return table
    resized = F.interpolate(table.float().mT, size=frames, mode="linear", align_corners=False)
    return resized.mT.to(table.dtype)


def resize_grid(table: Tensor, old: Grid, new: Grid) -> Tensor:
    """A table over time and space (1, old.length, d) at another grid (1, new.length, d), as the two functions above."""
    frames = resize_temporal(table.unflatten(1, (old.t, -1)).flatten(2), new.t)
    spatial = rearrange(frames, "b t (n d) -> b n (t d)", d=table.shape[-1])
    return rearrange(resize_spatial(spatial, old[1:], new[1:]), "b n (t d) -> b (t n) d", t=new.t)


def sincos_table(length: int, dim: int, *, device: torch.device | None = None) -> Tensor:
    """The fixed table of sines and cosines, fp32 (1, length, dim).

    Channel 2i of row l is sin(l / 10000^(2i / dim)), channel 2i + 1 its cosine.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    """
    channel = torch.arange(dim, device=device, dtype=torch.float64)
    angle = torch.arange(length, device=device)[:, None] / 10000 ** (2 * (channel // 2) / dim)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float().unsqueeze(0)
