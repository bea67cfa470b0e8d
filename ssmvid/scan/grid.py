"""Grid: how many tokens lie along time, height and width."""

from __future__ import annotations

from typing import NamedTuple


class Grid(NamedTuple):
    """Tokens an axis. Token (t, h, w) is row `(t * grid.h + h) * grid.w + w` of a sequence."""

    t: int
    h: int
    w: int

    @property
    def length(self) -> int:
        """Tokens in all, l."""
        return self.t * self.h * self.w
