"""How scan orders are spelt, and what a misspelt one was meant to be."""

from __future__ import annotations

import difflib
import re
from itertools import permutations

from ssmvid.scan.curves import CURVES

AXES = tuple("".join(axes) for axes in permutations("thw"))
SPELLING = "AXES[+CURVE][+flip_t][+flip_h][+flip_w][+rev]"

_FLIPS = ("flip_t", "flip_h", "flip_w")
_NUMBERS = {0: "(?:0|[1-9][0-9]{0,8})", 1: "[1-9][0-9]{0,8}"}  # by the least one allowed
_CURVE = "|".join(name + ("" if curve.number is None else _NUMBERS[curve.least]) for name, curve in CURVES.items())
GRAMMAR = re.compile(
    rf"(?P<axes>{'|'.join(AXES)})(\+(?P<curve>{_CURVE}))?(?P<flips>(\+flip_t)?(\+flip_h)?(\+flip_w)?)(?P<rev>\+rev)?"
)


def split_number(name: str) -> tuple[str, int | None]:
    """`'window2'` -> `('window', 2)`, `'snake2d'` -> `('snake2d', None)`."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :]) if stem != name else None


def unknown_order(name: str) -> ValueError:
    """What is wrong with a name that `GRAMMAR` does not match, and the nearest one that it does."""
    curves = ", ".join(stem + ("" if curve.number is None else "N") for stem, curve in CURVES.items())
    hint = _nearest(name)
    return ValueError(
        f"unknown scan order {name!r}: expected {SPELLING}, AXES one of {', '.join(AXES)}, CURVE one of {curves} "
        "with N from 1 (random from 0)" + (f"; did you mean {hint!r}?" if hint else "")
    )


def _nearest(name: str) -> str | None:
    axes, *modifiers = name.split("+")
    rank = {**dict.fromkeys(CURVES, 0), **{word: 1 + i for i, word in enumerate((*_FLIPS, "rev"))}}
    words: dict[str, str] = {}  # each modifier once, its number beside it
    for modifier in modifiers:
        stem, number = split_number(modifier)
        word = next(iter(difflib.get_close_matches(stem, rank, n=1)), stem)
        needed = CURVES[word].number if word in CURVES else None
        words.setdefault(word, "" if needed is None else str(needed if number is None else number))
    close = difflib.get_close_matches(axes.lower(), AXES, n=1)
    ordered = sorted(words, key=lambda word: rank.get(word, 0))
    candidate = "+".join([*close, *(word + words[word] for word in ordered)])
    return candidate if GRAMMAR.fullmatch(candidate) else None
