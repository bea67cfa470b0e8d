"""Walks over a grid whose windows are padded, as LocalMamba scans them: zeros beyond the border are steps as well."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ssmvid.scan.blocks import padded_windows
from ssmvid.scan.grid import Grid
from ssmvid.scan.naming import split_number
from ssmvid.scan.orders import ScanOrder
from ssmvid.scan.patterns import ScanPattern
from ssmvid.scan.prefix import prefix_steps
from ssmvid_kernels.walk import Walk


def padded_walks(pattern: ScanPattern, grid: Grid, prefix: int = 0) -> tuple[list[Walk], int]:
    """The walks of a pattern, `windowN` orders over a grid padded to a multiple of N, and the rows of padding.

    The rows of padding lie behind the grid's; the caller appends so many zeros and drops what comes back for them.
    A path that pads less than another reads the rest at its end, where no token follows. Walks are cached.

    Args:
        pattern: the k orders; where paths meet the prefix is counted along a path, from the first step of a reversed
            one as well.
        grid: the tokens.
        prefix: rows before the grid.

    Returns:
        k walks over `prefix + grid.length + padding` rows, and `padding`.

    Raises:
        ValueError: a window order has flips, or axes other than 'thw' and 'twh'.

    Source: Huang et al. 2024 (LocalMamba), arXiv:2403.09338, and its released code.
    """
    if not prefix and not any(order.curve.startswith("window") for order in pattern.orders):
        return pattern.walks(grid), 0
    walks, padding = _padded_walks(pattern, grid, prefix)
    return list(walks), padding


@lru_cache(maxsize=256)
def _padded_walks(pattern: ScanPattern, grid: Grid, prefix: int) -> tuple[tuple[Walk, ...], int]:
    paths = [_path(order, grid) for order in pattern.orders]
    padding = max(int((path < 0).sum()) for path in paths)
    tables = []
    for path in paths:
        pads = path < 0
        used, end = int(pads.sum()), prefix + grid.length
        steps = torch.full((prefix + len(path),), -1)
        steps[prefix_steps(pattern.place, prefix, grid.length)] = torch.arange(prefix)
        steps[steps < 0] = torch.where(pads, end - 1 + pads.cumsum(0), path + prefix)
        tables.append(torch.cat([steps, torch.arange(end + used, end + padding)]).int())
    return tuple(Walk(table=table) for table in tables), padding


def _path(order: ScanOrder, grid: Grid) -> Tensor:
    """The row of the token read at each step, -1 where a step reads padding."""
    if not order.curve.startswith("window"):
        return order.indices(grid)
    if order.flip:
        raise ValueError(f"padded_walks: a window order has no flips here, got {str(order)!r}")
    size = split_number(order.curve)[1]
    assert isinstance(size, int)
    path = padded_windows(grid, size, order.axes)
    return path.flip(0) if order.reverse else path
