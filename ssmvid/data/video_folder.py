"""Real video files in class folders or lists, as clips."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch

from ssmvid.data.clip import Clip, Key, keyed_generator
from ssmvid.data.errors import VideoError
from ssmvid.data.index import SPLITS, read_index
from ssmvid.data.reading import sampled_frames
from ssmvid.data.sampling import expect_one_rate
from ssmvid.data.source import MAX_PIXELS, PathArg
from ssmvid.data.transform import IMAGENET_MEAN, IMAGENET_STD, eval_transform, train_transform

_SHOWN = 20  # findings in one error message


class VideoFolder:
    """Clips from the videos under a folder (`read_index` says which layouts).

    Training takes a random place in time, a random crop and, where asked for, a mirror image; validation the middle in
    time and space, always the same. A video that cannot be used is answered by its VideoError, never by another video.

    Args:
        root: The folder.
        split: 'train' or 'val'.
        frames: T.
        fps, stride, uniform: As in `read_clip`; exactly one of them.
        size: H = W, pixels.
        mean, std: Of each colour, in 0..1, as the model's weights were trained.
        min_crop: Smallest share of the picture a training crop covers, 0 < min_crop <= 1; 1 still varies the aspect.
        flip: Probability of a mirror image in training. 0 by default: left and right are part of many labels.
        seed: Of every random choice.
        val_share, num_classes, allow_outside_root: As in `read_index`.
        decoder, max_pixels: As in `read_frames`.

    Raises:
        ValueError: a setting is out of its range, the split is empty, or lines or folders are broken (each is named).
        FileNotFoundError: root is no folder.
    """

    question_length = 0

    def __init__(
        self,
        root: PathArg,
        *,
        split: str,
        frames: int = 8,
        fps: float | None = None,
        stride: int | None = None,
        uniform: bool = False,
        size: int = 224,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        min_crop: float = 0.5,
        flip: float = 0.0,
        seed: int = 0,
        val_share: float = 0.2,
        num_classes: int | None = None,
        allow_outside_root: bool = False,
        decoder: str = "pyav",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        expect_one_rate("VideoFolder", fps, stride, uniform)
        if frames < 1:
            raise ValueError(f"VideoFolder: frames >= 1 are needed, got {frames=}")
        # Both are made, so that what is out of range is refused whatever the split.
        random_cut = train_transform(size=size, mean=mean, std=std, min_crop=min_crop, flip=flip)
        centre_cut = eval_transform(size=size, mean=mean, std=std)
        self.transform = random_cut if split == "train" else centre_cut
        index = read_index(
            root, split, val_share=val_share, num_classes=num_classes, allow_outside_root=allow_outside_root
        )
        if index.findings:
            shown = "\n".join(map(str, index.findings[:_SHOWN]))
            raise ValueError(f"VideoFolder: {len(index.findings)} broken entries under {index.root}:\n{shown}")
        if not index.entries:
            raise ValueError(f"VideoFolder: no video of split {split!r} under {index.root}")
        self.root, self.entries, self.class_names = index.root, index.entries, index.class_names
        self.num_classes = len(self.class_names)
        self.split, self.frames, self.fps, self.stride, self.seed = split, frames, fps, stride, seed
        self.uniform, self.decoder, self.max_pixels = uniform, decoder, max_pixels
        self.clip_shape = (3, frames, size, size)

    def __len__(self) -> int:
        return len(self.entries)

    def at_length(self, frames: int) -> VideoFolder:
        """The same videos as clips of another T, at the same rate."""
        other = copy(self)
        other.frames, other.clip_shape = frames, (3, frames, *self.clip_shape[2:])
        return other

    def __getitem__(self, key: Key) -> Clip | VideoError:
        """The clip of (epoch, index), the same in every process; a VideoError is returned, not raised."""
        epoch, index = key
        name, label = self.entries[index]
        rng = keyed_generator(self.seed, SPLITS.index(self.split), epoch, index)
        place = rng.random() if self.split == "train" else 0.5
        try:
            frames = sampled_frames(
                self.root / name,
                frames=self.frames,
                fps=self.fps,
                stride=self.stride,
                uniform=self.uniform,
                place=place,
                decoder=self.decoder,
                max_pixels=self.max_pixels,
            )
        except VideoError as error:
            return error
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
            torch.manual_seed(int(rng.integers(2**62)))
            return Clip(self.transform(frames), label, name)
