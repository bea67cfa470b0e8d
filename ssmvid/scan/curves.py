"""Curves by name: how a path runs over a box of cells, before an order says which axis is which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssmvid.scan import blocks, lines, scatter
from ssmvid.scan.hilbert import hilbert

Number = int | tuple[int, ...]  # of a name, as window2 or brick2x4x4


@dataclass(frozen=True)
class Curve:
    """A curve over the two faster axes, slice after slice of the slowest, or over all three.

    Args:
        path: from a shape (and the curve's number) to the raster indices of the cells it visits.
        axes: 2 or 3, how many axes `path` runs over.
        number: where the name ends in a number, the one of the papers; in three, a brick's, cells an axis; else None.
        least: the smallest such number.
        unit_steps: every step of `path` goes to a neighbour.
    """

    path: Callable[..., Tensor]
    axes: int
    number: Number | None = None
    least: int = 1
    unit_steps: bool = False

    def cells(self, shape: Sequence[int], number: Number | None = None) -> Tensor:
        """The raster index of the cell of each step over three axes, slowest first, int64 (cells,); no size is 0."""
        options = () if number is None else (number,)
        if self.axes == 3:
            return self.path(shape, *options)
        plane = self.path(shape[1:], *options)
        return (torch.arange(shape[0])[:, None] * plane.numel() + plane).flatten()


CURVES = {
    "snake": Curve(lines.snake, axes=3, unit_steps=True),
    "snake2d": Curve(lines.snake, axes=2, unit_steps=True),
    "hilbert": Curve(hilbert, axes=3, unit_steps=True),
    "hilbert2d": Curve(hilbert, axes=2, unit_steps=True),
    "morton": Curve(scatter.morton, axes=3),
    "morton2d": Curve(scatter.morton, axes=2),
    "spiral": Curve(lines.spiral, axes=2, unit_steps=True),
    "antidiagonal": Curve(lines.antidiagonal, axes=2),
    "jpeg": Curve(lines.jpeg, axes=2),
    "wrap_diagonal": Curve(lines.wrap_diagonal, axes=2),
    "wrap_antidiagonal": Curve(lines.wrap_antidiagonal, axes=2),
    "window": Curve(blocks.window, axes=2, number=2),
    "brick": Curve(blocks.brick, axes=3, number=(4, 4, 4)),
    "atrous": Curve(blocks.atrous, axes=2, number=2),
    "slices": Curve(blocks.slices, axes=3, number=4),
    "random": Curve(scatter.random, axes=3, number=0, least=0),
}
