"""Multiple-choice accuracy, overall and in each class of each of a benchmark's divisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ssmvid.eval.benchmarks.letters import extract
from ssmvid.eval.benchmarks.question import Question

# Video-MME's scorer leaves a response without a letter out of the count; for the others it is a wrong answer.
LEAVES_OUT = ("video_mme",)


@dataclass(frozen=True)
class Tally:
    """Questions of one class: how many there are, how many count, how many of these were answered rightly."""

    questions: int
    counted: int
    right: int

    @property
    def accuracy(self) -> float | None:
        """right / counted, None where nothing counts."""
        return self.right / self.counted if self.counted else None


def score(benchmark: str, questions: Sequence[Question], responses: Mapping[str, str]) -> dict[str, dict[str, Tally]]:
    """Score free responses as the benchmark does.

    Args:
        benchmark: One of `FORMATS`.
        questions: From `read_questions`, with answers.
        responses: What the model said, by question id.

    Returns: `scores["overall"]["all"]`, and `scores[division][class]`, such as `scores["duration"]["long"]`.

    Raises:
        ValueError: a question has no answer or no response, or a response no question; says which.
    """
    ids = {question.id for question in questions}
    secret = [question.id for question in questions if question.answer is None]
    for what, names in (
        ("questions without an answer", secret),
        ("questions without a response", sorted(ids - responses.keys())),
        ("responses without a question", sorted(responses.keys() - ids)),
    ):
        if names:
            raise ValueError(f"score: {len(names)} {what}: {', '.join(names[:5])}")
    outcomes: dict[str, dict[str, list[bool | None]]] = {"overall": {"all": []}}
    for question in questions:
        meant = extract(benchmark, responses[question.id], question)
        outcome = None if meant is None and benchmark in LEAVES_OUT else meant == question.answer
        for division, classes in {"overall": ("all",), **question.groups}.items():
            for name in classes:
                outcomes.setdefault(division, {}).setdefault(name, []).append(outcome)
    return {
        division: {name: _tally(found) for name, found in sorted(classes.items())}
        for division, classes in outcomes.items()
    }


def _tally(outcomes: Sequence[bool | None]) -> Tally:
    counted = [outcome for outcome in outcomes if outcome is not None]
    return Tally(len(outcomes), len(counted), sum(counted))


def table(scores: Mapping[str, Mapping[str, Tally]]) -> str:
    """The scores as Markdown; a division of several classes ends in the mean of their accuracies."""
    lines = ["| division | class | questions | counted | right, % |", "|---|---|---|---|---|"]
    for division, classes in scores.items():
        for name, tally in classes.items():
            lines.append(f"| {division} | {name} | {tally.questions} | {tally.counted} | {_percent(tally.accuracy)} |")
        each = [tally.accuracy for tally in classes.values() if tally.accuracy is not None]
        if len(classes) > 1 and each:
            lines.append(f"| {division} | mean | | | {_percent(sum(each) / len(each))} |")
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
