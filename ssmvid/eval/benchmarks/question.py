"""One multiple-choice question about a video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LETTERS = "ABCDEFGH"


@dataclass(frozen=True)
class Question:
    """A question, its options and what it counts towards.

    Attributes:
        id: Of the question, as the benchmark has it.
        video: The file's name, or the video's id where the benchmark names no file.
        text: The question, without its options.
        options: Without their letters.
        answer: Index of the right one; None where it is kept secret.
        groups: The benchmark's divisions, such as "duration", and which classes of each the question is in.
    """

    id: str
    video: str
    text: str
    options: tuple[str, ...]
    answer: int | None
    groups: Mapping[str, tuple[str, ...]]

    def prompt(self) -> str:
        """The question, then an option a line, each with its letter."""
        return "\n".join([self.text, *(f"{letter}. {option}" for letter, option in zip(LETTERS, self.options))])
