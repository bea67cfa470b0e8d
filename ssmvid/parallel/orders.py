"""Which scan paths go on over the ranks, and which way."""

from __future__ import annotations

from ssmvid.parallel.context import Context, active_context
from ssmvid.scan import CURVES, Layout, ScanPattern
from ssmvid.scan.naming import split_number


def path_directions(pattern: ScanPattern, layout: Layout) -> tuple[bool, ...]:
    """For each order of the pattern whether it goes from the last rank to the first; all False outside a context.

    Args:
        pattern: the orders; with `causal_frames` each goes through segment after segment, so from first to last.
        layout: of this rank's tokens.

    Raises:
        ValueError: an order does not keep to one rank's frames before it goes on to the next, there are prefix tokens
            beside those of segments, a segment is cut by a border, or the grids are not those of the pieces.
    """
    context = active_context()
    if context is None:
        return (False,) * len(pattern.orders)
    check_layout(context, layout)
    if pattern.causal_frames is not None:
        return (False,) * len(pattern.orders)
    for order in pattern.orders:
        whole_grid = order.curve and CURVES[split_number(order.curve)[0]].axes == 3
        if order.axes[0] != "t" or whole_grid:
            raise ValueError(
                f"context parallelism: order {order} leaves the frames of a rank before it has read them all; take "
                "orders with t slowest and a curve within frames (thw, twh+rev, thw+snake2d), or set causal_frames"
            )
    return tuple(order.reverse != ("t" in order.flip) for order in pattern.orders)


def check_windows(layout: Layout, window: int) -> None:
    """Raise if a window of so many frames lies on two ranks.

    Raises:
        ValueError: it does; or as `path_directions` of the layout.
    """
    context = active_context()
    if context is not None:
        check_layout(context, layout)
        _check_border(context, layout, window)


def check_layout(context: Context, layout: Layout) -> None:
    """Raise if the tokens are not what the context says this rank holds.

    Raises:
        ValueError: as `path_directions`.
    """
    held = tuple(grid.t for grid in layout.grids)
    if held != (context.frames or held) or (context.frames is None and len(held) != 1):
        raise ValueError(
            f"context parallelism: rank {context.rank} holds pieces of {context.frames or 'one clip'} frames, got "
            f"grids of {held} frames: give context_parallel the pieces of every rank"
        )
    if layout.causal_frames is not None:
        _check_border(context, layout, layout.causal_frames)
    elif layout.prefix:
        raise ValueError(
            f"context parallelism: prefix tokens lie before a clip, so on one rank alone, got {layout.prefix} on rank "
            f"{context.rank}: take a model without, or one with causal_frames, which has them in each segment"
        )


def _check_border(context: Context, layout: Layout, unit: int) -> None:
    last = layout.grids[-1].t
    if context.after and last % unit:
        raise ValueError(
            f"context parallelism: a clip goes on from rank {context.rank} to the next, so the {last} frames of it "
            f"here must be a multiple of {unit}, the frames of a segment or window: split_frames(..., unit={unit})"
        )
