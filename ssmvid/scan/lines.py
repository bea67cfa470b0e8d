"""Curves drawn with straight lines: snakes, diagonals, the spiral.

A curve is a function of a shape, slowest axis first, to the cells it visits: their raster indices, int64 (cells,).
No size is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def snake(shape: Sequence[int]) -> Tensor:
    """Raster order that turns back at the end of every axis, so that each step goes to a neighbour.

    Source: over rows or columns Yang et al. 2024 (PlainMamba), arXiv:2403.17695, "continuous 2D scanning".
    """
    cells = torch.arange(math.prod(shape))
    for axis in range(1, len(shape)):
        sweeps = cells.view(-1, shape[axis], math.prod(shape[axis + 1 :]))
        sweeps[1::2] = sweeps[1::2].flip(1)
    return cells


def antidiagonal(shape: Sequence[int]) -> Tensor:
    """Anti-diagonals row + column = 0, 1, ..., each from its top right cell to its bottom left one.

    Source: Lin et al. 2025 (EAMamba), arXiv:2506.22246.
    """
    row, column = _coordinates(shape)
    return ((row + column) * shape[0] + row).argsort()


def jpeg(shape: Sequence[int]) -> Tensor:
    """Anti-diagonals, every second one upwards: the zigzag of JPEG. Right first, then down left.

    Source: ITU-T T.81, figure 5; in scans Phung et al. 2024 (DiMSUM), arXiv:2411.04168, where grids are square.
    """
    row, column = _coordinates(shape)
    diagonal = row + column
    along = torch.where(diagonal % 2 == 1, row, shape[0] - 1 - row)
    return (diagonal * shape[0] + along).argsort()


def wrap_diagonal(shape: Sequence[int]) -> Tensor:
    """One diagonal a column, downwards to the right, going on at the left edge: (row, (j + row) mod columns), j outer.

    Source: Zhao et al. 2024 (RS-Mamba), arXiv:2404.02668.
    """
    return _wrapped(shape, 1)


def wrap_antidiagonal(shape: Sequence[int]) -> Tensor:
    """One diagonal a column, downwards to the left, going on at the right edge: (row, (j - row) mod columns), j outer.

    Source: Zhao et al. 2024 (RS-Mamba), arXiv:2404.02668.
    """
    return _wrapped(shape, -1)


def spiral(shape: Sequence[int]) -> Tensor:
    """Ring after ring clockwise from the outside, each from its top left corner; every step goes to a neighbour."""
    rows, columns = shape
    row, column = _coordinates(shape)
    ring = torch.stack([row, column, rows - 1 - row, columns - 1 - column]).amin(0)
    height, width = rows - 2 * ring, columns - 2 * ring  # of the block the ring encloses
    right, down = column - ring, row - ring  # from the ring's top left corner
    along = torch.where(down == height - 1, 2 * (width - 1) + height - 1 - right, 2 * (width + height - 2) - down)
    along = torch.where(right == width - 1, width - 1 + down, along)
    along = torch.where(down == 0, right, along)
    return (rows * columns - height * width + along).argsort()


def _coordinates(shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    cells = torch.arange(math.prod(shape))
    return cells // shape[1], cells % shape[1]


def _wrapped(shape: Sequence[int], slope: int) -> Tensor:
    row, start = torch.arange(shape[0]), torch.arange(shape[1])[:, None]
    return (row * shape[1] + (start + slope * row) % shape[1]).flatten()
