"""Which checkpoint a run continues from, and whether it is the same run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ssmvid.engine import checkpoint
from ssmvid.engine.checkpoint import Checkpoint, CheckpointError

_log = logging.getLogger(__name__)

# What may change between the parts of one run without changing its weights.
HARMLESS = (
    "run", "resume", "metric", "log",
    "trainer.context", "trainer.workers", "trainer.log_every", "trainer.checkpoint_every", "trainer.keep_last",
)  # fmt: skip


class ResumeError(ValueError):
    """The run cannot be continued as asked; the message says why and what to do."""


def find(resume: str, root: Path) -> Checkpoint | None:
    """The checkpoint to continue from, or None to start anew.

    Args:
        resume: "auto" (the newest complete checkpoint of this run, if there is one), "none", or a checkpoint's folder.
        root: the folder of this run's checkpoints.

    Raises:
        ResumeError: "none" where the run already has checkpoints, or "auto" where each one is damaged.
        CheckpointError: the folder asked for is no complete checkpoint; the message names the file.
    """
    if resume == "auto":
        return _newest(root)
    if resume == "none":
        if checkpoint.complete(root):
            raise ResumeError(
                f"{root} already holds checkpoints and resume=none would overwrite them. "
                "Use resume=auto to continue, or run=ANOTHER_NAME to start anew."
            )
        return None
    return checkpoint.read(Path(resume))


def _newest(root: Path) -> Checkpoint | None:
    refused = []
    for folder in reversed(checkpoint.complete(root)):
        try:
            found = checkpoint.read(folder)
        except CheckpointError as error:
            # No kill can damage a checkpoint, so something else did: say it loudly, keep it, take the one before.
            _log.error("REFUSED %s: %s", folder.name, error)
            refused.append(f"{folder.name}: {error}")
            continue
        for name in (line.partition(":")[0] for line in refused):
            _log.error("continuing from %s; %s is kept as %s", folder, name, checkpoint.set_aside(root / name))
        return found
    if refused:
        raise ResumeError(
            "resume=auto found no sound checkpoint:\n"
            + "".join(f"  - {line}\n" for line in refused)
            + "Restore one from a copy, or start anew with run=ANOTHER_NAME."
        )
    return None


def check_config(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to continue a run under another config.

    Raises:
        ResumeError: keys other than harmless ones (`HARMLESS`) differ; the message lists each with both values.
    """
    old, new = dict(_flatten(saved)), dict(_flatten(now))
    lines = []
    for key in sorted(old.keys() | new.keys()):
        if any(key == name or key.startswith(f"{name}.") for name in HARMLESS):
            continue
        before, after = old.get(key, "(absent)"), new.get(key, "(absent)")
        if before != after:
            lines.append(f"  {key}: {before!r} in the checkpoint, {after!r} now\n")
    if lines:
        raise ResumeError(
            "this run was started with another config and cannot be continued:\n"
            + "".join(lines)
            + "Give the same values, or start another run with run=ANOTHER_NAME."
        )


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
