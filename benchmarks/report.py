"""Make docs/benchmarks.md and its plots from benchmarks/results/*.jsonl: python benchmarks/report.py

The newest row of each measurement stands in the table, slower ones than the peer too; older rows stay in the files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plots
from crossover import crossovers

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "benchmarks.md"
TITLES = {
    "s6": "selective_scan",
    "conv": "causal_conv1d",
    "ssd": "ssd_scan",
    "rms_norm": "rms_norm after an add",
    "layer_norm": "layer_norm after an add",
    "model": "Models, forward",
    "encoder": "Visual token encoders, forward",
}
# What makes two rows the same measurement, and so one table; what makes two rows of it one cell.
TABLE = ("device", "op", "dtype", "threads")
CELL = ("case", "k", "l", "model", "frames", "size", "pass", "backend")
SIZES = ("b", "l", "d", "heads", "p", "g", "n", "width", "k", "batch", "frames", "size", "tokens")

INTRODUCTION = """\
# Benchmarks

Made by `python benchmarks/report.py` from the rows under `benchmarks/results/`: milliseconds, the median and the 20th
to 80th percentile, and how many times faster than the first line of the block, measured in the same run. A row is
written only where the result on that very shape is as exact as the peer's. Machines differ: compare ratios.

*Floor* is the share of the time that this device, at its own measured best copy and best matmul, would need to move
every input and output once or to make the op's operations, whichever is longer. *Peak* is the memory that a call adds
at its highest. `attention` mixes the same tokens and computes something else: it is there for scale."""

Row = dict[str, Any]


def main() -> None:
    newest = {tuple(row.get(name) for name in TABLE + CELL): row for row in read_rows(RESULTS)}
    PAGE.write_text("\n".join(page(list(newest.values()))) + "\n")
    print(f"wrote {PAGE.relative_to(ROOT)}: {len(newest)} rows")


def read_rows(folder: Path) -> list[Row]:
    """Every row of every file of measurements that has a table here, oldest first."""
    rows = [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]
    return [row for row in rows if "ms" in row and row["op"] in TITLES]


def page(rows: list[Row]) -> Iterator[str]:
    yield INTRODUCTION
    for key, group in grouped(rows, TABLE):
        device, op, dtype, threads = key
        yield from ("", f"## {TITLES[op]} on {device}, {dtype}, {threads} CPU threads", "")
        yield "| shape | pass | implementation | ms | p20-p80 | ratio | GB/s | GFLOP/s | floor | peak MiB |"
        yield "|---|---|---|---|---|---|---|---|---|---|"
        for (*_, pass_), block in grouped(group, ("case", "l", "k", "model", "frames", "pass")):
            for row in block:
                yield f"| {shape(row)} | {pass_} | {' | '.join(figures(row, block[0]))} |"
        if op == "model":
            yield from ("", *(f"- {line}." for line in crossovers(group)))
        yield from plots.sweeps(group, ROOT / "docs", "-".join(map(str, (plots.slug(device), op, dtype))))
        made = sorted({f"commit {row['commit']}, torch {row['torch']}, {row['date']}" for row in group})
        yield from ("", f"{'; '.join(made)}.")


def figures(row: Row, first: Row) -> list[str]:
    """One line's cells; an older row lacks the last four."""
    cells = [row["backend"], f"{row['ms']:.2f}", f"{row['p20']:.2f}-{row['p80']:.2f}", f"{first['ms'] / row['ms']:.1f}"]
    if "floor_ms" not in row or not row.get("same", True):
        return [*cells, "", "", "", f"{row['peak_mib']:.0f}" if row.get("peak_mib") is not None else ""]
    peak = "" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}"
    rates = [f"{1e-6 * row[amount] / row['ms']:.1f}" for amount in ("bytes", "flops")]
    return [*cells, *rates, f"{row['floor_ms'] / row['ms']:.0%}", peak]


def shape(row: Row) -> str:
    name = row.get("case") or row["model"]
    return f"{name}: " + " ".join(f"{size}={row[size]}" for size in SIZES if row.get(size))


def grouped(rows: list[Row], names: tuple[str, ...]) -> Iterator[tuple[tuple[Any, ...], list[Row]]]:
    """Rows that agree in `names`, in the order in which each combination first appears."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(name) for name in names), []).append(row)
    yield from groups.items()


if __name__ == "__main__":
    main()
