"""One clip out of a video file."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ssmvid.data.decode import frame_times, read_frames
from ssmvid.data.sampling import sample
from ssmvid.data.source import MAX_PIXELS, PathArg
from ssmvid.data.transform import IMAGENET_MEAN, IMAGENET_STD, eval_transform


def read_clip(
    path: PathArg,
    *,
    frames: int,
    fps: float | None = None,
    stride: int | None = None,
    uniform: bool = False,
    size: int,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    place: float = 0.5,
    decoder: str = "pyav",
    max_pixels: int = MAX_PIXELS,
) -> Tensor:
    """Read a clip as a model takes it: what `VideoFolder` gives in validation, of any one file.

    Args:
        path: A local file.
        frames: T.
        fps, stride, uniform: Frames of the clip a second, frames of the video from one to the next, or as many
            stretches of the whole video; exactly one of them.
        size: H = W, pixels: the short side becomes `size`, and the square in the centre is cut out.
        mean, std: Of each colour, in 0..1, as the model's weights were trained.
        place: Where the clip lies in the video, 0 (at the start) to 1 (at the end).
        decoder, max_pixels: As in `read_frames`.

    Returns:
        float32 (c, T, size, size), c = 3 (RGB), normalised.

    Raises:
        ValueError: a number is out of its range, or not exactly one of fps, stride and uniform is given.
        VideoError: the file is no usable video; kind and hint say why.
        ImportError: torchcodec is asked for and does not load.

    >>> clip = read_clip("video.mp4", frames=8, fps=2, size=224)  # (3, 8, 224, 224)
    """
    transform = eval_transform(size=size, mean=mean, std=std)
    chosen = sampled_frames(
        path,
        frames=frames,
        fps=fps,
        stride=stride,
        uniform=uniform,
        place=place,
        decoder=decoder,
        max_pixels=max_pixels,
    )
    return transform(chosen)


def sampled_frames(
    path: PathArg,
    *,
    frames: int,
    fps: float | None,
    stride: int | None,
    uniform: bool,
    place: float,
    decoder: str,
    max_pixels: int,
) -> Tensor:
    """The frames of one clip as they are in the video, uint8 (T, c, H, W); arguments and errors as `read_clip`."""
    times = frame_times(path, max_pixels=max_pixels)
    chosen = sample(times, frames=frames, fps=fps, stride=stride, uniform=uniform, place=place)
    return read_frames(path, chosen.tolist(), decoder=decoder, max_pixels=max_pixels)
