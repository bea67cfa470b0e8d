"""Decoding: the frames of a local video file, by index or one after the other, as they are meant to be seen.

A frame's index is its place in presentation order; its time is its presentation time in seconds since the first frame.
Edit lists, start offsets, B-frames and variable frame rates are thereby settled. Rotation and mirroring are applied.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from torch import Tensor

from ssmvid.data.errors import VideoError
from ssmvid.data.frames import TIME_SLACK, Display, decode, timed
from ssmvid.data.source import MAX_PIXELS, PathArg, open_video
from ssmvid.data.timeline import frames_at, timeline
from ssmvid.data.torchcodec_frames import torchcodec_frames, why_no_torchcodec

DECODERS = ("auto", "pyav", "torchcodec")
MAX_BYTES = 2**30  # one clip of decoded frames


@dataclass(frozen=True)
class VideoInfo:
    """What the header and the first frame say.

    Attributes:
        frames: Frames by the header, None where it does not count them. A claim: `frame_times` counts.
        fps: Average frames a second by the header, None where it does not say.
        duration_s: Seconds by the header, None where it does not say.
        width, height: Pixels, as displayed (after rotation).
        rotation: Degrees counter-clockwise by which the stored frames are turned for display: 0, 90, 180, 270.
        codec: FFmpeg's name of the codec.
    """

    frames: int | None
    fps: float | None
    duration_s: float | None
    width: int
    height: int
    rotation: int
    codec: str


def probe(path: PathArg, *, max_pixels: int = MAX_PIXELS) -> VideoInfo:
    """Read a video's header and its first frame.

    Raises:
        VideoError: the file is no usable video; kind and hint say why.
    """
    with open_video(path, max_pixels=max_pixels) as (container, stream):
        frame = next(decode(path, container, stream, max_pixels, whole=True), None)
        if frame is None:
            raise VideoError(path, "empty", "the video stream has no frame")
        height, width = Display().to_array(frame).shape[:2]
        rate = stream.guessed_rate or stream.average_rate
        duration = container.duration / 1e6 if container.duration else None
        if stream.duration and stream.time_base:
            duration = float(stream.duration * stream.time_base)
        return VideoInfo(
            frames=stream.frames or None,
            fps=float(rate) if rate else None,
            duration_s=duration,
            width=width,
            height=height,
            rotation=frame.rotation % 360,
            codec=stream.codec_context.codec.canonical_name,
        )


def frame_times(path: PathArg, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.float64]:
    """When each frame is shown, seconds since the first, float64 (n,), rising; n is the true number of frames.

    The file is read through once (MP4, Matroska) or decoded once (other containers); the last 32 results are kept.

    Raises:
        VideoError: the file is no usable video; kind and hint say why.
    """
    return timeline(path, max_pixels).times


def read_frames(
    path: PathArg, indices: Sequence[int], *, decoder: str = "pyav", max_pixels: int = MAX_PIXELS
) -> Tensor:
    """Decode the frames of these indices, in this order, repeats included.

    Args:
        path: A local file.
        indices: Places in presentation order, 0 <= index < len(frame_times(path)).
        decoder: 'pyav', which stops at damage. 'torchcodec', which decodes MP4 and Matroska only, to the same pixels
            (to within 1 of 255 where they are mirrored), but passes over most damage. 'auto': torchcodec where it
            loads and the file is one of those, else PyAV.
        max_pixels: The most pixels a frame may have.

    Returns:
        uint8 (T, c, H, W), c = 3 (RGB), T = len(indices).

    Raises:
        IndexError: an index is outside the video.
        ValueError: no index, or another decoder's name.
        ImportError: torchcodec is asked for and does not load.
        VideoError: the file is no usable video; kind and hint say why.
    """
    if decoder not in DECODERS:
        raise ValueError(f"read_frames: decoder must be one of {DECODERS}, got {decoder!r}")
    times = frame_times(path, max_pixels=max_pixels)
    wanted = sorted({int(i) for i in indices})
    if not wanted:
        raise ValueError("read_frames: indices must name at least one frame, got none")
    if wanted[0] < 0 or wanted[-1] >= len(times):
        raise IndexError(f"read_frames: indices must be in 0..{len(times) - 1}, got {wanted[0]}..{wanted[-1]}: {path}")
    with open_video(path, max_pixels=max_pixels) as (_, stream):
        need = len(wanted) * 3 * stream.width * stream.height
    if need > MAX_BYTES:
        hint = f"{len(wanted)} frames of {stream.width} x {stream.height} need {need} bytes, allowed are {MAX_BYTES}"
        raise VideoError(path, "too_large", hint)
    found = _read(path, wanted, decoder, max_pixels)
    return torch.stack([found[int(i)] for i in indices])


def _read(path: PathArg, wanted: Sequence[int], decoder: str, max_pixels: int) -> dict[int, Tensor]:
    missing = why_no_torchcodec() if decoder != "pyav" else "not asked for"
    if decoder == "torchcodec" and missing:
        raise ImportError(f"read_frames: decoder 'torchcodec' does not load ({missing}): use decoder=pyav")
    if missing is None:
        try:
            return torchcodec_frames(path, wanted, timeline(path, max_pixels))
        except VideoError:
            if decoder == "torchcodec":
                raise
    return frames_at(path, wanted, max_pixels)


def iter_frames(
    path: PathArg,
    *,
    fps: float | None = None,
    stride: int = 1,
    max_pixels: int = MAX_PIXELS,
    threads: int = 1,
) -> Iterator[tuple[Tensor, float]]:
    """Decode from the first frame to the last in memory that does not grow with the video.

    Args:
        path: A local file.
        fps: Yield what a viewer sees at 0, 1/fps, 2/fps ... seconds (frames repeat where the video is slower);
            None yields every `stride`-th frame.
        stride: Frames from one to the next, >= 1; only without fps.
        max_pixels: The most pixels a frame may have.
        threads: Decoding threads; 0 takes one a core.

    Yields:
        (frame, time): uint8 (c, H, W), c = 3 (RGB), and its presentation time in seconds since the first frame.

    Raises:
        ValueError: fps or stride is not positive, or both are given.
        VideoError: as soon as the damage is reached, after the frames before it.
    """
    if stride < 1 or (fps is not None and (not 0 < fps < math.inf or stride != 1)):
        raise ValueError(f"iter_frames: give fps > 0 or stride >= 1, not both; got {fps=}, {stride=}")
    return _iter_frames(path, fps, stride, max_pixels, threads)  # apart, so that the refusal comes with the call


def stacked(frames: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Frames (c, H, W) as parts (T, c, H, W), T = `size` but for the last."""
    left = iter(frames)
    while part := list(islice(left, size)):
        yield torch.stack(part)


