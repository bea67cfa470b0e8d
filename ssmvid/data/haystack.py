"""Haystacks: the frames that needles are put among, drawn, or cut from a video file."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ssmvid.data.decode import iter_frames, stacked
from ssmvid.data.source import MAX_PIXELS, PathArg
from ssmvid.data.transform import eval_transform

SCENE = 16  # frames until a drawn haystack cuts to other shapes and colours
_SHAPES = 3
_NOISE = 0.03
_DECODED = 64  # frames cut to size at a time


class Haystack(Protocol):
    """`haystack(rng, frames)`: so many frames, float32 (c, T, H, W) in [0, 1], c = 3, that depend on `rng` alone."""

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
        uniform = lambda low, high, *shape: np.asarray(rng.uniform(low, high, shape), np.float32)
        clip = _NOISE * rng.standard_normal((3, frames, self.size, self.size), dtype=np.float32)
        clip += uniform(0.35, 0.45, 3, scenes)[:, scene, None, None]
        pixels = np.arange(self.size, dtype=np.float32)
        for _ in range(_SHAPES):
            starts, velocity = uniform(0, self.size, 2, scenes), uniform(-2, 2, 2, scenes)
            radius = self.size * uniform(0.1, 0.25, scenes)[scene, None, None]
            colour, disc = uniform(-0.08, 0.08, 3, scenes)[:, scene, None, None], rng.random(scenes)[scene] < 0.5
            centres = (starts[:, scene] + velocity[:, scene] * moment.astype(np.float32)) % self.size  # (2, T)
            down, right = np.abs(pixels - centres[..., None])  # (T, H), (T, W)
            down, right = down[:, :, None], right[:, None]
            square = (down < radius) & (right < radius)
            inside = np.where(disc[:, None, None], down**2 + right**2 < radius**2, square)  # (T, H, W)
            clip += colour * inside
        return np.clip(clip, 0, 1, out=clip)


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
        frames = (frame for frame, _ in iter_frames(path, fps=fps, max_pixels=max_pixels))
        small = [transform(part) for part in stacked(frames, _DECODED)]
        self.frames = torch.cat(small, dim=1).numpy()  # (c, n, H, W)

    def __call__(self, rng: np.random.Generator, frames: int) -> NDArray[np.float32]:
        length = self.frames.shape[1]
        return self.frames[:, (rng.integers(length) + np.arange(frames)) % length]
