"""How scan orders are spelt, and what a misspelt one was meant to be."""

from __future__ import annotations

import difflib
import re
from itertools import permutations

from ssmvid.scan.curves import CURVES, Curve, Number

AXES = tuple("".join(axes) for axes in permutations("thw"))
SPELLING = "AXES[+CURVE][+flip_t][+flip_h][+flip_w][+rev]"

_FLIPS = ("flip_t", "flip_h", "flip_w")
_NUMBERS = {0: "(?:0|[1-9][0-9]{0,8})", 1: "[1-9][0-9]{0,8}"}  # by the least one allowed
_NUMBERED = re.compile(r"(.*?)(\d+(?:x\d+x\d+)?)?")


def _spelt(curve: Curve, number: str) -> str:
    """What follows the curve's stem, where one number is spelt `number`."""
    count = len(curve.number) if isinstance(curve.number, tuple) else int(curve.number is not None)
    return "x".join([number] * count)


_CURVE = "|".join(stem + _spelt(curve, _NUMBERS[curve.least]) for stem, curve in CURVES.items())
GRAMMAR = re.compile(
    rf"(?P<axes>{'|'.join(AXES)})(\+(?P<curve>{_CURVE}))?(?P<flips>(\+flip_t)?(\+flip_h)?(\+flip_w)?)(?P<rev>\+rev)?"
)


def split_number(name: str) -> tuple[str, Number | None]:
    """`'window2'` -> `('window', 2)`, `'brick2x4x4'` -> `('brick', (2, 4, 4))`, `'snake2d'` -> `('snake2d', None)`."""
    match = _NUMBERED.fullmatch(name)
    assert match is not None
    numbers = tuple(map(int, match[2].split("x"))) if match[2] else ()
    return match[1], numbers if len(numbers) > 1 else next(iter(numbers), None)


def with_number(stem: str, number: Number | None) -> str:
    """The inverse of `split_number`."""
    return stem + ("" if number is None else "x".join(map(str, number if isinstance(number, tuple) else [number])))


def unknown_order(name: str) -> ValueError:
    """What is wrong with a name that `GRAMMAR` does not match, and the nearest one that it does."""
    curves = ", ".join(stem + _spelt(curve, "N") for stem, curve in CURVES.items())
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
        words.setdefault(word, with_number("", number if type(number) is type(needed) else needed))
    close = difflib.get_close_matches(axes.lower(), AXES, n=1)
    ordered = sorted(words, key=lambda word: rank.get(word, 0))
    candidate = "+".join([*close, *(word + words[word] for word in ordered)])
    return candidate if GRAMMAR.fullmatch(candidate) else None
