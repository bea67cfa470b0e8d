"""Moving digits: an embedded data set whose label is in the order of the frames, and nowhere else.

A handwritten digit visits all T places of a ring, one a frame: at frame i it is at place (start + s * i) mod T. The
label is the odd stride s. T is a power of two, so every odd s visits every place once: for one digit and start the
frames are the same T pictures whatever the label, in another order. One frame is a uniformly random place, a bag of
frames is always the whole ring: neither says anything about the label. A model must compare places over time.

The digits are the Optical Recognition of Handwritten Digits data set (E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository, 1998, doi:10.24432/C50P49, licence CC BY 4.0), in the copy of its 1797 test images of 8 x 8 pixels (0..16)
that scikit-learn ships as `load_digits`; stored here unchanged as uint8 in digits.npz.
Cite: C. Kaynak (1995), Methods of Combining Multiple Classifiers and Their Applications to Handwritten Digit
Recognition, MSc thesis, Bogazici University; E. Alpaydin and C. Kaynak (1998), Cascading Classifiers, Kybernetika 34.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray

from ssmvid.data.clip import Clip, Key, keyed_generator
from ssmvid.data.source import PathArg

SPLITS = ("train", "val")
_MEAN, _STD = 0.08, 0.17  # about those of all pixels; constants, so that nothing depends on a clip's own statistics
_TRAIN_DIGITS = (
    1437  # images 0..1436 train, the other 360 validate; the file is ordered by writer, so writers differ too
)


class MovingDigits:
    """Clips of one handwritten digit jumping around a ring; which stride it jumps by is the label.

    Args:
        split: 'train' or 'val'; they share no digit image. A train clip changes with the epoch, a val clip never does.
        frames: T, a power of two >= 4. There are T / 2 classes.
        size: H = W, pixels, >= 16.
        num_clips: Clips an epoch; labels are balanced to within one.
        seed: Of every random choice.
        shuffle_frames: Put the frames of each clip into random order: the control that no model can solve.

    Raises:
        ValueError: a number or a name is out of its range.
    """

    question_length = 0

    def __init__(
        self,
        *,
        split: str,
        frames: int = 8,
        size: int = 32,
        num_clips: int = 4096,
        seed: int = 0,
        shuffle_frames: bool = False,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"MovingDigits: split must be one of {SPLITS}, got {split!r}")
        if frames < 4 or frames & (frames - 1):
            raise ValueError(f"MovingDigits: frames must be a power of two >= 4, got {frames}")
        if size < 16 or num_clips < 1:
            raise ValueError(f"MovingDigits: size >= 16 and num_clips >= 1 are needed, got {size=}, {num_clips=}")
        self.split, self.frames, self.size, self.num_clips = split, frames, size, num_clips
        self.seed, self.shuffle_frames = seed, shuffle_frames
        self.num_classes = frames // 2
        self.class_names = tuple(f"stride_{2 * label + 1:02d}" for label in range(self.num_classes))
        self.clip_shape = (3, frames, size, size)

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, key: Key) -> Clip:
        """The clip of (epoch, index), the same in every process."""
        epoch, index = key
        if not 0 <= index < self.num_clips:
            raise IndexError(f"MovingDigits: index must be in 0..{self.num_clips - 1}, got {index}")
        epoch = epoch if self.split == "train" else 0
        label = index % self.num_classes
        rng = keyed_generator(self.seed, SPLITS.index(self.split), epoch, index)
        clip = self.ring(rng)[self.path(rng, label)]  # (T, H, W)
        pixels = torch.from_numpy((clip - _MEAN) / _STD).expand(3, -1, -1, -1)
        return Clip(pixels.contiguous(), label, f"{self.split}/{epoch}/{index}")

    def at_length(self, frames: int) -> MovingDigits:
        """The same settings with another T. Its T / 2 classes are the first of those of a longer clip."""
        return MovingDigits(
            split=self.split,
            frames=frames,
            size=self.size,
            num_clips=self.num_clips,
            seed=self.seed,
            shuffle_frames=self.shuffle_frames,
        )

    def path(self, rng: np.random.Generator, label: int) -> NDArray[np.int64]:
        """The places of the ring in the order they are visited, (T,): a permutation, its start uniform."""
        if self.shuffle_frames:
            return rng.permutation(self.frames)
        start = rng.integers(self.frames)
        return (start + (2 * label + 1) * np.arange(self.frames)) % self.frames

    def ring(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """The T pictures of one clip, place by place, float32 (T, H, W) in [0, 1]; no label enters."""
        images, _ = digits_of(self.split)
        digit = images[rng.integers(len(images))]
        unit = self.size / 32
        brightness, radius = rng.uniform(0.7, 1.0), unit * rng.uniform(6.0, 7.5)
        centre_y, centre_x = self.size / 2 + unit * rng.uniform(-0.5, 0.5, 2)
        angle = 2 * np.pi / self.frames * np.arange(self.frames)
        rows = self._stretch(centre_y + radius * np.sin(angle))
        columns = self._stretch(centre_x + radius * np.cos(angle))
        pictures = brightness * (rows @ digit @ columns.transpose(0, 2, 1))
        pictures += 0.03 * rng.standard_normal(pictures.shape, dtype=np.float32)
        return np.clip(pictures, 0, 1, dtype=np.float32)

    def _stretch(self, centres: NDArray[np.float64]) -> NDArray[np.float32]:
        """Bilinear weights that draw 8 pixels over half the frame around each centre: (T, size, 8)."""
        scale = self.size / 16  # frame pixels a digit pixel
        seen = (np.arange(self.size) + 0.5 - centres[:, None]) / scale + 3.5  # in digit pixels, (T, size)
        return np.clip(1 - np.abs(seen[..., None] - np.arange(8)), 0, None).astype(np.float32)


@cache
def digits_of(split: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A split's digit images, (n, 8, 8) in [0, 1], and which digit each shows, (n,)."""
    with files("ssmvid.data").joinpath("digits.npz").open("rb") as file, np.load(file) as archive:
        images, labels = archive["images"].astype(np.float32) / 16, archive["labels"].astype(np.int64)
    own = slice(None, _TRAIN_DIGITS) if split == "train" else slice(_TRAIN_DIGITS, None)
    return images[own], labels[own]


def write_videos(
    root: PathArg, *, frames: int = 8, size: int = 32, train_clips: int = 512, val_clips: int = 128, seed: int = 0
) -> None:
    """Write moving digits as real H.264 files, root/train/stride_01/00000.mp4 ..., one frame a second / 8.

    Args:
        root: A folder that does not exist yet, or is empty.
        frames, size, seed: As in `MovingDigits`; size must be even.
        train_clips, val_clips: Files in each split.

    Raises:
        FileExistsError: root holds something already.
    """
    root = Path(root)
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(f"write_videos: {root} is not empty: give a new folder")
    for split, count in zip(SPLITS, (train_clips, val_clips)):
        clips = MovingDigits(split=split, frames=frames, size=size, num_clips=count, seed=seed)
        for index in range(count):
            clip = clips[0, index]
            folder = root / split / clips.class_names[clip.label]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = (clip.frames * _STD + _MEAN).mul(255).round().byte().permute(1, 2, 3, 0).contiguous().numpy()
            _encode(folder / f"{index:05d}.mp4", pixels)


def _encode(path: Path, pixels: NDArray[np.uint8]) -> None:
    """RGB (T, H, W, 3) as H.264 at 8 frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "10", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = pixels.shape[1], pixels.shape[2], "yuv420p"
        stream.thread_type = "NONE"
        for picture in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
