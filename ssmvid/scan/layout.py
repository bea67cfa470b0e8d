"""Where the rows of a sequence come from: prefix tokens, segments of time, packed clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from ssmvid.scan.grid import Grid


@dataclass(frozen=True)
class Layout:
    """The grids of one sequence, and the prefix tokens before each: before each of its segments where it is cut.

    Args:
        grids: one, or those of s clips packed one after another.
        prefix: class or register tokens before each grid, or segment.
        causal_frames: frames of a segment, of which the last of a grid may have fewer; None: a grid is one segment.
        packed: whether the grids are packed clips.
    """

    grids: tuple[Grid, ...]
    prefix: int = 0
    causal_frames: int | None = None
    packed: bool = False

    @classmethod
    def of(cls, grid: Grid | Sequence[Grid], rows: int, causal_frames: int | None = None) -> Layout:
        """The layout of a sequence of `rows` rows: what the grids do not fill is prefix.

        Raises:
            ValueError: the rest is no multiple of the number of segments.
        """
        grids = (grid,) if isinstance(grid, Grid) else tuple(grid)
        spare = rows - sum(one.length for one in grids)
        count = sum(cls(grids, causal_frames=causal_frames).segments)
        prefix = spare // count if count else 0
        if spare < 0 or prefix * count != spare:
            raise ValueError(
                f"tokens have l = {rows} rows, {', '.join(map(str, grids))} fill {rows - spare}: the rest must be a "
                f"multiple of their {count} segments, as many prefix tokens before each"
            )
        return cls(grids, prefix, causal_frames, packed=not isinstance(grid, Grid))

    @property
    def segments(self) -> tuple[int, ...]:
        """Segments of each grid."""
        return tuple(1 if self.causal_frames is None else -(-grid.t // self.causal_frames) for grid in self.grids)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Rows of each grid, its prefix tokens among them."""
        return tuple(count * self.prefix + grid.length for count, grid in zip(self.segments, self.grids))

    def cu_seqlens(self, device: torch.device) -> Tensor | None:
        """The borders of packed clips as a kernel takes them, int32 (s + 1,); None where nothing is packed."""
        if not self.packed:
            return None
        return torch.tensor([0, *accumulate(self.lengths)], dtype=torch.int32, device=device)
