"""Scan orders: the paths a 1-D scan can take through a (t, h, w) grid of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, chain, product

import torch
from torch import Tensor

from ssmvid.scan.blocks import brick_lengths
from ssmvid.scan.curves import CURVES, Number
from ssmvid.scan.grid import Grid
from ssmvid.scan.naming import AXES, GRAMMAR, split_number, unknown_order, with_number
from ssmvid.scan.prefix import Place, prefix_steps
from ssmvid_kernels.walk import Walk


@dataclass(frozen=True)
class ScanOrder:
    """One path: which axis is which, the curve over them, which axes are mirrored, and whether it is walked backwards.

    Spelt `AXES[+CURVE][+flip_t][+flip_h][+flip_w][+rev]`:

    - `thw` reads frame after frame, row after row; `hwt` follows each pixel through time before it moves on.
    - `thw+snake` turns back at the end of each row and of each frame instead of jumping to the next one's start.
    - `thw+window2` reads 2 x 2 windows. Most curves run over the two faster axes, one slice of the slowest after
      another: frame by frame for `thw` and `twh`. `snake`, `hilbert`, `morton`, `brickNxNxN`, `slicesN` and `randomN`
      run through the whole grid; `snake2d`, `hilbert2d`, `morton2d` are the first three frame by frame.
    - `hwt+brick2x4x4` reads bricks of 2 frames, 4 rows and 4 columns in the order of its axes, and so the tokens of
      each: all orders over the same bricks read the same tokens brick by brick, and a scan may take them together.
    - `twh+flip_w` mirrors the grid left to right before it reads column after column.
    - `thw+rev` is `thw` from the last token to the first; `+rev` comes after everything else.

    docs/scan-orders.md has a picture and the source of each.

    Args:
        axes: 't', 'h' and 'w' in any order, slowest first.
        curve: a name of `CURVES`, with its number where it takes one; '' for raster order.
        flip: the mirrored axes, in the order 'thw'.
        reverse: walk the whole path from its end.

    Raises:
        ValueError: there is no such order; the message has the grammar and the nearest name.

    Source: thw and hwt: Li et al. 2024, arXiv:2403.06977, section 3.2; the other axes: Li et al. 2024 (Mamba-ND),
        arXiv:2402.05892; flips: Liu et al. 2024 (VMamba), arXiv:2401.10166; curves: beside each.
    """

    axes: str
    curve: str = ""
    flip: str = ""
    reverse: bool = False

    def __post_init__(self) -> None:
        if not GRAMMAR.fullmatch(str(self)):
            raise unknown_order(str(self))

    @classmethod
    def parse(cls, name: str) -> ScanOrder:
        """`'twh+snake2d+flip_h+rev'` -> `ScanOrder('twh', 'snake2d', 'h', reverse=True)`; the inverse of `str`."""
        match = GRAMMAR.fullmatch(name)
        if match is None:
            raise unknown_order(name)
        flip = match["flips"].replace("+flip_", "")
        return cls(match["axes"], match["curve"] or "", flip, match["rev"] is not None)

    def __str__(self) -> str:
        flips = "".join(f"+flip_{axis}" for axis in self.flip)
        return self.axes + f"+{self.curve}" * bool(self.curve) + flips + "+rev" * self.reverse

    def indices(self, grid: Grid) -> Tensor:
        """The row of the token read at each step, int64 (l,): a permutation of range(l)."""
        rows = torch.arange(grid.length).view(grid).flip(["thw".index(axis) for axis in self.flip])
        rows = rows.permute(["thw".index(axis) for axis in self.axes])
        if self.curve and grid.length:
            path = rows.flatten()[CURVES[split_number(self.curve)[0]].cells(rows.shape, self._number())]
        else:
            path = rows.flatten()
        return path.flip(0) if self.reverse else path

    def _number(self) -> Number | None:
        """Of its curve: a brick's sizes in the order of its axes."""
        number = split_number(self.curve)[1]
        return tuple(number["thw".index(axis)] for axis in self.axes) if isinstance(number, tuple) else number

    def bricks(self, grid: Grid) -> tuple[int, ...] | None:
        """The tokens of each brick, in the order of the path; None for an order without bricks."""
        sizes = self._number()
        if not isinstance(sizes, tuple):
            return None
        lengths = brick_lengths([getattr(grid, axis) for axis in self.axes], sizes)
        return lengths[::-1] if self.reverse else lengths

    def inverse(self, grid: Grid) -> Tensor:
        """The step that reads each row, int64 (l,): `y[inverse]` brings what was `x[indices]` back into rows."""
        path = self.indices(grid)
        return torch.empty_like(path).scatter_(0, path, torch.arange(grid.length))

    def walk(
        self,
        grid: Grid | Sequence[Grid],
        prefix: int = 0,
        place: Place = "head",
        causal_frames: int | None = None,
    ) -> Walk:
        """The path as a kernel takes it: sizes and strides, or a table where it is curved, mirrored or packs clips.

        Walks are cached: do not change their tables.

        Args:
            grid: one grid, or the grids of s clips packed one after another; each keeps its own stretch.
            prefix: rows before each grid (class or register tokens).
            place: where the path meets them: at its 'head' (under `+rev` its end), in the 'middle' or 'spread' out.
            causal_frames: cut each grid along t into segments of so many frames (the last may be shorter), each with a
                prefix of its own, and walk segment after segment, each along this order. None: do not cut.

        Returns:
            A walk over `prefix + grid.length` rows, for packed clips or segments over the sum of that.
        """
        if isinstance(grid, Grid):
            return _walk(self, grid, prefix, place, causal_frames)
        return _packed_walk(self, tuple(grid), prefix, place, causal_frames)


