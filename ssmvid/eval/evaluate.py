"""One evaluation: a table for the eye, a row of JSON for the record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssmvid.engine.checkpoint import CheckpointError
from ssmvid.engine.devices import make_accelerator, make_ranks
from ssmvid.engine.summary import environment
from ssmvid.engine.validate import validate
from ssmvid.eval.restore import Trained, build_data


def evaluate(
    trained: Trained,
    data: Mapping[str, Any],
    *,
    batch_size: int,
    workers: int,
    device: str,
    precision: str,
    out: Path,
) -> dict[str, Any]:
    """Score a trained model, print the table and add a row to `out` (rank 0).

    Args:
        trained: from `restore`.
        data: the config of a data set of `ssmvid.data`.
        batch_size: clips a rank and step.
        workers: loader processes a rank.
        device: "auto" or "cpu".
        precision: "fp32", "bf16" or "fp16".
        out: a JSON Lines file.

    Returns: the row.

    Raises:
        ValueError: the data set is none of `ssmvid.data`.
        CheckpointError: its classes are not those the model was trained on; says where they part.
    """
    dataset = build_data(data)
    check_classes(trained.class_names, dataset.class_names)
    accelerator = make_accelerator(device=device, precision=precision, sharding="ddp")
    task = trained.task.to(accelerator.device)
    numbers = validate(accelerator, make_ranks(accelerator, 1), task, dataset, batch_size=batch_size, workers=workers)
    row = {**origin(trained), **numbers, **environment()}
    if accelerator.is_main_process:
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(table(row))
    return row


def origin(trained: Trained) -> dict[str, Any]:
    """Whose numbers a row holds."""
    row = {"checkpoint": str(trained.folder), "step": trained.step, "weights": trained.weights}
    return row | {"model": trained.config["model"]["name"]}


def check_classes(trained: tuple[str, ...], given: tuple[str, ...]) -> None:
    """Refuse a data set whose labels mean something else.

    Raises:
        CheckpointError: names or their order differ; shows the first difference.
    """
    if tuple(trained) == tuple(given):
        return
    if len(trained) != len(given):
        why = f"{len(given)} classes, the model was trained on {len(trained)}"
    else:
        i = next(i for i, (old, new) in enumerate(zip(trained, given)) if old != new)
        why = f"class {i} is {given[i]!r}, the model was trained with {trained[i]!r} there"
    raise CheckpointError(
        f"the data set does not fit this checkpoint: {why}. Use data with the same classes, in order."
    )


def table(row: Mapping[str, Any]) -> str:
    """The row as a Markdown table of one line."""
    cells = {"model": row["model"], "step": row["step"], "weights": row["weights"]}
    cells |= {name: f"{100 * row[name]:.2f} %" if row[name] is not None else "-" for name in ("top1", "top5")}
    cells |= {"loss": f"{row['loss']:.4f}" if row["loss"] is not None else "-"}
    cells |= {name: row[name] for name in ("n_ok", "n_failed")}
    lines = [cells, dict.fromkeys(cells, "---"), {name: str(value) for name, value in cells.items()}]
    lines[0] = {name: name for name in cells}
    return "\n".join("| " + " | ".join(line.values()) + " |" for line in lines)
