"""Time and memory against the number of tokens, on logarithmic axes, with the slope of each line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from crossover import PEER
from matplotlib.ticker import NullFormatter

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LONG = 16384  # slopes are taken from here on, where a line has three points there, else over all of it
FEWEST = 3  # points of a line
APART = ("case", "k", "model")  # rows that differ in one of them lie on lines of their own

Row = dict[str, Any]


def sweeps(rows: list[Row], docs: Path, name: str) -> Iterator[str]:
    """Draw every sweep over lengths among `rows` under docs/benchmarks, and give the lines of the page that show it."""
    for which in dict.fromkeys(row["pass"] for row in rows):
        lines = {}
        for backend in dict.fromkeys(row["backend"] for row in rows):
            for key in dict.fromkeys(tuple(row.get(name) for name in APART) for row in rows):
                line = sorted(
                    (row["tokens"] if "tokens" in row else row["l"], row["ms"], row.get("peak_mib"))
                    for row in rows
                    if (row["pass"], row["backend"], *(row.get(name) for name in APART)) == (which, backend, *key)
                )
                if len(line) >= FEWEST:
                    lines[name_of(backend, *key)] = line
        if lines:
            file = docs / "benchmarks" / f"{name}-{which}.png"
            file.parent.mkdir(exist_ok=True)
            draw(lines, which, file)
            yield from ("", f"![{which} against tokens](benchmarks/{file.name})", "")
            yield "| against tokens, " + which + " | slope of time | slope of memory |"
            yield "|---|---|---|"
            for label, line in lines.items():
                time, memory = (slope(line, column) for column in (1, 2))
                yield f"| {label} | {time} | {memory} |"


def name_of(backend: str, case: str | None, k: int | None, model: str | None) -> str:
    """A line's name. The attention that models are measured beside is the same for all of them."""
    if model and backend not in (PEER, model):
        return f"{model}, {backend}"
    return f"{backend}, k={k}" if k else backend


def slope(line: list[tuple[int, float, float | None]], column: int) -> str:
    """The exponent e of `figure ~ tokens^e`, by least squares over the long end, and where that is."""
    points = [point for point in line if point[column]]
    long = [point for point in points if point[0] >= LONG]
    points = long if len(long) >= FEWEST else points
    if len(points) < FEWEST:
        return ""
    tokens, figures = zip(*((point[0], point[column]) for point in points))
    return f"{exponent(tokens, figures):.2f} ({points[0][0]:,} to {points[-1][0]:,})"


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """e of `y ~ x^e`, by least squares of the logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def draw(lines: dict[str, list[tuple[int, float, float | None]]], which: str, file: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for label, line in lines.items():
        for axis, column in zip(axes, (1, 2)):
            points = [(point[0], point[column]) for point in line if point[column]]
            if points:
                axis.plot(*zip(*points), marker="o", markersize=3, label=label)
    for axis, title in zip(axes, (f"ms, {which}", "peak MiB")):
        axis.set(xscale="log", yscale="log", xlabel="tokens", title=title)
        axis.xaxis.set_minor_formatter(NullFormatter())  # they would lie over each other
        axis.grid(True, which="major", alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.savefig(file, dpi=110, metadata={"Software": None})
    plt.close(figure)


def slug(device: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in device.lower()).strip("-")
