"""Which option a free answer means: each benchmark's own rule, its quirks included, so that figures compare."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ssmvid.eval.benchmarks.question import LETTERS, Question

_PREFIXES = ("The best answer is", "The correct answer is", "The answer is", "The answer")
# The released list of Video-MME lacks two commas, so these are what it takes off; a "Best option: C" is thus a B.
_VIDEO_MME_PREFIXES = (*_PREFIXES, "The best option isThe correct option is", "Best answer:Best option:")
_LONG_PREFIXES = (*_PREFIXES, "The best option is", "The correct option is", "Best answer:", "Best option:")


def first_letter(response: str, letters: str, prefixes: tuple[str, ...]) -> str:
    """The first of `letters` in what is left without the prefixes."""
    for prefix in prefixes:
        response = response.strip().replace(prefix, "")
    found = re.search(f"[{letters}]", response)
    return found[0] if found else ""


def video_mme(response: str, question: Question) -> str:
    """Source: github.com/BradyFU/Video-MME, evaluation/eval_your_results.py."""
    return first_letter(response, "ABCD", _VIDEO_MME_PREFIXES)


def longvideobench(response: str, question: Question) -> str:
    """Where there is no letter the released rule draws one at random; here there is none.

    Source: github.com/EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/longvideobench/utils.py.
    """
    return first_letter(response, "ABCDE", _LONG_PREFIXES)


def mlvu(response: str, question: Question) -> str:
    """All that stands before the first ")": the prompt ends in "Best option:(".

    Source: github.com/JUNJIE99/MLVU, videochat2/choice_bench.py.
    """
    return response.split(")")[0]


def lvbench(response: str, question: Question) -> str:
    """The first character inside the first brackets, or of the answer.

    Source: github.com/THUDM/LVBench, lvbench/utils/answer_util.py.
    """
    before = response.strip().split(")")[0].strip()
    inside = before.split("(")[1].strip() if "(" in before else before
    return inside[:1]


def egoschema(response: str, question: Question) -> str:
    """The letter that comes first of "(A)", "A " and "A.", each taken where it is last; else the option it quotes.

    Where there is none the released rule draws one at random; here there is none.

    Source: github.com/EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/egoschema/utils.py.
    """
    for mark in ",.!?;:'":
        response = response.strip(mark)
    text = f" {response} "
    written = [f"({letter})" for letter in LETTERS[:5]] + [f"{letter}{end}" for end in " ." for letter in LETTERS[:5]]
    places = [(text.rfind(form), form.strip("(). ")) for form in written if form in text]
    if not places and len(text.split()) > 5:
        low = text.lower()
        quoted = [(low.rfind(option.strip().lower()), letter) for letter, option in zip(LETTERS, question.options)]
        places = [(place, letter) for place, letter in quoted if place >= 0]
    return min(places)[1] if places else ""


EXTRACTORS: Mapping[str, Callable[[str, Question], str]] = {
    rule.__name__: rule for rule in (video_mme, mlvu, lvbench, longvideobench, egoschema)
}


def extract(benchmark: str, response: str, question: Question) -> int | None:
    """Index of the option that a response means by the benchmark's rule, None where it means none.

    Raises:
        ValueError: an unknown benchmark.
    """
    if benchmark not in EXTRACTORS:
        raise ValueError(f"extract: benchmark must be one of {', '.join(EXTRACTORS)}, got {benchmark!r}")
    letter = EXTRACTORS[benchmark](response, question)
    return LETTERS.index(letter) if letter in tuple(LETTERS[: len(question.options)]) else None
