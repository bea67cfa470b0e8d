"""Batches as a pure function of (seed, epoch, step, rank, world size): a run goes on from any step, bit for bit."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from functools import partial
from multiprocessing.context import BaseContext
from typing import Protocol

import torch
from torch.utils.data import DataLoader, Sampler

from ssmvid.data.clip import Batch, Clip, Key, collate, keyed_generator
from ssmvid.data.errors import VideoError


class ClipDataset(Protocol):
    """What every data set here is.

    Attributes:
        num_classes: Labels are 0 <= label < num_classes.
        class_names: A name each.
        clip_shape: (c, T, H, W) of every clip.
        question_length: Token ids of every clip's question, 0 for none.
    """

    num_classes: int
    class_names: tuple[str, ...]
    clip_shape: tuple[int, int, int, int]
    question_length: int

    def __len__(self) -> int: ...

    def __getitem__(self, key: Key) -> Clip | VideoError: ...

    def at_length(self, frames: int) -> ClipDataset:
        """The same samples as clips of T = `frames`; labels keep their meaning."""


def steps_per_epoch(samples: int, *, batch_size: int, world_size: int = 1, drop_last: bool) -> int:
    """Batches a rank sees in an epoch, the same on every rank.

    Args:
        samples: len(dataset).
        batch_size: Samples a step and rank.
        world_size: Ranks.
        drop_last: Leave out the last global batch where it is not full (training); else it is spread unevenly.
    """
    size = batch_size * world_size
    return samples // size if drop_last else -(-samples // size)


def _order(samples: int, *, epoch: int, shuffle: bool, seed: int) -> torch.Tensor:
    if not shuffle:
        return torch.arange(samples)
    return torch.from_numpy(keyed_generator(seed, epoch).permutation(samples))


class _Steps(Sampler[list[Key]]):
    """The keys of each remaining step of one epoch on one rank."""

    def __init__(self, order: torch.Tensor, epoch: int, batch_size: int, ranks: tuple[int, int], steps: range) -> None:
        self.order, self.epoch, self.batch_size, self.ranks, self.steps = order, epoch, batch_size, ranks, steps

    def __iter__(self) -> Iterator[list[Key]]:
        rank, world_size = self.ranks
        for step in self.steps:
            start = (step * world_size + rank) * self.batch_size
            yield [(self.epoch, index) for index in self.order[start : start + self.batch_size].tolist()]

    def __len__(self) -> int:
        return len(self.steps)


def make_loader(
    dataset: ClipDataset,
    *,
    batch_size: int,
    epoch: int,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    shuffle: bool,
    seed: int,
    workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader[Batch]:
    """Load the rest of one epoch.

    Args:
        dataset: Answers (epoch, index) by a Clip, or by a VideoError as a value.
        batch_size: Samples a step and rank.
        epoch: Decides the order, and with it each sample's random choices.
        start_step: Steps of this epoch already done.
        rank, world_size: Which slice of every global batch.
        shuffle: True trains: a new order every epoch, and the last global batch left out where it is not full, so that
            all ranks take equally many steps. False evaluates: every sample exactly once over the ranks, the last
            batches smaller or empty.
        seed: Of the order.
        workers: Loading processes. The samples are the same for any number.
        pin_memory: For a GPU.

    Raises:
        ValueError: a number is out of its range, or the data set is too small for one training step.
    """
    if batch_size < 1 or workers < 0 or not 0 <= rank < world_size or epoch < 0:
        raise ValueError(
            "make_loader: batch_size >= 1, workers >= 0, epoch >= 0 and 0 <= rank < world_size are needed, "
            f"got {batch_size=}, {workers=}, {epoch=}, {rank=}, {world_size=}"
        )
    samples = len(dataset)
    steps = steps_per_epoch(samples, batch_size=batch_size, world_size=world_size, drop_last=shuffle)
    if steps == 0:
        raise ValueError(
            f"make_loader: {samples} samples do not fill one step of {batch_size} on {world_size} ranks: "
            "lower batch_size"
        )
    if not 0 <= start_step <= steps:
        raise ValueError(f"make_loader: start_step must be in 0..{steps}, got {start_step}")
    order = _order(samples, epoch=epoch, shuffle=shuffle, seed=seed)
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # a map by (epoch, index), not by a number
        batch_sampler=_Steps(order, epoch, batch_size, (rank, world_size), range(start_step, steps)),  # type: ignore[arg-type]
        collate_fn=partial(collate, shape=dataset.clip_shape, question_length=dataset.question_length),
        num_workers=workers,
        multiprocessing_context=_worker_context() if workers else None,
        timeout=600
        if workers
        else 0,  # seconds a batch; a decoder that hangs ends the run with an error, not in silence
        pin_memory=pin_memory,
    )


def _worker_context() -> BaseContext:
    """Never a fork of this process: OpenMP (numba's scans) and FFmpeg do not survive one once they have run threads.

    The fork server is a clean process that has imported this package and run nothing.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ssmvid.data"])
    return context
