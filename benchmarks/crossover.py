"""From how many frames on a model is faster than joint attention over the same tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

PEER = "joint attention"
FEWEST = 3  # lengths that say where two lines cross

Row = dict[str, Any]


def crossovers(rows: list[Row]) -> Iterator[str]:
    """A line a model and backend measured at enough lengths; between two of them times are taken for powers of frames.

    Args:
        rows: of `bench_model.py`, of one device, dtype and number of threads.
    """
    for model, backend in dict.fromkeys((row["model"], row["backend"]) for row in rows):
        ours, theirs = ({row["frames"]: row["ms"] for row in rows if _is(row, model, name)} for name in (backend, PEER))
        frames = sorted(ours.keys() & theirs.keys())
        if backend == PEER or len(frames) < FEWEST:
            continue
        ratio = [theirs[t] / ours[t] for t in frames]
        rates = ", ".join(f"{t} frames {r:.2f}" for t, r in zip(frames, ratio))
        yield f"{model} on {backend} {_crossing(frames, ratio)}; its speed over {PEER}'s: {rates}"


def _is(row: Row, model: str, backend: str) -> bool:
    return bool(row["model"] == model and row["backend"] == backend)


def _crossing(frames: list[int], ratio: list[float]) -> str:
    """Where the ratio passes 1 for the last time."""
    slower = [i for i, r in enumerate(ratio) if r < 1]
    if not slower:
        return f"is faster from {frames[0]} frames on, the fewest measured"
    last = slower[-1]
    if last == len(frames) - 1:
        return f"is not faster at up to {frames[-1]} frames"
    pair = slice(last, last + 2)
    crossing = np.exp(np.interp(0, np.log(ratio[pair]), np.log(frames[pair])))
    return f"is faster from about {crossing:.0f} frames on"
