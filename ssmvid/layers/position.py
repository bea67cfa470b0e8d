"""Position tables at another size than the one they were learned at."""

from __future__ import annotations

import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from torch import Tensor


def resize_spatial(table: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """A spatial table made for `old` rows and columns, bicubically at `new`; the class token's slot is kept.

    Args:
        table: (1, 1 + h * w, d); slot 0 is the class token's.
        old: h and w of the table.
        new: h and w wanted.

    Returns:
        (1, 1 + h * w, d) of the new size; the table itself where the sizes are equal.

    Source: without antialiasing, as VideoMamba's fine-tuning resizes its checkpoints (arXiv:2403.06977, its code).
    """
    return resample_abs_pos_embed(table, list(new), list(old), num_prefix_tokens=1, antialias=False)


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
