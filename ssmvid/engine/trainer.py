"""The settings of a training run, and the order in which its pieces are put together."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import nn

from ssmvid.data import ClipDataset
from ssmvid.engine.devices import deterministic_algorithms
from ssmvid.engine.log import Tracker
from ssmvid.engine.optim import Optim, Schedule
from ssmvid.engine.run import Run
from ssmvid.engine.summary import read_summary

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Trains a task on a data set: any number of ranks, any interruption, the same numbers.

    Args:
        epochs: passes over the training set.
        batch_size: clips a micro-batch, over all ranks together: more ranks make it faster, not other.
        accumulate: micro-batches an optimizer step; the step equals that of one batch as large as all of them.
        lengths: pairs (step, frames): from each step on training clips have so many frames; None: what the data say.
        precision: "fp32", "bf16" or "fp16" (autocast; parameters stay fp32).
        clip_grad: largest norm of the gradient; None for no limit.
        ema_decay: decay of the moving average of the weights, which is then what is validated; None for none.
        device: "auto" (a GPU where there is one) or "cpu".
        sharding: "ddp" or "fsdp2", where torchrun started several ranks.
        context: ranks that share each clip out, a stretch of frames each; the others take other clips.
        workers: loader processes a rank.
        log_every: steps between two rows of the log.
        checkpoint_every: steps between two checkpoints; one more follows each validation (each epoch).
        keep_last: checkpoints kept, beside the best one.
        seed: of the order of the clips, of their augmentation and of every step.
        deterministic: refuse operations whose bits differ from run to run.
    """

    epochs: int
    batch_size: int
    accumulate: int
    lengths: Sequence[Sequence[int]] | None
    precision: str
    clip_grad: float | None
    ema_decay: float | None
    device: str
    sharding: str
    context: int
    workers: int
    log_every: int
    checkpoint_every: int
    keep_last: int
    seed: int
    deterministic: bool

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "context", "log_every", "checkpoint_every", "keep_last"):
            if getattr(self, name) < 1:
                raise ValueError(f"trainer.{name} must be at least 1, got {getattr(self, name)}")
        steps = [0] if self.lengths is None else [step for step, _ in self.lengths]
        if steps[:1] != [0] or any(later <= step for step, later in pairwise(steps)):
            raise ValueError(f"trainer.lengths must begin at step 0 and go on to later ones, got steps {steps}")
        if self.ema_decay is not None and self.sharding == "fsdp2":
            raise ValueError(
                "trainer.ema_decay needs whole weights and trainer.sharding=fsdp2 shares them out: use one of the two"
            )

    def frames_at(self, step: int) -> tuple[int | None, float]:
        """Frames of the training clips at a step, None for the data's own, and the step of the next change."""
        frames = None
        for first, length in self.lengths or ():
            if first > step:
                return frames, first
            frames = length
        return frames, math.inf

    def fit(
        self,
        task: nn.Module,
        train_set: ClipDataset,
        val_set: ClipDataset,
        *,
        optim: Optim,
        schedule: Schedule,
        folder: Path,
        config: Mapping[str, Any],
        resume: str,
        trackers: Sequence[Tracker] = (),
    ) -> dict[str, Any]:
        """Train to the end, or to a signal, from wherever the run in `folder` stands.

        Args:
            task: `task(frames, labels)`, with questions last where the data set asks any, gives {"loss", "logits"}, and
                where it knows them "tokens", how many its model made of the frames, and "memory", what its backward
                keeps, for the log; its model is `task.model`.
            train_set: a data set of `ssmvid.data`.
            val_set: the same, for validation.
            optim: the optimizer's settings.
            schedule: those of its learning rate.
            folder: the run's folder; rank 0 writes metrics, checkpoints, curves and summary there.
            config: what the run was made from: plain data, kept in each checkpoint and compared on resume.
            resume: "auto" (continue the newest checkpoint in `folder`, if any), "none", or a checkpoint's folder.
            trackers: places beside the files that take the numbers.

        Returns: the numbers of summary.json.

        Raises:
            ResumeError: the run cannot be continued as asked; says why.
            CheckpointError: the checkpoint asked for is damaged or does not fit; names the file.
            NonFiniteLoss: loss or gradient became NaN or infinite; names the step and the file with the sample ids.
            SystemExit: 128 + its number, after a signal and a checkpoint.
        """
        with deterministic_algorithms(self.deterministic):
            run = Run(self, task, train_set, val_set, optim, schedule, folder, config, trackers)
            run.restore(resume)
            if run.finished and (summary := read_summary(folder)) is not None:
                _log.info("%s is finished: nothing to do. Use run=ANOTHER_NAME for another run.", folder)
                return summary
            return run.train()
