"""Curves that cut the grid up: windows, bricks, atrous phases, slices. Shapes and results as in `lines`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from ssmvid.scan.grid import Grid


def window(shape: Sequence[int], size: int) -> Tensor:
    """Windows of `size` x `size` in raster order, the cells of each in raster order; border windows are cut off.

    Source: Huang et al. 2024 (LocalMamba), arXiv:2403.09338. Where a size is no multiple of the window the released
        code scans zero tokens as well, which is no permutation: `padded_windows` has that list.
    """
    height, width = (min(size, axis) for axis in shape)
    cells = _windows(torch.arange(math.prod(shape)).view(*shape), height, width)
    return cells[cells >= 0]


def brick(shape: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """Bricks of these sizes in raster order, the cells of each in raster order; border bricks are cut off."""
    cells = torch.arange(math.prod(shape))
    coordinates = torch.unravel_index(cells, torch.Size(shape))
    rank = torch.zeros_like(cells)
    for place, axis, size in zip(coordinates, shape, sizes):
        rank = rank * math.ceil(axis / size) + place // size
    return rank.argsort(stable=True)


def brick_lengths(shape: Sequence[int], sizes: Sequence[int]) -> tuple[int, ...]:
    """The cells of each brick, in the order in which `brick` visits them."""
    edges = ([min(size, axis - start) for start in range(0, axis, size)] for axis, size in zip(shape, sizes))
    return tuple(math.prod(brick) for brick in product(*edges))


def padded_windows(grid: Grid, size: int, axes: str = "thw") -> Tensor:
    """The released LocalMamba's path, frame by frame: windows over a grid padded to a multiple of their size.

    Args:
        grid: the tokens.
        size: cells along a window's edge.
        axes: 'thw', or 'twh' for columns before rows, windows and cells alike ("column first").

    Returns:
        The row of the token read at each step, -1 where a step reads padding, int64 (t * padded h * padded w,).

    Raises:
        ValueError: the size is below 1, or the axes are neither 'thw' nor 'twh'.

    Source: Huang et al. 2024 (LocalMamba), arXiv:2403.09338, and its released code.
    """
    if size < 1 or axes not in ("thw", "twh"):
        raise ValueError(f"padded_windows: expected size >= 1 and axes 'thw' or 'twh', got {size} and {axes!r}")
    rows = torch.arange(grid.length).view(grid)
    return _windows(rows if axes == "thw" else rows.mT, size, size).flatten()


def atrous(shape: Sequence[int], step: int) -> Tensor:
    """The `step` x `step` grids of every `step`-th row and column, one after another, column offset outer.

    Grids of an odd row offset are read column by column.

    Source: Pei et al. 2024 (EfficientVMamba), arXiv:2403.09977, where step is 2 and each grid is a scan of its own.
    """
    cells = torch.arange(math.prod(shape)).view(*shape)
    rows, columns = (min(step, axis) for axis in shape)
    phases = [(i, cells[i::step, j::step]) for j in range(columns) for i in range(rows)]
    return torch.cat([(phase.T if i % 2 else phase).flatten() for i, phase in phases])


def slices(shape: Sequence[int], count: int) -> Tensor:
    """The raster sequence cut into `count` slices (the last may be shorter), one cell of each slice in turn.

    Source: Xing et al. 2024 (SegMamba), arXiv:2401.13560, "inter-slice".
    """
    length = math.prod(shape)
    count = min(count, length)
    cells = torch.arange(count * math.ceil(length / count)).view(count, -1).T.flatten()
    return cells[cells < length]


def _windows(cells: Tensor, height: int, width: int) -> Tensor:
    """The cells (..., rows, columns) window by window, (..., windows * height * width), -1 where one is padding."""
    rows, columns = cells.shape[-2:]
    cells = F.pad(cells, (0, -columns % width, 0, -rows % height), value=-1)
    return cells.unflatten(-2, (-1, height)).unflatten(-1, (-1, width)).transpose(-3, -2).flatten(-4)
