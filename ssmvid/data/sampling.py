"""Which frames of a video a clip takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssmvid.data.frames import TIME_SLACK


def sample(
    times: NDArray[np.float64], *, frames: int, fps: float | None, stride: int | None, uniform: bool, place: float
) -> NDArray[np.int64]:
    """`sample_fps`, `sample_stride` or `sample_uniform`, whichever of the three is given.

    Raises:
        ValueError: not exactly one is given, or a number is out of its range.
    """
    expect_one_rate("sampling", fps, stride, uniform)
    if fps is not None:
        return sample_fps(times, frames=frames, fps=fps, place=place)
    if stride is not None:
        return sample_stride(len(times), frames=frames, stride=stride, place=place)
    return sample_uniform(len(times), frames=frames, place=place)


def expect_one_rate(caller: str, fps: float | None, stride: int | None, uniform: bool) -> None:
    """Raise ValueError unless exactly one of the three is given."""
    if (fps is not None) + (stride is not None) + uniform != 1:
        raise ValueError(f"{caller}: give one of fps, stride and uniform, got {fps=}, {stride=}, {uniform=}")


def sample_uniform(n: int, *, frames: int, place: float) -> NDArray[np.int64]:
    """One frame of each of `frames` equal stretches of the whole video: the gaps differ by at most one.

    Args:
        n: Frames of the video, >= 1; where they are fewer than the clip's, some are repeated.
        frames: Frames of the clip, >= 1.
        place: Where in its stretch each lies, 0 (at the start) to 1 (at the end); 0.5 is the centre.

    Returns:
        int64 (frames,), never falling.

    Raises:
        ValueError: a number is out of its range.

    Source: Wang et al. 2016 (TSN), arXiv:1608.00859, section 3.1, with one place for all stretches.
    """
    _expect(frames=frames, place=place, n=n)
    stretch = np.arange(frames)
    # Just below 1 `stretch + place` rounds into the next stretch; at 1 it is the first frame of that.
    last = -(-(stretch + 1) * n // frames) - 1 if place < 1 else n - 1
    return np.minimum(((stretch + place) * n / frames).astype(np.int64), last)


def sample_budget(times: NDArray[np.float64], *, fps: float, max_frames: int) -> NDArray[np.int64]:
    """The whole video at `fps`, or where that is more than `max_frames`, so many of it as `sample_uniform` has them.

    Args:
        times: As in `sample_fps`.
        fps: Frames a second, > 0.
        max_frames: Most frames there may be, >= 1.

    Returns:
        int64 (at most max_frames,), never falling.

    Raises:
        ValueError: a number is out of its range.
    """
    _expect(frames=max_frames, place=0.5, n=len(times))
    _expect_fps("sample_budget", fps)
    frames = int((times[-1] - times[0] + TIME_SLACK) * fps) + 1
    if frames > max_frames:
        return sample_uniform(len(times), frames=max_frames, place=0.5)
    return sample_fps(times, frames=frames, fps=fps, place=0.0)


def sample_stride(n: int, *, frames: int, stride: int, place: float) -> NDArray[np.int64]:
    """Every `stride`-th frame, by index: the gaps are exactly `stride`.

    A video shorter than the clip is read from its first frame, and its last frame is held: time stands still at the
    end, but no motion is invented, as looping would.

    Args:
        n: Frames of the video, >= 1.
        frames: Frames of the clip, >= 1.
        stride: Frames of the video from one of the clip to the next, >= 1.
        place: Where the clip lies in the room there is, 0 (at the start) to 1 (at the end); 0.5 is the centre.

    Returns:
        int64 (frames,), rising; equal at the end where the last frame is held.

    Raises:
        ValueError: a number is out of its range.
    """
    _expect(frames=frames, place=place, n=n)
    if stride < 1:
        raise ValueError(f"sample_stride: stride must be >= 1, got {stride}")
    starts = max(n - (frames - 1) * stride, 1)  # the places where a clip can begin
    start = min(int(place * starts), starts - 1)
    return np.minimum(start + stride * np.arange(frames, dtype=np.int64), n - 1)


def sample_fps(times: NDArray[np.float64], *, frames: int, fps: float, place: float) -> NDArray[np.int64]:
    """What a viewer sees every 1/fps seconds, by time: exact where the frame rate varies.

    At each moment the last frame whose time has come is taken, so frames repeat where the video is slower than `fps`.
    A video shorter than the clip is read from its first frame, and its last frame is held.

    Args:
        times: When each frame of the video is shown, seconds, rising, (n,), n >= 1.
        frames: Frames of the clip, >= 1.
        fps: Frames of the clip a second, > 0.
        place: Where the clip lies in the room there is, 0 (at the start) to 1 (at the end); 0.5 is the centre.

    Returns:
        int64 (frames,), never falling.

    Raises:
        ValueError: a number is out of its range.
    """
    _expect(frames=frames, place=place, n=len(times))
    _expect_fps("sample_fps", fps)
    room = max(float(times[-1] - times[0]) - (frames - 1) / fps, 0.0)
    moments = times[0] + place * room + np.arange(frames) / fps
    seen = np.searchsorted(times, moments + TIME_SLACK, side="right") - 1
    return np.clip(seen, 0, len(times) - 1).astype(np.int64)


def _expect(*, frames: int, place: float, n: int) -> None:
    if n < 1 or frames < 1 or not 0 <= place <= 1:
        raise ValueError(
            "sampling: a video of n >= 1 frames, frames >= 1 and 0 <= place <= 1 are needed, "
            f"got {n=}, {frames=}, {place=}"
        )


def _expect_fps(caller: str, fps: float) -> None:
    if not fps > 0:
        raise ValueError(f"{caller}: fps must be > 0, got {fps}")
