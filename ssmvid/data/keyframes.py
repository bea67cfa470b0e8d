"""Keyframes: the frames that a score finds relevant, over the parts of a video where it finds none in particular."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ssmvid.data.decode import frame_times, iter_frames, read_frames, stacked
from ssmvid.data.source import MAX_PIXELS, PathArg

THRESHOLD, DEPTH = 0.8, 5
_SCORED = 32  # frames scored together


class Keyframes(NamedTuple):
    """`frames` uint8 (T, c, H, W), c = 3 (RGB), and their `indices` in the video, rising, int64 (T,)."""

    frames: Tensor
    indices: NDArray[np.int64]


def sample_keyframes(
    scores: ArrayLike, *, frames: int, threshold: float = THRESHOLD, depth: int = DEPTH
) -> NDArray[np.int64]:
    """Adaptive keyframe sampling: halve the video until what is best in a part stands out, and take that.

    Scores are scaled to 0..1. In a part whose `frames` best are not more than `threshold` above its mean, each half
    gets half the frames; else its best are taken. So is done at the last depth, and where one frame is left. The
    released code loses frames where the number is no power of two or a part too short; here an odd frame goes to the
    half of the higher mean, and what a half has no room for to the other.

    Args:
        scores: Relevance of each candidate frame, (n,).
        frames: Frames wanted, >= 1.
        threshold: 0 to 1.
        depth: Halvings at most, >= 0; 0 takes the best of all.

    Returns:
        int64 (min(frames, n),), rising: places among the candidates. Of equal scores the earlier is taken.

    Raises:
        ValueError: a number is out of its range, or a score is not finite.

    Source: Tang et al. 2025 (AKS), arXiv:2502.21271, section 3.3, and its released code, whose threshold and depth are
        the defaults.
    """
    given = np.asarray(scores, dtype=np.float64)
    if given.ndim != 1 or not len(given) or not np.isfinite(given).all():
        raise ValueError(f"sample_keyframes: scores must be n >= 1 finite numbers, got shape {given.shape}")
    if frames < 1 or depth < 0:
        raise ValueError(f"sample_keyframes: frames >= 1 and depth >= 0 are needed, got {frames=}, {depth=}")
    scaled = (given - given.min()) / (np.ptp(given) or 1.0)

    def best(start: int, stop: int, count: int) -> NDArray[np.int64]:
        return start + np.argsort(-scaled[start:stop], kind="stable")[:count]

    def judge(start: int, stop: int, count: int, level: int) -> list[int]:
        own = scaled[start:stop]
        stands_out = scaled[best(start, stop, frames)].mean() - own.mean() > threshold
        if stands_out or level == depth or count < 2:
            return best(start, stop, count).tolist()
        middle = start + len(own) // 2
        left = (count + (scaled[start:middle].mean() >= scaled[middle:stop].mean())) // 2
        left = min(max(left, count - (stop - middle)), middle - start)
        return judge(start, middle, left, level + 1) + judge(middle, stop, count - left, level + 1)

    return np.array(sorted(judge(0, len(scaled), min(frames, len(scaled)), 0)), dtype=np.int64)


def read_keyframes(
    path: PathArg,
    scorer: Callable[[Tensor], Tensor],
    *,
    frames: int,
    fps: float = 1.0,
    threshold: float = THRESHOLD,
    depth: int = DEPTH,
    max_pixels: int = MAX_PIXELS,
) -> Keyframes:
    """Score a video at `fps`, a few frames at a time, and read its keyframes.

    Args:
        path: A local file.
        scorer: uint8 (k, c, H, W) to relevance (k,), such as the likeness of image and question by CLIP.
        frames: T; where the video has fewer at `fps`, all of them come.
        fps: Frames scored a second, > 0.
        threshold, depth: As in `sample_keyframes`.
        max_pixels: As in `read_frames`.

    Raises:
        ValueError: a number is out of its range.
        VideoError: the file is no usable video; kind and hint say why.
    """
    times = frame_times(path, max_pixels=max_pixels)
    places: list[int] = []

    def candidates() -> Iterator[Tensor]:
        for image, time in iter_frames(path, fps=fps, max_pixels=max_pixels):
            place = int(np.abs(times - times[0] - time).argmin())
            if not places or place != places[-1]:  # else the video is slower than fps
                places.append(place)
                yield image

    scores = [scorer(part) for part in stacked(candidates(), _SCORED)]
    chosen = sample_keyframes(torch.cat(scores).numpy(force=True), frames=frames, threshold=threshold, depth=depth)
    indices = np.array(places, dtype=np.int64)[chosen]
    return Keyframes(read_frames(path, indices.tolist(), max_pixels=max_pixels), indices)