@lru_cache(maxsize=1024)
def _walk(order: ScanOrder, grid: Grid, prefix: int, place: Place, causal_frames: int | None) -> Walk:
    raster = not order.curve and not order.flip
    frame_by_frame = raster and order.axes[0] == "t" and not order.reverse and not prefix
    if causal_frames is not None and grid.t > causal_frames and not frame_by_frame:
        cuts = [min(causal_frames, grid.t - start) for start in range(0, grid.t, causal_frames)]
        table, chunks = _joined([_walk(order, grid._replace(t=frames), prefix, place, None) for frames in cuts])
        return Walk(table=table, chunks=chunks)
    if raster and (not prefix or place == "head"):
        stride = {"t": grid.h * grid.w, "h": grid.w, "w": 1}
        s0, s1, s2 = (getattr(grid, axis) for axis in order.axes)
        r0, r1, r2 = (stride[axis] for axis in order.axes)
        return Walk((s0, s1, s2), (r0, r1, r2), order.reverse, prefix)
    forward = replace(order, reverse=False)
    rows = torch.full((prefix + grid.length,), -1)
    rows[prefix_steps(place, prefix, grid.length)] = torch.arange(prefix)
    rows[rows < 0] = forward.indices(grid) + prefix
    return Walk(table=(rows.flip(0) if order.reverse else rows).int(), chunks=_chunks(order, grid, prefix, place))


def _chunks(order: ScanOrder, grid: Grid, prefix: int, place: Place) -> tuple[int, ...] | None:
    """The bricks of an order, and one for the prefix; None where prefix tokens lie within bricks."""
    bricks = order.bricks(grid)
    if bricks is None or not prefix:
        return bricks
    if place != "head":
        return None
    return (*bricks, prefix) if order.reverse else (prefix, *bricks)


@lru_cache(maxsize=64)
def _packed_walk(
    order: ScanOrder, grids: tuple[Grid, ...], prefix: int, place: Place, causal_frames: int | None
) -> Walk:
    walks = [_walk(order, grid, prefix, place, causal_frames) for grid in grids]
    table, chunks = _joined(walks)
    return Walk(table=table, lengths=tuple(walk.length for walk in walks), chunks=chunks)


def _joined(walks: Sequence[Walk]) -> tuple[Tensor, tuple[int, ...] | None]:
    """Walks one behind another, each on its own stretch of rows: the table, and the bricks where all have some."""
    starts = accumulate((walk.length for walk in walks), initial=0)
    table = torch.cat([walk.rows() + start for walk, start in zip(walks, starts)])
    bricks = [walk.chunks for walk in walks if walk.chunks is not None]
    return table, tuple(chain(*bricks)) if len(bricks) == len(walks) else None


def _without_flips() -> dict[str, ScanOrder]:
    curves = ["", *(with_number(stem, curve.number) for stem, curve in CURVES.items())]
    orders = [ScanOrder(axes, curve, reverse=rev) for axes, curve, rev in product(AXES, curves, (False, True))]
    return {str(order): order for order in orders}


# Every order without flips, by name; curves that take a number with that of the papers.
ORDERS: dict[str, ScanOrder] = _without_flips()
