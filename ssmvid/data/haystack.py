"""Haystacks: the frames that needles are put among, drawn, or cut from a video file."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ssmvid.data.decode import iter_frames
from ssmvid.data.source import MAX_PIXELS, PathArg
from ssmvid.data.transform import eval_transform

SCENE = 16  # frames until a drawn haystack cuts to other shapes and colours
_SHAPES = 3
_NOISE = 0.05
_DECODED = 64  # frames cut to size at a time


class Haystack(Protocol):
    """`haystack(rng, frames)`: so many frames, float32 (T, c, H, W) in [0, 1], c = 3, that depend on `rng` alone."""

    def __call__(self, rng: np.random.Generator, frames: int) -> NDArray[np.float32]: ...


class MovingShapes:
    """Discs and squares that drift over a noisy ground; a cut to others every `SCENE` frames.

    Args:
        size: H = W, pixels.
    """

    def __init__(self, *, size: int) -> None:
        self.size = size

    def __call__(self, rng: np.random.Generator, frames: int) -> NDArray[np.float32]:
        scenes = -(-frames // SCENE)
        scene, moment = np.divmod(np.arange(frames), SCENE)
        grounds = rng.uniform(0.1, 0.6, (scenes, 3, 1, 1)).astype(np.float32)
        clip = np.broadcast_to(grounds[scene], (frames, 3, self.size, self.size)).copy()
        pixels = np.arange(self.size)
        for _ in range(_SHAPES):
            starts, velocity = rng.uniform(0, self.size, (scenes, 2)), rng.uniform(-2, 2, (scenes, 2))
            radius = self.size * rng.uniform(0.1, 0.25, scenes)[scene, None, None]
            colour = rng.uniform(0.2, 0.9, (scenes, 3, 1, 1)).astype(np.float32)[scene]
            disc = rng.random(scenes)[scene, None, None] < 0.5
            centre = (starts[scene] + velocity[scene] * moment[:, None]) % self.size  # (T, 2)
            down, right = np.abs(pixels[:, None] - centre[:, :1, None]), np.abs(pixels - centre[:, 1:, None])
            inside = np.where(disc, np.hypot(down, right), np.maximum(down, right)) < radius  # (T, H, W)
            clip = np.where(inside[:, None], colour, clip)
        clip += _NOISE * rng.standard_normal(clip.shape, dtype=np.float32)
        return np.clip(clip, 0, 1)


class VideoHaystack:
    """A stretch of a video file from a random place on; behind its end it goes on from its start.

    The whole file is read once, at the start: of a frame only `size` x `size` pixels are kept.

    Args:
        path: A local file.
        fps: Frames of the haystack a second of the file.
        size: H = W, pixels: the short side becomes `size`, and the square in the centre is cut out.
        max_pixels: As in `read_frames`.

    Raises:
        ValueError: fps or size is not positive.
        VideoError: the file is no usable video; kind and hint say why.
    """

    def __init__(self, path: PathArg, *, fps: float, size: int, max_pixels: int = MAX_PIXELS) -> None:
        transform = eval_transform(size=size, mean=(0.0,) * 3, std=(1.0,) * 3)
        small, waiting = [], []
        for frame, _ in iter_frames(path, fps=fps, max_pixels=max_pixels):
            waiting.append(frame)
            if len(waiting) == _DECODED:
                small.append(transform(torch.stack(waiting)))
                waiting = []
        if waiting:
            small.append(transform(torch.stack(waiting)))
        self.frames = torch.cat(small, dim=1).transpose(0, 1).contiguous().numpy()  # (n, c, H, W)

    def __call__(self, rng: np.random.Generator, frames: int) -> NDArray[np.float32]:
        start = rng.integers(len(self.frames))
        return self.frames[(start + np.arange(frames)) % len(self.frames)]
