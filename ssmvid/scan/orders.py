"""Scan orders: the paths a 1-D scan can take through a (t, h, w) grid of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product
from typing import NamedTuple

import torch
from torch import Tensor

from ssmvid_kernels.walk import Walk

AXES = tuple("".join(axes) for axes in permutations("thw"))


class Grid(NamedTuple):
    """Tokens an axis. Token (t, h, w) is row `(t * grid.h + h) * grid.w + w` of a sequence."""

    t: int
    h: int
    w: int

    @property
    def length(self) -> int:
        """Tokens in all, l."""
        return self.t * self.h * self.w


@dataclass(frozen=True)
class ScanOrder:
    """One path: the axes from slowest to fastest, whether it snakes, whether it is walked backwards.

    `thw` reads frame after frame, row after row; `hwt` follows each pixel through time before it moves on.
    `thw+snake` turns back at the end of each row and of each frame instead of jumping to the next one's start,
    so that every step goes to a neighbour. `thw+rev` is `thw` from the last token to the first.

    Args:
        axes: 't', 'h' and 'w' in any order, slowest first.
        snake: turn back at the end of an axis.
        reverse: walk the whole path from its end.

    Raises:
        ValueError: the order is none of `ORDERS`; the message lists them.

    Source: thw and hwt: Li et al. 2024, arXiv:2403.06977, section 3.2; the other axes: Li et al. 2024 (Mamba-ND),
        arXiv:2402.05892; snake: Yang et al. 2024 (PlainMamba), arXiv:2403.17695, here over three axes.
    """

    axes: str
    snake: bool = False
    reverse: bool = False

    def __post_init__(self) -> None:
        if self.axes not in AXES:
            raise _unknown(str(self))

    @classmethod
    def parse(cls, name: str) -> ScanOrder:
        """`'hwt+snake+rev'` -> `ScanOrder('hwt', snake=True, reverse=True)`; the inverse of `str`."""
        if name not in ORDERS:
            raise _unknown(name)
        return ORDERS[name]

    def __str__(self) -> str:
        return self.axes + "+snake" * self.snake + "+rev" * self.reverse

    def indices(self, grid: Grid) -> Tensor:
        """The row of the token read at each step, int64 (l,): a permutation of range(l)."""
        rows = torch.arange(grid.length).view(grid).permute(*("thw".index(axis) for axis in self.axes))
        if self.snake:
            rows = _fold(rows)
        path = rows.flatten()
        return path.flip(0) if self.reverse else path

    def walk(self, grid: Grid | Sequence[Grid], prefix: int = 0) -> Walk:
        """The path as a kernel takes it: sizes and strides, or a table where it snakes or packs several clips.

        Walks are cached: do not change their tables.

        Args:
            grid: one grid, or the grids of s clips packed one after another; each keeps its own stretch.
            prefix: rows before each grid (class or register tokens): its first steps, its last ones under `+rev`.

        Returns:
            A walk over `prefix + grid.length` rows, for packed clips over the sum of that.
        """
        if isinstance(grid, Grid):
            return _walk(self, grid, prefix)
        return _packed_walk(self, tuple(grid), prefix)


def _fold(rows: Tensor) -> Tensor:
    """Flip an axis in every second sweep over it: what ran (a0, a1, a2) in raster order becomes a snake."""
    a0, a1, a2 = rows.shape
    rows = rows.clone()
    rows[1::2] = rows[1::2].flip(1)
    lines = rows.reshape(a0 * a1, a2)
    lines[1::2] = lines[1::2].flip(1)
    return lines


@lru_cache(maxsize=1024)
def _walk(order: ScanOrder, grid: Grid, prefix: int) -> Walk:
    if not order.snake:
        stride = {"t": grid.h * grid.w, "h": grid.w, "w": 1}
        s0, s1, s2 = (getattr(grid, axis) for axis in order.axes)
        r0, r1, r2 = (stride[axis] for axis in order.axes)
        return Walk((s0, s1, s2), (r0, r1, r2), order.reverse, prefix)
    first = torch.arange(prefix)
    ends = [order.indices(grid) + prefix, first.flip(0)] if order.reverse else [first, order.indices(grid) + prefix]
    return Walk(table=torch.cat(ends).int())


@lru_cache(maxsize=64)
def _packed_walk(order: ScanOrder, grids: tuple[Grid, ...], prefix: int) -> Walk:
    tables, start = [], 0
    for grid in grids:
        tables.append(_walk(order, grid, prefix).rows() + start)
        start += prefix + grid.length
    return Walk(table=torch.cat(tables), lengths=tuple(table.numel() for table in tables))


def _unknown(name: str) -> ValueError:
    return ValueError(f"unknown scan order {name!r}: expected one of {', '.join(ORDERS)}")


ORDERS: dict[str, ScanOrder] = {}
for _axes, _snake, _reverse in product(AXES, (False, True), (False, True)):
    _order = ScanOrder(_axes, _snake, _reverse)
    ORDERS[str(_order)] = _order
