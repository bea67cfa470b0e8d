"""Scan patterns and schedules: the orders of one block, and which pattern each layer takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

from ssmvid.scan.orders import Grid, ScanOrder
from ssmvid_kernels.walk import Walk

Merge = Literal["sum", "mean"]


@dataclass(frozen=True)
class ScanPattern:
    """The k orders one block reads its grid along, and how their outputs merge.

    Args:
        orders: k scan orders.
        merge: 'sum' (VideoMamba, VMamba) or 'mean' (Vim).
    """

    orders: tuple[ScanOrder, ...]
    merge: Merge = "sum"

    @classmethod
    def parse(cls, names: Sequence[str], merge: Merge = "sum") -> ScanPattern:
        """`['thw', 'thw+rev']` -> the pattern of these orders."""
        return cls(tuple(ScanOrder.parse(name) for name in names), merge)

    def walks(self, grid: Grid, prefix: int = 0) -> list[Walk]:
        """The walk of each order over `prefix + grid.length` rows."""
        return [order.walk(grid, prefix) for order in self.orders]


class Schedule(Protocol):
    """Which of `count` patterns layer `layer` takes."""

    def __call__(self, layer: int, count: int) -> int: ...


SCHEDULES: dict[str, Schedule] = {
    "same": lambda layer, count: 0,
    "alternate": lambda layer, count: layer % count,
}


def patterns_by_layer(
    orders: Sequence[str] | Sequence[Sequence[str]], schedule: str, depth: int, merge: Merge = "sum"
) -> list[ScanPattern]:
    """The pattern of each layer.

    Args:
        orders: the order names of one pattern, or of each of several patterns.
        schedule: 'same' (one pattern, in every layer) or 'alternate' (the patterns in turn, layer by layer).
        depth: layers.
        merge: how a pattern's outputs merge.

    Raises:
        ValueError: an order or schedule is unknown, there is no pattern, or 'same' was given several.
    """
    one = all(isinstance(names, str) for names in orders)
    lists = cast(Sequence[Sequence[str]], [orders] if one else orders)
    patterns = [ScanPattern.parse(names, merge) for names in lists if names]
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown scan schedule {schedule!r}: expected one of {', '.join(SCHEDULES)}")
    if not patterns or (schedule == "same" and len(patterns) > 1):
        raise ValueError(
            f"scan schedule {schedule!r}: expected {'one pattern' if schedule == 'same' else 'patterns'}, "
            f"got {len(patterns)} in orders={orders!r}; several patterns go with schedule='alternate'"
        )
    return [patterns[SCHEDULES[schedule](layer, len(patterns))] for layer in range(depth)]
