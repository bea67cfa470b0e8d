"""Needles over clip length and depth: where a model trained on short clips stops finding them in long ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssmvid.engine.checkpoint import CheckpointError
from ssmvid.engine.devices import make_accelerator, make_ranks
from ssmvid.engine.summary import environment
from ssmvid.engine.validate import validate
from ssmvid.eval.evaluate import check_classes, origin
from ssmvid.eval.restore import Trained, build_data


def needle_map(
    trained: Trained,
    data: Mapping[str, Any],
    *,
    lengths: Sequence[int],
    depths: Sequence[float],
    clips: int,
    batch_size: int,
    workers: int,
    device: str,
    precision: str,
    out: Path,
) -> dict[str, Any]:
    """Score a trained model at each length and depth, add a row a cell to `out`, draw the map beside it (rank 0).

    Args:
        trained: from `restore`.
        data: config of a `ssmvid.data.Needles`; its `frames` are those of length 1.
        lengths: of the clips, over that of the training clips, >= 1.
        depths: of the needle, 0 (first frame) to 1 (last).
        clips: of each cell.
        batch_size: clips a rank and step.
        workers: loader processes a rank.
        device: "auto" or "cpu".
        precision: "fp32", "bf16" or "fp16".
        out: a JSON Lines file; the map is vniah.png beside it.

    Returns: `top1`, the accuracy over all cells.

    Raises:
        CheckpointError: the data are no needles, or their answers not those the model was trained on.

    Source: Zhang et al. 2024 (LongVA: V-NIAH), arXiv:2406.16852, section 4.
    """
    if data.get("_target_") != "ssmvid.data.Needles":
        raise CheckpointError(
            f"task=vniah asks for needles, this run's data are {data.get('_target_')!r}: train experiment=vniah_tiny"
        )
    accelerator = make_accelerator(device=device, precision=precision, sharding="ddp")
    ranks = make_ranks(accelerator, 1)
    task = trained.task.to(accelerator.device)
    top1 = np.empty((len(depths), len(lengths)))
    frames = [length * data["frames"] for length in lengths]
    for i, depth in enumerate(depths):
        for j, length in enumerate(frames):
            cell = {"frames": length, "depth": depth}
            dataset = build_data({**data, **cell, "num_clips": clips})
            check_classes(trained.class_names, dataset.class_names)
            numbers = validate(accelerator, ranks, task, dataset, batch_size=batch_size, workers=workers)
            top1[i, j] = numbers["top1"]
            row = {"task": "vniah", **origin(trained), "variant": data["variant"], **cell, **numbers, **environment()}
            if accelerator.is_main_process:
                with out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    if accelerator.is_main_process:
        draw_map(top1, frames, depths, out.with_name("vniah.png"))
        print(table(top1, frames, depths))
    return {"top1": float(top1.mean())}


def table(top1: NDArray[np.float64], frames: Sequence[int], depths: Sequence[float]) -> str:
    """The map (depths, lengths) in %, as a Markdown table, with the mean over depths last."""
    lines = [["depth \\ frames", *map(str, frames)], ["---"] * (1 + len(frames))]
    lines += [[f"{depth:g}", *(f"{100 * cell:.0f}" for cell in row)] for depth, row in zip(depths, top1)]
    lines += [["mean", *(f"{100 * mean:.1f}" for mean in top1.mean(0))]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def draw_map(top1: NDArray[np.float64], frames: Sequence[int], depths: Sequence[float], path: Path) -> None:
    """Draw the map: clip lengths to the right, depths downwards."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 + 0.8 * len(frames), 1.2 + 0.45 * len(depths)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(100 * top1, cmap="RdYlGn", vmin=0, vmax=100, aspect="auto")
    axes.set_xticks(range(len(frames)), [str(length) for length in frames])
    axes.set_yticks(range(len(depths)), [f"{100 * depth:.0f} %" for depth in depths])
    axes.set(xlabel=f"frames (trained on {frames[0]})", ylabel="depth of the needle")
    for (i, j), cell in np.ndenumerate(top1):
        axes.text(j, i, f"{100 * cell:.0f}", ha="center", va="center", fontsize=8)
    figure.colorbar(image, label="right answers, %")
    figure.savefig(path, dpi=120)
