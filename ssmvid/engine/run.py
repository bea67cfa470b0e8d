"""A run in progress: restore, step, log, validate, checkpoint, stop."""

from __future__ import annotations

import itertools
import json
import logging
import math
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from accelerate.utils import broadcast_object_list, gather_object
from timm.utils import ModelEmaV3
from tqdm import tqdm

from ssmvid.data import Batch, ClipDataset, make_loader, steps_per_epoch
from ssmvid.engine import checkpoint, resume
from ssmvid.engine.devices import make_accelerator, make_ranks, seed_everything
from ssmvid.engine.log import FileLog, Tracker, read_rows
from ssmvid.engine.optim import Optim, Schedule
from ssmvid.engine.peak import PeakMemory
from ssmvid.engine.score import Score
from ssmvid.engine.signals import StopFlag
from ssmvid.engine.state import Progress, State
from ssmvid.engine.step import NonFiniteLoss, Outcome, take_step
from ssmvid.engine.summary import draw_curves, environment, speed_and_memory, write_summary
from ssmvid.engine.validate import validate

if TYPE_CHECKING:
    from ssmvid.engine.trainer import Trainer

_log = logging.getLogger(__name__)


class Run:
    """The live pieces of one training run; see `Trainer.fit` for the arguments."""

    def __init__(
        self,
        trainer: Trainer,
        task: Any,
        train_set: ClipDataset,
        val_set: ClipDataset,
        optim: Optim,
        schedule: Schedule,
        folder: Path,
        config: Mapping[str, Any],
        trackers: Sequence[Tracker],
    ) -> None:
        self.trainer, self.train_set, self.val_set = trainer, train_set, val_set
        self.config = json.loads(json.dumps(config))  # as a checkpoint will hold it
        self.accelerator = make_accelerator(
            device=trainer.device, precision=trainer.precision, sharding=trainer.sharding
        )
        self.ranks = make_ranks(self.accelerator, trainer.context)
        self.writes = self.accelerator.is_main_process
        self.folder: Path = broadcast_object_list([folder])[0]
        self.checkpoints = self.folder / "checkpoints"
        self.files, self.trackers = FileLog(self.folder), list(trackers) if self.writes else []

        self.params = sum(parameter.numel() for parameter in task.parameters())
        task = task.to(self.accelerator.device)
        ema = ModelEmaV3(task, decay=trainer.ema_decay) if trainer.ema_decay is not None else None
        wrapped, optimizer = self.accelerator.prepare(task, optim.build(task.model))
        self.state = State(wrapped, optimizer.optimizer, ema, self.accelerator.scaler, Progress())
        self.optimizer = optimizer
        self.score = Score().to(self.accelerator.device)

        rows = self.ranks.rows
        if trainer.batch_size % rows:
            apart = "ranks" if self.ranks.group is None else f"rows of {trainer.context} ranks"
            raise ValueError(f"trainer.batch_size={trainer.batch_size} must be a multiple of the {rows} {apart}")
        self.batch_size = trainer.batch_size // rows
        batches = steps_per_epoch(len(train_set), batch_size=self.batch_size, world_size=rows, drop_last=True)
        if not batches:
            raise ValueError(
                f"{len(train_set)} training clips do not fill one batch: lower trainer.batch_size={trainer.batch_size}"
            )
        self.steps_per_epoch = math.ceil(batches / trainer.accumulate)
        self.steps = self.steps_per_epoch * trainer.epochs
        self.schedule = schedule.build(optimizer.optimizer, self.steps)
        self._clock, self._clips, self._tokens = time.monotonic(), 0, 0
        self._peak = PeakMemory(self.accelerator.device)

    @property
    def progress(self) -> Progress:
        return self.state.progress

    @property
    def epoch(self) -> int:
        """Passes over the training set that are complete."""
        return self.progress.step // self.steps_per_epoch

    @property
    def finished(self) -> bool:
        return self.progress.step == self.steps and self.progress.validated == self.steps

    def restore(self, how: str) -> None:
        """Take up the checkpoint that `resume=how` names, and cut the logs back to it."""
        found: list[Path | None] = [None]
        if self.writes:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            checkpoint.sweep(self.checkpoints)
            saved = resume.find(how, self.checkpoints)
            found = [saved.folder if saved is not None else None]
        folder = broadcast_object_list(found)[0]
        if folder is not None:
            saved = checkpoint.read(folder)
            resume.check_config(saved.documents["config"], self.config)
            self.state.load(saved)
            if self.writes:  # the sums are those of all ranks: one of them takes them over
                self.score.update(self.progress.sums)
            _log.info("resumed from %s: step %d of %d", folder, self.progress.step, self.steps)
        if self.writes:
            self.files.open(self.progress.step, self.progress.validated)

    def train(self) -> dict[str, Any]:
        """Step until the end or a signal; the numbers of the summary."""
        for tracker in self.trackers:
            tracker.open(self.folder, self.config, self.progress.step)
        try:
            with StopFlag() as flag, self._bar() as bar:
                if self.progress.validated < self.progress.step and not self._within_epoch:
                    self._validate()  # the run was stopped between an epoch and its validation
                    self._save()
                for batches in self._micro_batches():
                    outcome = self._step(batches, flag)
                    self._after_step(outcome, bar)
                    if outcome.stop:
                        self._save()
                        raise SystemExit(128 + (flag.signal or signal.SIGTERM))
                    if not self._within_epoch:
                        self._validate()
                    if not self._within_epoch or self.progress.step % self.trainer.checkpoint_every == 0:
                        self._save()
            return self._summarise()
        finally:
            if self.writes:
                draw_curves(self.folder, read_rows(self.files.jsonl))
            for tracker in self.trackers:
                tracker.close()

    @property
    def _within_epoch(self) -> int:
        """Steps taken of the epoch under way."""
        return self.progress.step % self.steps_per_epoch

    def _micro_batches(self) -> Iterator[list[Batch]]:
        """The micro-batches of each step that is left, the first of them where the last checkpoint stopped."""
        while self.progress.step < self.steps:
            step, done = self.progress.step, self._within_epoch
            frames, change = self.trainer.frames_at(step)
            loader = iter(
                make_loader(
                    self.train_set if frames is None else self.train_set.at_length(frames),
                    batch_size=self.batch_size,
                    epoch=self.epoch,
                    start_step=done * self.trainer.accumulate,
                    rank=self.ranks.row,
                    world_size=self.ranks.rows,
                    shuffle=True,
                    seed=self.trainer.seed,
                    workers=self.trainer.workers,
                )
            )
            for _ in range(int(min(self.steps_per_epoch - done, change - step))):
                yield list(itertools.islice(loader, self.trainer.accumulate))

    def _step(self, batches: Sequence[Batch], flag: StopFlag) -> Outcome:
        for batch in batches:
            for error in batch.failed:
                _log.warning("failed video: %s", error)
        seed_everything(self.trainer.seed, self.progress.step, self.ranks.row)  # one draw for all that share a clip
        self.schedule.step_update(self.progress.step)
        outcome = take_step(
            self.accelerator,
            self.ranks,
            self.state,
            self.optimizer,
            batches,
            self.score,
            clip_grad=self.trainer.clip_grad,
            stop=flag.signal is not None,
        )
        if not outcome.finite:
            self._refuse(batches)
        self.progress.step += 1
        self.progress.n_failed += outcome.n_failed
        self._clips += outcome.n_ok
        self._tokens += outcome.tokens
        return outcome

    def _refuse(self, batches: Sequence[Batch]) -> NoReturn:
        """Write down the step and its samples, and raise."""
        ids = gather_object([list(batch.ids) for batch in batches])
        path = self.folder / f"nonfinite_step_{self.progress.step:08d}.json"
        if self.writes:
            path.write_text(json.dumps({"step": self.progress.step, "samples": ids}, indent=1) + "\n")
        raise NonFiniteLoss(
            f"loss or gradient is NaN or infinite at step {self.progress.step}, before the optimizer took it. "
            f"The samples are in {path}; the last checkpoint is sound. Try a lower optim.lr, a trainer.clip_grad, "
            "trainer.precision=fp32, or look at the samples."
        )

    def _after_step(self, outcome: Outcome, bar: tqdm) -> None:
        bar.update()
        if self._within_epoch and self.progress.step % self.trainer.log_every:
            return
        numbers, extra = self.score.compute(), {}
        self.score.reset()
        extra["lr"] = max(group["lr"] for group in self.state.optimizer.param_groups)
        extra["grad_norm"] = outcome.grad_norm
        seconds, extra["peak_mib"] = self._tick(), self._peak.mib()
        extra["clips_per_s"], self._clips = self._clips / seconds, 0
        if self._tokens:
            extra["tokens_per_s"], self._tokens = self._tokens / seconds, 0
        if outcome.memory is not None:
            extra["memory"] = outcome.memory
        self._write("train", numbers | extra)
        bar.set_postfix({"loss": numbers["loss"], "top1": numbers["top1"], "clips/s": round(extra["clips_per_s"], 1)})

    def _validate(self) -> None:
        ema = self.state.ema
        numbers = validate(
            self.accelerator,
            self.ranks,
            ema.module if ema is not None else self.accelerator.unwrap_model(self.state.task),
            self.val_set,
            batch_size=self.batch_size,
            workers=self.trainer.workers,
        )
        progress = self.progress
        progress.validated, progress.last = progress.step, numbers
        if numbers["top1"] is not None and (progress.best_top1 is None or numbers["top1"] > progress.best_top1):
            progress.best_top1, progress.best_step = numbers["top1"], progress.step
        self._tick()
        self._write("val", numbers)
        if self.writes:
            _log.info("epoch %d of %d, validation: %s", self.epoch, self.trainer.epochs, numbers)

    def _tick(self) -> float:
        """Book the time since the last call; seconds."""
        seconds, self._clock = time.monotonic() - self._clock, time.monotonic()
        self.progress.minutes += seconds / 60
        return seconds

    def _write(self, kind: str, numbers: Mapping[str, Any]) -> None:
        if not self.writes:
            return
        progress = self.progress
        place: dict[str, Any] = {"kind": kind, "step": progress.step, "epoch": self.epoch, "minutes": progress.minutes}
        row = place | dict(numbers)
        self.files.write(row)
        for tracker in self.trackers:
            tracker.write(row)

    def _save(self) -> None:
        """Write a checkpoint, read it back, and only then remove older ones. Every rank takes part."""
        self._tick()
        self.progress.sums = self.score.sums()
        tensors, document = self.state.tensors(), self.state.document()
        if self.writes:
            self.files.sync()
            documents = {
                "state": document,
                "config": self.config,
                "class_names": list(self.train_set.class_names),
            }
            checkpoint.verify(checkpoint.write(self.checkpoints, self.progress.step, tensors, documents))
            checkpoint.prune(self.checkpoints, self.trainer.keep_last, self.progress.best_step)
        self.accelerator.wait_for_everyone()

    def _summarise(self) -> dict[str, Any]:
        progress, validation = self.progress, self.progress.last
        summary = {f"val/{name}": validation[name] for name in ("top1", "top5", "loss")}
        summary |= {
            "n_ok": validation["n_ok"],
            "n_failed": validation["n_failed"],
            "best/top1": progress.best_top1,
            "best/step": progress.best_step,
            "train/n_failed": progress.n_failed,
            "minutes": progress.minutes,
            **speed_and_memory(read_rows(self.files.jsonl)),
            "steps": progress.step,
            "epochs": self.trainer.epochs,
            "params": self.params,
            "seed": self.trainer.seed,
            "ranks": self.accelerator.num_processes,
            **environment(),
        }
        if self.writes:
            write_summary(self.folder, summary)
        return summary

    def _bar(self) -> tqdm:
        return tqdm(
            total=self.steps,
            initial=self.progress.step,
            unit="step",
            disable=not self.writes,
            # A log file is no terminal: a line now and then is enough.
            mininterval=0.5 if sys.stderr.isatty() else 30,
        )
