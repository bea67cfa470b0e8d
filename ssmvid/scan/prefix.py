"""Where a path meets the prefix: class and register tokens, which lie before the grid but need not be read first."""

from __future__ import annotations

from typing import Literal, get_args

Place = Literal["head", "middle", "spread"]
PLACES: tuple[Place, ...] = get_args(Place)


def prefix_steps(place: Place, prefix: int, length: int) -> list[int]:
    """The steps, of `prefix + length`, that read the prefix tokens; a reversed path is counted from its end.

    Args:
        place: 'head' (VideoMamba, arXiv:2403.06977), 'middle' (Vim, arXiv:2401.09417, section 4.2) or 'spread':
            one behind each of `prefix` equal stretches of the path, and one such stretch, or what is left, at its end
            (Mamba-Reg, arXiv:2405.14858, section 3.2).
        prefix: class and register tokens.
        length: tokens of the grid.

    Raises:
        ValueError: the place is unknown.
    """
    if place == "head":
        return list(range(prefix))
    if place == "middle":
        return [length // 2 + i for i in range(prefix)]
    if place == "spread":
        stretch = length // (prefix + 1)
        return [(i + 1) * stretch + i for i in range(prefix)]
    raise ValueError(f"unknown place of the prefix {place!r}: expected one of {', '.join(PLACES)}")
