"""What a finished run leaves to be read: summary.json and curves.png."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ssmvid.versions import installed

PACKAGES = ("ssmvid", "torch", "timm", "accelerate", "torchmetrics", "hydra-core", "numba", "triton", "av")


def environment() -> dict[str, Any]:
    """Versions, device and commit: what someone needs to know to get the same numbers."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "versions": {"python": platform.python_version()} | {name: installed(name) for name in PACKAGES},
        "device": gpu or f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "commit": _commit(),
    }


def speed_and_memory(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the rows of training: the median of tokens a second, the highest peak of memory, and its last policy.

    What no row tells is left out. A median, as kernels are compiled before the first row.
    """
    merge: dict[str, Callable[[list[Any]], Any]] = {
        "tokens_per_s": statistics.median,
        "peak_mib": max,
        "memory": lambda told: told[-1],
    }
    seen = {name: [row[name] for row in rows if row["kind"] == "train" and row.get(name) is not None] for name in merge}
    return {name: merge[name](values) for name, values in seen.items() if values}


def write_summary(folder: Path, numbers: Mapping[str, Any]) -> None:
    """Write summary.json in one go: it is there, whole, once the run is finished, and not before."""
    temporary = folder / ".summary.json"
    temporary.write_text(json.dumps(numbers, indent=1) + "\n")
    temporary.replace(folder / "summary.json")


def read_summary(folder: Path) -> dict[str, Any] | None:
    """The summary of a finished run, None for any other."""
    path = folder / "summary.json"
    return json.loads(path.read_text()) if path.exists() else None


def draw_curves(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw loss and top-1 over steps, training and validation, into curves.png."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, column, label in zip(figure.subplots(1, 2), ("loss", "top1"), ("loss", "top-1")):
        for kind, style in (("train", "-"), ("val", "o-")):
            points = [(row["step"], row[column]) for row in rows if row["kind"] == kind and row[column] is not None]
            if points:
                axes.plot(*zip(*points), style, label=kind, markersize=3)
                axes.legend()
        axes.set(xlabel="optimizer steps", ylabel=label)
        axes.grid(alpha=0.3)
    figure.savefig(folder / "curves.png", dpi=120)


def _commit() -> str | None:
    """The commit this code runs from, with "+changes" where the tree differs; None outside a git checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + ("+changes" if changed.stdout else "")
