"""Needles in a haystack: long clips in which a few frames hold a digit, and a question about them.

A needle is one frame: a handwritten digit inside a border of one of four pure colours. The question is two words, the
second a colour: which digit, which digit first, how many; the answer is one digit. What surrounds the needles is drawn
or cut from a video file; nothing is downloaded. Where the needle lies, its depth, and how long the clip is are free:
a model trained on short clips can be asked about long ones, depth by depth.

Source: Zhang et al. 2024 (LongVA: V-NIAH), arXiv:2406.16852, section 4; several needles, order and counting: Zhao et
    al. 2024 (VNBench), arXiv:2406.09367. The digits: see `ssmvid.data.moving_digits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ssmvid.data.clip import Clip, Key, keyed_generator
from ssmvid.data.haystack import Haystack, MovingShapes, VideoHaystack
from ssmvid.data.moving_digits import SPLITS, digits_of
from ssmvid.data.source import PathArg

ANSWERS = tuple("0123456789")
COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0), "yellow": (1.0, 1.0, 0.0)}
VOCABULARY = (*ANSWERS, "which", "first", "count", *COLOURS)  # a word's token id is its place
MEAN, STD = 0.0, 0.3  # of every pixel; constants, so that nothing depends on a clip's own statistics
_DIGIT = 8  # pixels of the stored images


@dataclass(frozen=True)
class Variant:
    """What lies in a clip, and what is asked.

    Attributes:
        asks: The question's first word: "which" digit the frame of the asked colour holds, which the "first" one, or
            the "count" of such frames. No other frame than that holds the answer; of "count" all digits are random.
        needles: Frames of the asked colour; with "count" the most there can be, and at least 1.
        others: Frames of the other colours, one each.
        plain: Frames of a digit without a border.
    """

    asks: str
    needles: int = 1
    others: int = 0
    plain: int = 0

    @property
    def frames(self) -> int:
        """The most frames that hold a digit."""
        return self.needles + self.others + self.plain


VARIANTS: Mapping[str, Variant] = {
    "single": Variant("which"),
    "several": Variant("which", others=3),
    "distractors": Variant("which", plain=8),
    "order": Variant("first", needles=2),
    "counting": Variant("count", needles=5, others=2),
}


class Needles:
    """Clips with needles, a question of two token ids, and the answer as label.

    Args:
        variant: One of `VARIANTS`.
        split: 'train' or 'val'; they share no digit image. A train clip changes with the epoch, a val clip never does.
        frames: T.
        size: H = W, pixels, >= 12.
        num_clips: Clips an epoch; answers are balanced to within one.
        seed: Of every random choice.
        depth: Where the needle that is asked about lies, or the first of several, 0 (first frame) to 1 (as late as can
            be); None: anywhere.
        video: A file whose frames are the haystack; None: drawn shapes.
        fps: Frames of the haystack a second of that file.

    Raises:
        ValueError: a number or a name is out of its range.
        VideoError: the file is no usable video.
    """

    question_length = 2
    class_names = ANSWERS
    num_classes = len(ANSWERS)

    def __init__(
        self,
        *,
        variant: str,
        split: str,
        frames: int,
        size: int = 32,
        num_clips: int = 4096,
        seed: int = 0,
        depth: float | None = None,
        video: PathArg | None = None,
        fps: float = 1.0,
    ) -> None:
        if variant not in VARIANTS or split not in SPLITS:
            raise ValueError(
                f"Needles: variant must be one of {tuple(VARIANTS)} and split one of {SPLITS}, "
                f"got {variant!r}, {split!r}"
            )
        self.variant = VARIANTS[variant]
        if frames < self.variant.frames:
            raise ValueError(f"Needles: {variant!r} needs frames >= {self.variant.frames}, got {frames}")
        if size < _DIGIT + 4 or num_clips < 1 or not 0 <= (depth or 0) <= 1:
            raise ValueError(
                f"Needles: size >= {_DIGIT + 4}, num_clips >= 1 and 0 <= depth <= 1 are needed, "
                f"got {size=}, {num_clips=}, {depth=}"
            )
        self.split, self.frames, self.size, self.num_clips = split, frames, size, num_clips
        self.seed, self.depth = seed, depth
        self.clip_shape = (3, frames, size, size)
        self.haystack: Haystack = MovingShapes(size=size) if video is None else VideoHaystack(video, fps=fps, size=size)

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, key: Key) -> Clip:
        """The clip of (epoch, index), the same in every process."""
        epoch, index = key
        if not 0 <= index < self.num_clips:
            raise IndexError(f"Needles: index must be in 0..{self.num_clips - 1}, got {index}")
        epoch = epoch if self.split == "train" else 0
        rng = keyed_generator(self.seed, SPLITS.index(self.split), epoch, index)
        counts = self.variant.asks == "count"
        answer = 1 + index % self.variant.needles if counts else index % self.num_classes
        needles = answer if counts else self.variant.needles
        wrong = [digit for digit in range(self.num_classes) if digit != answer]
        total = needles + self.variant.others + self.variant.plain
        digits = rng.integers(10, size=total) if counts else np.array([answer, *rng.choice(wrong, total - 1)])
        colours = [str(colour) for colour in rng.permutation(list(COLOURS))]
        borders = [colours[0]] * needles + colours[1 : 1 + self.variant.others] + [None] * self.variant.plain

        clip = self.haystack(rng, self.frames)
        for place, digit, border in zip(self.places(rng, needles, total), digits, borders):
            clip[:, place] = self.needle(rng, digit, border)
        question = (VOCABULARY.index(self.variant.asks), VOCABULARY.index(colours[0]))
        return Clip(torch.from_numpy((clip - MEAN) / STD), answer, f"{self.split}/{epoch}/{index}", question)

    def places(self, rng: np.random.Generator, needles: int, total: int) -> NDArray[np.int64]:
        """The frames of `total` digits, (total,): the asked needles first, rising, the rest in any order."""
        first = None if self.depth is None else int(self.depth * (self.frames - needles))
        after = 0 if first is None else first + 1
        drawn = np.sort(after + rng.permutation(self.frames - after)[: needles - (first is not None)])
        asked = drawn if first is None else np.concatenate([[first], drawn])
        rest = rng.permutation(np.setdiff1d(np.arange(self.frames), asked))[: total - needles]
        return np.concatenate([asked, rest])

    def needle(self, rng: np.random.Generator, digit: np.int64, border: str | None) -> NDArray[np.float32]:
        """A frame (c, H, W) that shows an image of `digit`, its border black where it has no colour."""
        images, shown = digits_of(self.split)
        image = images[rng.choice(np.flatnonzero(shown == digit))]
        scale = (self.size - 4) // _DIGIT  # frame pixels a digit pixel: at least 2 are left for the border
        margin = (self.size - scale * _DIGIT) // 2
        frame = np.zeros((3, self.size, self.size), np.float32)
        frame += np.asarray(COLOURS[border] if border else (0.0, 0.0, 0.0), np.float32)[:, None, None]
        inside = slice(margin, margin + scale * _DIGIT)
        frame[:, inside, inside] = image.repeat(scale, 0).repeat(scale, 1)
        return frame
