"""From decoded frames to what a model reads: one cut for the whole clip, scaled and normalised."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

Transform = Callable[[Tensor], Tensor]

# Of each colour, in 0..1: what most weights were trained with, VideoMamba's too.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_RESIZE = {"interpolation": InterpolationMode.BICUBIC, "antialias": True}


def eval_transform(
    *, size: int, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Transform:
    """The middle of the picture, always the same: uint8 (T, c, H, W) to float32 (c, T, size, size).

    The short side becomes `size`, and the square in the centre is cut out.

    Args:
        size: H = W, pixels.
        mean, std: Of each colour, in 0..1, as the model's weights were trained.

    Raises:
        ValueError: a number is out of its range.
    """
    _expect(size, mean, std)
    return _compose([v2.Resize(size, **_RESIZE), v2.CenterCrop(size)], mean, std)


def train_transform(
    *,
    size: int,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    min_crop: float,
    flip: float,
) -> Transform:
    """A random piece of the picture, one for the whole clip: uint8 (T, c, H, W) to float32 (c, T, size, size).

    Args:
        size, mean, std: As in `eval_transform`.
        min_crop: Smallest share of the picture the crop covers, 0 < min_crop <= 1; 1 still varies the aspect.
        flip: Probability of a mirror image.

    Raises:
        ValueError: a number is out of its range.
    """
    _expect(size, mean, std)
    if not 0 < min_crop <= 1 or not 0 <= flip <= 1:
        raise ValueError(f"transform: 0 < min_crop <= 1 and 0 <= flip <= 1 are needed, got {min_crop=}, {flip=}")
    crop = v2.RandomResizedCrop(size, scale=(min_crop, 1.0), **_RESIZE)
    return _compose([crop, v2.RandomHorizontalFlip(flip)], mean, std)


def _compose(cut: Sequence[Transform], mean: Sequence[float], std: Sequence[float]) -> Transform:
    scaled = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]
    return v2.Compose([*cut, *scaled, _colours_first])


def _colours_first(frames: Tensor) -> Tensor:
    """(T, c, H, W) to (c, T, H, W), dense."""
    return frames.transpose(0, 1).contiguous()


def _expect(size: int, mean: Sequence[float], std: Sequence[float]) -> None:
    if size < 1 or len(mean) != 3 or len(std) != 3 or not all(value > 0 for value in std):
        raise ValueError(
            f"transform: size >= 1, three numbers of mean and three of std > 0 are needed, got {size=}, {mean=}, {std=}"
        )
