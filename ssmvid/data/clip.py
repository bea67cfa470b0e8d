"""What a data set yields, and how clips become a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ssmvid.data.errors import VideoError

Key = tuple[int, int]  # (epoch, index): what a data set is asked for


@dataclass(frozen=True)
class Clip:
    """One sample.

    Attributes:
        frames: float32 (c, T, H, W), normalised.
        label: Index into the data set's `class_names`.
        id: Names the sample: a path relative to the root, or what it was made from.
        question: Token ids of what is asked about the frames; empty where the label needs none.
    """

    frames: Tensor
    label: int
    id: str
    question: tuple[int, ...] = ()


@dataclass(frozen=True)
class Batch:
    """The samples of one step on one rank; it can hold no clip at all.

    Attributes:
        frames: float32 (b, c, T, H, W).
        labels: int64 (b,).
        ids: b names.
        failed: The videos that could not be used: counted and reported, never replaced.
        questions: int64 (b, q), q = 0 where none are asked.
    """

    frames: Tensor
    labels: Tensor
    ids: list[str]
    failed: list[VideoError]
    questions: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The batch with its tensors on `device`."""
        return replace(
            self,
            frames=self.frames.to(device, non_blocking=non_blocking),
            labels=self.labels.to(device, non_blocking=non_blocking),
            questions=self.questions.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory; the loader calls it where it is asked to pin."""
        tensors = {name: getattr(self, name).pin_memory() for name in ("frames", "labels", "questions")}
        return replace(self, **tensors)


def collate(samples: Sequence[Clip | VideoError], shape: Sequence[int], question_length: int = 0) -> Batch:
    """Stack clips, and keep the errors beside them.

    Args:
        samples: What the data set gave, in order.
        shape: (c, T, H, W) of every clip, so that an empty batch has its axes too.
        question_length: q of every clip.

    Raises:
        ValueError: a clip has another shape, or a question of another length; the message names it.
    """
    clips = [sample for sample in samples if isinstance(sample, Clip)]
    failed = [sample for sample in samples if isinstance(sample, VideoError)]
    for clip in clips:
        if tuple(clip.frames.shape) != tuple(shape):
            raise ValueError(
                f"collate: frames must be (c, T, H, W) = {tuple(shape)}, got {tuple(clip.frames.shape)}: {clip.id}"
            )
        if len(clip.question) != question_length:
            raise ValueError(
                f"collate: a question must have {question_length} token ids, got {len(clip.question)}: {clip.id}"
            )
    frames = torch.stack([clip.frames for clip in clips]) if clips else torch.empty(0, *shape)
    labels = torch.tensor([clip.label for clip in clips], dtype=torch.int64)
    questions = torch.tensor([clip.question for clip in clips], dtype=torch.int64).view(len(clips), question_length)
    return Batch(frames, labels, [clip.id for clip in clips], failed, questions)


def keyed_generator(*key: int) -> np.random.Generator:
    """Random numbers that depend on `key` alone: not on workers, ranks or what was drawn before."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
