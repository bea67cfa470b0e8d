"""Keys and values of the tokens on other ranks, for attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ssmvid.parallel.context import Context, active_context
from ssmvid.parallel.exchange import Gathered, all_gather
from ssmvid.parallel.orders import check_layout, check_windows
from ssmvid.scan import Layout


def gather_keys(kv: Tensor, layout: Layout, window: int | None) -> tuple[Tensor | None, Tensor | None]:
    """What this rank's tokens attend to on other ranks: before its first clip, and after its last.

    Args:
        kv: keys and values (2, b, heads, l, p) of this rank's tokens.
        layout: of these; with `causal_frames` nothing after them is wanted.
        window: frames, as in `Attention`. None: all; then what is sent grows with l.

    Returns:
        (2, b, heads, so many tokens, p) each; None where no rank sends anything.

    Raises:
        ValueError: as `path_directions` of the layout; without `causal_frames` a window lies on two ranks.
    """
    context = active_context()
    if context is None:
        return None, None
    check_layout(context, layout)
    first, last = layout.lengths[0], layout.lengths[-1]
    if layout.causal_frames is None:
        if window is not None:
            check_windows(layout, window)
            return None, None
        return _gather(kv, first, last, context)
    if window is not None:
        frame = layout.grids[-1].h * layout.grids[-1].w
        segment = layout.prefix + layout.causal_frames * frame
        last = min(last, (window // layout.causal_frames - 1) * segment)
        if window == layout.causal_frames:
            return None, None
    return _gather(kv[..., kv.shape[-2] - last :, :], 0, last, context)[0], None


def _gather(kv: Tensor, first: int, last: int, context: Context) -> tuple[Tensor, Tensor]:
    """Before and after, where each rank's first `first` and last `last` tokens are those of its clips at the border."""
    length = kv.shape[-2]
    sizes = all_gather(torch.tensor([length, first, last], device=kv.device), context.group).tolist()
    longest = max(size for size, _, _ in sizes)
    ranks = Gathered.apply(F.pad(kv, (0, 0, 0, longest - length)), context.group).unbind()
    # Taken from what was gathered, so that every rank takes part in its backward.
    nothing = ranks[context.rank][..., :0, :]
    before = [ranks[r][..., sizes[r][0] - sizes[r][2] : sizes[r][0], :] for r in context.ranks_before()]
    after = [ranks[r][..., : sizes[r][1], :] for r in context.ranks_after()]
    return torch.cat([nothing, *before], dim=-2), torch.cat([*after, nothing], dim=-2)
