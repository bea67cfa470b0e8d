"""Mamba's mixer with one set of weights for every scan order."""

from __future__ import annotations

from ssmvid.mixers.mamba import Mamba
from ssmvid.mixers.merge import refuse_weighted_merge
from ssmvid.scan import ScanPattern


class TiedMamba(Mamba):
    """`Mamba` whose k paths share every weight, A too: the sum (or mean) of one mixer's outputs along k orders.

    Args:
        dim, pattern, state_size, expand: as of `Mamba`.

    Raises:
        ValueError: the pattern holds no order, or its merge has weights.

    Source: Qiao et al. 2024 (VL-Mamba), arXiv:2403.13600, section 3.2, the scans of its VSS block.
    """

    def __init__(self, dim: int, *, pattern: ScanPattern, state_size: int = 16, expand: int = 2) -> None:
        refuse_weighted_merge(self, pattern)
        one = ScanPattern(pattern.orders[:1], pattern.merge, pattern.place)
        super().__init__(dim, pattern=one, state_size=state_size, expand=expand)
        self.pattern = pattern
        self.paths = self.sets = ("",) * len(pattern.orders)