def _iter_frames(
    path: PathArg, fps: float | None, stride: int, max_pixels: int, threads: int
) -> Iterator[tuple[Tensor, float]]:
    with open_video(path, max_pixels=max_pixels, threads=threads) as (container, stream):
        frames = timed(decode(path, container, stream, max_pixels, whole=True), stream)
        picked = _every(frames, stride) if fps is None else _at_rate(frames, fps)
        display, empty = Display(), True
        for frame, time in picked:
            empty = False
            yield display.to_tensor(frame), time
        if empty:
            raise VideoError(path, "empty", "the video stream has no frame")


def _every(frames: Iterator[tuple[VideoFrame, float]], stride: int) -> Iterator[tuple[VideoFrame, float]]:
    for index, shown in enumerate(frames):
        if index % stride == 0:
            yield shown


def _at_rate(frames: Iterator[tuple[VideoFrame, float]], fps: float) -> Iterator[tuple[VideoFrame, float]]:
    """At each tick the frame a viewer sees then: the last one whose time has come."""
    tick, shown = 0, next(frames, None)
    if shown is None:
        return
    for following in frames:
        while tick / fps < following[1] - TIME_SLACK:
            yield shown
            tick += 1
        shown = following
    while tick / fps <= shown[1] + TIME_SLACK:
        yield shown
        tick += 1
