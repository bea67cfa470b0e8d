"""The answer of an ablation: one table and one picture from the runs of a sweep."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from ssmvid.engine.summary import read_summary


@dataclass(frozen=True)
class Answer:
    """What the runs of one choice gave: `values` of the metric, `minutes` each, and the runs that did not finish."""

    values: tuple[float, ...]
    minutes: tuple[float, ...]
    unfinished: tuple[str, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None for a single run."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


class WriteTable(Callback):
    """A Hydra callback that writes docs/<name>.md and .png once all runs of a sweep are over.

    Args:
        question: what is asked, a sentence.
        command: how to get the answer again.
        name: of the two files.
        group: the config group whose choices are compared; the other swept keys (seeds) are repetitions.
        metric: a number of summary.json, shown in percent.
        docs: their folder, from the folder the command was given in.
    """

    def __init__(self, *, question: str, command: str, name: str, group: str, metric: str, docs: str) -> None:
        self.question, self.command, self.name = question, command, name
        self.group, self.metric, self.docs = group, metric, Path(docs)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        answers, summary = collect(Path(config.hydra.sweep.dir), self.group, self.metric)
        self.docs.mkdir(parents=True, exist_ok=True)
        (self.docs / f"{self.name}.md").write_text(self.page(answers, summary))
        self.draw(answers)

    def page(self, answers: Mapping[str, Answer], summary: Mapping[str, Any]) -> str:
        """The page: question, command, table, picture, and what the runs were made with."""
        lines = [
            f"# Ablation: {self.name.replace('_', ' ')}",
            "",
            self.question,
            "",
            f"    {self.command}",
            "",
            f"| {self.group} | runs | {self.metric}, mean % | spread (std) | minutes a run |",
            "|---|---|---|---|---|",
        ]
        lines += [_line(choice, answer) for choice, answer in answers.items()]
        unfinished = [run for answer in answers.values() for run in answer.unfinished]
        if unfinished:
            lines += ["", f"Without a result, and not in the numbers: {', '.join(unfinished)}."]
        versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items() if version)
        lines += [
            "",
            f"![mean and spread]({self.name}.png)",
            "",
            f"{datetime.date.today()}; {summary['params']:,} parameters, {summary['steps']} steps; "
            f"{summary['device']}; commit {summary['commit'] or 'unknown'}; {versions}.",
            "",
        ]
        return "\n".join(lines)

    def draw(self, answers: Mapping[str, Answer]) -> None:
        """A bar a choice, the spread as its whisker, a dot a run."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 1 + 0.5 * len(answers)), layout="constrained")
        axes = figure.subplots()
        shown = {choice: answer for choice, answer in answers.items() if answer.values}
        for place, answer in enumerate(shown.values()):
            axes.barh(place, 100 * answer.mean, xerr=100 * (answer.spread or 0.0), color="0.8", capsize=3)
            axes.plot([100 * value for value in answer.values], [place] * len(answer.values), "k.", markersize=4)
        axes.set_yticks(range(len(shown)), list(shown))
        axes.invert_yaxis()
        axes.set_xlabel(f"{self.metric}, %")
        figure.savefig(self.docs / f"{self.name}.png", dpi=120)


def collect(sweep: Path, group: str, metric: str) -> tuple[dict[str, Answer], dict[str, Any]]:
    """The answers by choice of `group`, best mean first, and the summary of one of the runs.

    Raises:
        ValueError: no run of the sweep finished, or a summary lacks the metric.
    """
    runs: dict[str, list[Path]] = {}
    for path in sorted(sweep.glob("*/.hydra/hydra.yaml")):
        choices = OmegaConf.load(path).hydra.runtime.choices
        runs.setdefault(choices[group], []).append(path.parents[1])
    answers, some = {}, None
    for choice, folders in runs.items():
        summaries = {folder: read_summary(folder) for folder in folders}
        done = [summary for summary in summaries.values() if summary is not None]
        if odd := [folder for folder, summary in summaries.items() if summary is not None and metric not in summary]:
            raise ValueError(f"{odd[0] / 'summary.json'} has no {metric!r}; choose one of its numbers as the metric")
        answers[choice] = Answer(
            tuple(summary[metric] for summary in done),
            tuple(summary["minutes"] for summary in done),
            tuple(folder.name for folder, summary in summaries.items() if summary is None),
        )
        some = done[0] if done else some
    if some is None:
        raise ValueError(f"no run under {sweep} has a summary.json: nothing to make a table of")
    best_first = sorted(answers, key=lambda choice: -(answers[choice].mean if answers[choice].values else -1))
    return {choice: answers[choice] for choice in best_first}, some


def _line(choice: str, answer: Answer) -> str:
    if not answer.values:
        return f"| {choice} | 0 | | | |"
    spread = "" if answer.spread is None else f"{100 * answer.spread:.2f}"
    minutes = statistics.fmean(answer.minutes)
    return f"| {choice} | {len(answer.values)} | {100 * answer.mean:.2f} | {spread} | {minutes:.2f} |"
