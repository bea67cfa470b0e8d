"""Scan patterns and schedules: the orders of one block, and which pattern each layer takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast, get_args

from ssmvid.scan.grid import Grid
from ssmvid.scan.orders import ScanOrder
from ssmvid.scan.prefix import Place
from ssmvid_kernels.walk import Walk

Merge = Literal["sum", "mean", "concat", "gated"]
MERGES: tuple[Merge, ...] = get_args(Merge)


@dataclass(frozen=True)
class ScanPattern:
    """The k orders one block reads its grid along, and how their outputs merge.

    Args:
        orders: k scan orders.
        merge: 'sum' (VideoMamba, VMamba), 'mean' (Vim), 'concat': the outputs side by side, for a wider projection, or
            'gated': the sum, each path times a factor that is read from the token.
        place: where each path meets the prefix tokens: 'head' (VideoMamba), 'middle' (Vim) or 'spread' (Mamba-Reg).
        causal_frames: frames of a segment, for a pattern that is block-causal in time: every path goes through segment
            after segment, so that no token sees a later one; each segment has prefix tokens of its own. None: each
            path goes through all of the grid.

    Raises:
        ValueError: causal_frames is below 1, or the merge is unknown.
    """

    orders: tuple[ScanOrder, ...]
    merge: Merge = "sum"
    place: Place = "head"
    causal_frames: int | None = None

    def __post_init__(self) -> None:
        if self.merge not in MERGES:
            raise ValueError(f"ScanPattern: merge must be one of {', '.join(MERGES)}, got {self.merge!r}")
        if self.causal_frames is not None and self.causal_frames < 1:
            raise ValueError(f"ScanPattern: causal_frames must be at least 1, or None, got {self.causal_frames}")

    @classmethod
    def parse(
        cls, names: Sequence[str], merge: Merge = "sum", place: Place = "head", causal_frames: int | None = None
    ) -> ScanPattern:
        """`['thw', 'thw+rev']` -> the pattern of these orders."""
        return cls(tuple(ScanOrder.parse(name) for name in names), merge, place, causal_frames)

    def walks(self, grid: Grid | Sequence[Grid], prefix: int = 0) -> list[Walk]:
        """The walk of each order, through one grid or packed ones, `prefix` rows before each grid or segment."""
        return [order.walk(grid, prefix, self.place, self.causal_frames) for order in self.orders]


class Schedule(Protocol):
    """Which of `count` patterns layer `layer` of `depth` takes."""

    def __call__(self, layer: int, depth: int, count: int) -> int: ...


SCHEDULES: dict[str, Schedule] = {
    "same": lambda layer, depth, count: 0,
    "alternate": lambda layer, depth, count: layer % count,
    "halves": lambda layer, depth, count: int(2 * layer >= depth),
}
# How many patterns a schedule takes, where that is fixed.
_COUNTS = {"same": 1, "halves": 2}


def patterns_by_layer(
    orders: Sequence[str] | Sequence[Sequence[str]],
    schedule: str,
    depth: int,
    merge: Merge = "sum",
    place: Place = "head",
) -> list[ScanPattern]:
    """The pattern of each layer.

    Args:
        orders: the order names of one pattern, or of each of several patterns.
        schedule: 'same' (one pattern, in every layer), 'alternate' (the patterns in turn, layer by layer) or 'halves'
            (of two patterns the first in the first half of the layers, the second in the others).
        depth: layers.
        merge: how a pattern's outputs merge.
        place: where its paths meet the prefix tokens.

    Raises:
        ValueError: an order or schedule is unknown, or the schedule does not take so many patterns.
    """
    one = all(isinstance(names, str) for names in orders)
    lists = cast(Sequence[Sequence[str]], [orders] if one else orders)
    patterns = [ScanPattern.parse(names, merge, place) for names in lists if names]
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown scan schedule {schedule!r}: expected one of {', '.join(SCHEDULES)}")
    expected = _COUNTS.get(schedule, max(1, len(patterns)))
    if len(patterns) != expected:
        raise ValueError(
            f"scan schedule {schedule!r}: expected {expected} pattern{'s' * (expected > 1)}, got {len(patterns)} in "
            f"orders={orders!r}; 'same' takes one pattern, 'halves' two, 'alternate' any number"
        )
    return [patterns[SCHEDULES[schedule](layer, depth, len(patterns))] for layer in range(depth)]
