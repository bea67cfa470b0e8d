"""Where a run's numbers go: always to metrics.jsonl and metrics.csv, and to any tracker chosen by `log=`."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

Row = Mapping[str, Any]
COLUMNS = (
    "kind", "step", "epoch", "loss", "top1", "top5", "n_ok", "n_failed", "lr", "grad_norm", "clips_per_s",
    "tokens_per_s", "peak_mib", "memory", "minutes",
)  # fmt: skip


class Tracker(Protocol):
    """A place beside the files that takes a run's rows. Opened on rank 0 only."""

    def open(self, folder: Path, config: Mapping[str, Any], step: int) -> None:
        """Start, or continue after `step` steps, the record of the run in `folder`."""

    def write(self, row: Row) -> None:
        """Take one row: `kind` is "train" or "val", the other keys are columns."""

    def close(self) -> None:
        """Finish the record."""


class FileLog:
    """metrics.jsonl and metrics.csv in the run's folder, a row a line, the same in both."""

    def __init__(self, folder: Path) -> None:
        self.jsonl, self.csv = folder / "metrics.jsonl", folder / "metrics.csv"

    def open(self, step: int, validated: int) -> None:
        """Begin, or cut both files back to what was known after `step` steps and the validation at `validated`."""
        last = {"train": step, "val": validated}
        rows = [row for row in read_rows(self.jsonl) if row["step"] <= last[row["kind"]]]
        _replace(self.jsonl, "".join(_json_line(row) for row in rows))
        header = ",".join(COLUMNS) + "\n"
        _replace(self.csv, header + "".join(_csv_line(row) for row in rows))

    def write(self, row: Row) -> None:
        for path, line in ((self.jsonl, _json_line(row)), (self.csv, _csv_line(row))):
            with path.open("a") as file:
                file.write(line)

    def sync(self) -> None:
        """Make sure that the rows are on the disk: a checkpoint must not outlive the rows before it."""
        for path in (self.jsonl, self.csv):
            with path.open("rb") as file:
                os.fsync(file.fileno())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a last line cut short by a kill is left out.

    Raises:
        ValueError: another line cannot be read; the message holds file and line.
    """
    lines = path.read_text().splitlines() if path.exists() else []
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ValueError(f"{path}:{number}: not a row of metrics ({error}); mend or remove the line") from None
    return rows


class TensorBoardLog:
    """TensorBoard event files in `tensorboard/` of the run's folder."""

    def open(self, folder: Path, config: Mapping[str, Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)
        self._writer.add_text("config", f"```\n{json.dumps(config, indent=1)}\n```", 0)

    def write(self, row: Row) -> None:
        for name, value in _numbers(row).items():
            self._writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        self._writer.close()


class WandbLog:
    """Weights & Biases; offline, in `wandb/` of the run's folder, where no key is set (`wandb sync` sends it later).

    Args:
        project: the project's name.
        entity: the user or team; None for the key's own.
    """

    def __init__(self, *, project: str, entity: str | None) -> None:
        self.project, self.entity = project, entity

    def open(self, folder: Path, config: Mapping[str, Any], step: int) -> None:
        import wandb

        # Without a key wandb would ask for one, and with no network wait for it.
        mode: Any = os.environ.get("WANDB_MODE") or ("online" if wandb.api.api_key else "offline")
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            name=folder.name,
            id=hashlib.sha256(str(folder).encode()).hexdigest()[:16],  # the same when the run is resumed
            dir=str(folder),
            config=dict(config),
            mode=mode,
            resume="allow",
        )

    def write(self, row: Row) -> None:
        self._run.log(_numbers(row), step=row["step"])

    def close(self) -> None:
        self._run.finish()


def _numbers(row: Row) -> dict[str, float]:
    return {
        f"{row['kind']}/{name}": value
        for name, value in row.items()
        if name != "step" and isinstance(value, int | float)
    }


def _json_line(row: Row) -> str:
    return json.dumps({name: _plain(row[name]) for name in COLUMNS if name in row}) + "\n"


def _csv_line(row: Row) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(_plain(row.get(name)) for name in COLUMNS)
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    # NaN is no JSON.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _replace(path: Path, content: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(content)
    temporary.replace(path)
