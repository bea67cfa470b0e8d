"""Scan plans: the orders, merge and schedule of a whole backbone, by name."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from ssmvid.scan.patterns import Merge, ScanPattern, patterns_by_layer


@dataclass(frozen=True)
class ScanPlan:
    """What `patterns_by_layer` takes, as data.

    Args:
        orders: the order names of each pattern.
        schedule: which pattern a layer takes.
        merge: how a pattern's outputs merge.
    """

    orders: tuple[tuple[str, ...], ...]
    schedule: str = "same"
    merge: Merge = "sum"

    @classmethod
    def named(cls, name: str) -> ScanPlan:
        """`PATTERNS[name]`; a misspelt name is a ValueError with the nearest."""
        if name not in PATTERNS:
            near = difflib.get_close_matches(name, PATTERNS, n=1)
            raise ValueError(
                f"unknown scan plan {name!r}: expected one of {', '.join(PATTERNS)}"
                + (f"; did you mean {near[0]!r}?" if near else "")
            )
        return PATTERNS[name]

    def by_layer(self, depth: int) -> list[ScanPattern]:
        """The pattern of each of `depth` layers."""
        return patterns_by_layer(self.orders, self.schedule, depth, self.merge)


def _both_ways(order: str) -> tuple[str, str]:
    return order, f"{order}+rev"


def _eight(curve: str = "") -> tuple[tuple[str, ...], ...]:
    """A curve by rows and by columns from each corner: eight patterns of one order."""
    corners = ("", "+flip_w", "+flip_h", "+flip_h+flip_w")
    return tuple((f"{axes}{curve}{corner}",) for corner in corners for axes in ("thw", "twh"))


# What LocalMamba's search kept in each layer of LocalVim: rows (h), columns (v), windows (w2, w7), "-" backwards.
_SEARCHED = (
    "h v- w7 w7-", "h- w2- w7 w7-", "h h- v w7", "h h- v v-", "h h- v v-",
    "h h- v v-", "h- v v- w7", "h- v v- w2-", "h h- v v-", "h h- v v-",
    "h v v- w2", "h v v- w2-", "h h- v- w7", "h- v v- w2", "h h- v v-",
    "h v w2 w2-", "v v- w2 w7", "h h- v w2", "h h- w2- w7", "v v- w2 w2-",
)  # fmt: skip
_LOCAL = {"h": "thw", "v": "twh", "w2": "thw+window2", "w7": "thw+window7"}


def _local(layer: str) -> tuple[str, ...]:
    return tuple(_LOCAL[path.rstrip("-")] + "+rev" * path.endswith("-") for path in layer.split())


_SPACE, _TIME = _both_ways("thw"), _both_ways("hwt")

PATTERNS: dict[str, ScanPlan] = {
    # Li et al. 2024 (VideoMamba), arXiv:2403.06977; the released models are spatial_bidirectional.
    "spatial_bidirectional": ScanPlan((_SPACE,)),
    "temporal_bidirectional": ScanPlan((_TIME,)),
    "spatiotemporal_v1": ScanPlan((_SPACE, _TIME), "halves"),
    "spatiotemporal_v2": ScanPlan((_SPACE + _TIME,)),
    "spatiotemporal": ScanPlan((_SPACE, _TIME), "alternate"),  # v1 layer by layer: ours
    # Zhu et al. 2024 (Vim), arXiv:2401.09417; Yang et al. 2024 (Vivim), arXiv:2401.14168.
    "vim": ScanPlan((_SPACE,), merge="mean"),
    "vivim": ScanPlan(((*_SPACE, "hwt"),), merge="mean"),
    # Li et al. 2024 (Mamba-ND), arXiv:2402.05892: H+ H- W+ W- T+ T-; then after it, two orders a layer.
    "mamba_nd": ScanPlan(tuple((order,) for axes in ("thw", "twh", "wht") for order in _both_ways(axes)), "alternate"),
    "three_axis": ScanPlan((_SPACE, _TIME, _both_ways("wth")), "alternate"),
    # Liu et al. 2024 (VMamba), arXiv:2401.10166; rot90 is its scans=3.
    "cross4": ScanPlan((("thw", "twh", "thw+rev", "twh+rev"),)),
    "rot90": ScanPlan((("thw", "twh+flip_w", "thw+flip_h+flip_w", "twh+flip_h"),)),
    # Yang et al. 2024 (PlainMamba), arXiv:2403.17695.
    "snake4": ScanPlan(((*_both_ways("thw+snake2d"), *_both_ways("twh+snake2d")),)),
    # Hu et al. 2024 (ZigMa), arXiv:2403.13802; sweep8 is Phung et al. 2024 (DiMSUM), arXiv:2411.04168.
    "zigzag8": ScanPlan(_eight("+snake2d"), "alternate"),
    "sweep8": ScanPlan(_eight(), "alternate"),
    "hilbert8": ScanPlan(_eight("+hilbert2d"), "alternate"),
    "random8": ScanPlan(tuple((f"thw+random{seed}",) for seed in range(8)), "alternate"),
    # Zhao et al. 2024 (RS-Mamba), arXiv:2404.02668: rows, columns and both diagonals, there and back.
    "omni8": ScanPlan(
        (
            tuple(
                order
                for path in ("thw", "twh", "thw+wrap_diagonal", "thw+wrap_antidiagonal")
                for order in _both_ways(path)
            ),
        )
    ),
    # Huang et al. 2024 (LocalMamba), arXiv:2403.09338: the eight candidates of its search, and what it picked.
    "local8": ScanPlan((tuple(order for path in _LOCAL.values() for order in _both_ways(path)),)),
    "local_vim": ScanPlan(tuple(_local(layer) for layer in _SEARCHED), "alternate"),
    # Hatamizadeh & Kautz 2024 (MambaVision), arXiv:2407.08083, in each window.
    "raster": ScanPlan((("thw",),)),
    # There and back along one curve: two orders a layer, for any block with two parameter sets.
    "snake": ScanPlan((_both_ways("thw+snake"),)),
    "snake_spatiotemporal": ScanPlan((_both_ways("thw+snake"), _both_ways("hwt+snake")), "alternate"),
    "hilbert": ScanPlan((_both_ways("thw+hilbert"),)),
    "hilbert2d": ScanPlan((_both_ways("thw+hilbert2d"),)),
    "morton": ScanPlan((_both_ways("thw+morton"),)),
    "window2": ScanPlan((_both_ways("thw+window2"),)),
    "brick": ScanPlan(tuple(_both_ways(f"{axes}+brick2x2x2") for axes in ("thw", "hwt", "wth")), "alternate"),
    "random": ScanPlan((_both_ways("thw+random0"),)),
}
