"""Real video files in class folders or lists, as clips."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchvision.transforms import InterpolationMode, v2

from ssmvid.data.clip import Clip, Key, keyed_generator
from ssmvid.data.decode import frame_times, read_frames
from ssmvid.data.errors import VideoError
from ssmvid.data.index import SPLITS, read_index
from ssmvid.data.sampling import sample_fps, sample_stride
from ssmvid.data.source import MAX_PIXELS, PathArg

_SHOWN = 20  # findings in one error message


class VideoFolder:
    """Clips from the videos under a folder (`read_index` says which layouts).

    Training takes a random place in time, a random crop and, where asked for, a mirror image; validation the middle in
    time and space, always the same. A video that cannot be used is answered by its VideoError, never by another video.

    Args:
        root: The folder.
        split: 'train' or 'val'.
        frames: T.
        fps, stride: Frames of the clip a second, or frames of the video from one to the next; exactly one of them.
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

    def __init__(
        self,
        root: PathArg,
        *,
        split: str,
        frames: int = 8,
        fps: float | None = None,
        stride: int | None = None,
        size: int = 224,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        min_crop: float = 0.5,
        flip: float = 0.0,
        seed: int = 0,
        val_share: float = 0.2,
        num_classes: int | None = None,
        allow_outside_root: bool = False,
        decoder: str = "pyav",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if (fps is None) == (stride is None):
            raise ValueError(f"VideoFolder: give either fps or stride, got {fps=}, {stride=}")
        if frames < 1 or size < 1 or not 0 < min_crop <= 1 or not 0 <= flip <= 1:
            raise ValueError(
                "VideoFolder: frames >= 1, size >= 1, 0 < min_crop <= 1 and 0 <= flip <= 1 are needed, "
                f"got {frames=}, {size=}, {min_crop=}, {flip=}"
            )
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
        self.decoder, self.max_pixels = decoder, max_pixels
        self.clip_shape = (3, frames, size, size)
        self.transform = _transform(split == "train", size, mean, std, min_crop, flip)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, key: Key) -> Clip | VideoError:
        """The clip of (epoch, index), the same in every process; a VideoError is returned, not raised."""
        epoch, index = key
        name, label = self.entries[index]
        rng = keyed_generator(self.seed, SPLITS.index(self.split), epoch, index)
        place = rng.random() if self.split == "train" else 0.5
        try:
            frames = self._read(name, place)
        except VideoError as error:
            return error
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
            torch.manual_seed(int(rng.integers(2**62)))
            clip = self.transform(frames)  # (T, c, H, W)
        return Clip(clip.transpose(0, 1).contiguous(), label, name)

    def _read(self, name: str, place: float) -> torch.Tensor:
        """The frames of one clip, uint8 (T, c, H, W)."""
        path = str(self.root / name)
        times = frame_times(path, max_pixels=self.max_pixels)
        if self.fps is not None:
            chosen = sample_fps(times, frames=self.frames, fps=self.fps, place=place)
        else:
            assert self.stride is not None
            chosen = sample_stride(len(times), frames=self.frames, stride=self.stride, place=place)
        return read_frames(path, chosen.tolist(), decoder=self.decoder, max_pixels=self.max_pixels)


def _transform(
    train: bool, size: int, mean: Sequence[float], std: Sequence[float], min_crop: float, flip: float
) -> v2.Transform:
    """uint8 (T, c, H, W) to normalised float32 (T, c, size, size); one random choice for the whole clip."""
    bicubic = InterpolationMode.BICUBIC
    cut: list[v2.Transform] = [v2.Resize(size, interpolation=bicubic, antialias=True), v2.CenterCrop(size)]
    if train:
        crop = v2.RandomResizedCrop(size, scale=(min_crop, 1.0), interpolation=bicubic, antialias=True)
        cut = [crop, v2.RandomHorizontalFlip(flip)]
    return v2.Compose([*cut, v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))])
