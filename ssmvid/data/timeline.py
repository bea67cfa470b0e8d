"""Which frames a video has, when each is shown, and how the wanted ones are reached without decoding all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from torch import Tensor

from ssmvid.data.errors import VideoError
from ssmvid.data.frames import Display, decode, timed
from ssmvid.data.source import PathArg, open_local, open_video

# Where one packet is one shown frame and carries its time. Elsewhere (MPEG-TS, AVI, raw streams) decoding must count.
_INDEXED_FORMATS = {"mov", "matroska"}
_INDEXED_CODECS = {"h264", "hevc", "av1", "vp9"}


@dataclass(frozen=True)
class Timeline:
    """The frames of one video.

    Attributes:
        times: float64 (n,), seconds since the first frame, rising.
        pts: int64 (n,), their time stamps; None where frames can only be found by counting from the first.
        keys: int64 (k, 2), pts and dts of the key frames, by pts; None as above.
    """

    times: NDArray[np.float64]
    pts: NDArray[np.int64] | None = None
    keys: NDArray[np.int64] | None = None


def timeline(path: PathArg, max_pixels: int) -> Timeline:
    """The frames of a video; the whole file is read once for it (decoded once where packets do not tell).

    Raises:
        VideoError: the file is no usable video; kind and hint say why.
    """
    with open_local(path) as file:
        state = os.fstat(file.fileno())
    return _read_timeline(os.fspath(path), state.st_size, state.st_mtime_ns, max_pixels)


@lru_cache(maxsize=32)  # size and mtime are in the key, so that a file that changes is read anew
def _read_timeline(path: str, size: int, mtime_ns: int, max_pixels: int) -> Timeline:
    with open_video(path, max_pixels=max_pixels) as (container, stream):
        if _INDEXED_FORMATS & set(container.format.name.split(",")) and (
            stream.codec_context.codec.canonical_name in _INDEXED_CODECS
        ):
            found = _by_packets(path, container, stream)
            if found is not None:
                return found
    with open_video(path, max_pixels=max_pixels) as (container, stream):
        times = [time for _, time in timed(decode(path, container, stream, max_pixels, whole=True), stream)]
    if not times:
        raise VideoError(path, "empty", "the video stream has no frame")
    return Timeline(np.array(times))


def _by_packets(path: PathArg, container: InputContainer, stream: VideoStream) -> Timeline | None:
    """The timeline by the packets alone; None where they leave room for doubt."""
    shown, keys, total = [], [], 0
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            total += 1
            if packet.pts is None or (total == 1 and not packet.is_keyframe):
                return None
            if packet.is_keyframe:
                keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
            if not packet.is_discard:  # what lies before an edit list's start is decoded, but not shown
                shown.append(packet.pts)
    except FFmpegError as error:
        raise VideoError(path, "corrupt", f"reading failed after {total} packets ({error.strerror})") from None
    if total < stream.frames:
        hint = f"the header counts {stream.frames} frames, the file holds {total}: copy or download it again"
        raise VideoError(path, "truncated", hint)
    if not shown:
        raise VideoError(path, "empty", "the video stream has no frame to show")
    pts, keyframes = np.unique(np.array(shown, np.int64)), np.array(sorted(keys), np.int64)
    if len(pts) != len(shown) or pts[0] < keyframes[0, 0] or stream.time_base is None:
        return None
    base = stream.time_base
    return Timeline((pts - pts[0]) * base.numerator / base.denominator, pts, keyframes)


def frames_at(path: PathArg, wanted: Sequence[int], max_pixels: int) -> dict[int, Tensor]:
    """The frames of these indices (unique, rising) as uint8 (c, H, W).

    Raises:
        VideoError: the file is no usable video, or the decoder does not give a frame that the container lists.
    """
    table = timeline(path, max_pixels)
    if table.pts is not None and table.keys is not None:
        try:
            return _by_seeking(path, wanted, table.pts, table.keys, max_pixels)
        except (VideoError, LookupError):
            pass  # an open group of pictures may not decode from its key frame: from the first frame it must
    return _by_counting(path, wanted, table, max_pixels)


def _by_seeking(
    path: PathArg, wanted: Sequence[int], pts: NDArray[np.int64], keys: NDArray[np.int64], max_pixels: int
) -> dict[int, Tensor]:
    """Decode from the last key frame before each wanted frame; LookupError where a frame does not come."""
    found: dict[int, Tensor] = {}
    display = Display()
    with open_video(path, max_pixels=max_pixels) as (container, stream):
        frames = decode(path, container, stream, max_pixels)
        position = int(keys[0, 0]) - 1
        for index in wanted:
            target = int(pts[index])
            key_pts, key_dts = keys[np.searchsorted(keys[:, 0], target, side="right") - 1].tolist()
            if key_pts > position and key_pts > keys[0, 0]:
                container.seek(key_dts, stream=stream)
                frames = decode(path, container, stream, max_pixels)
            frame = _advance(frames, target)
            found[index], position = display.to_tensor(frame), target
    return found


def _advance(frames: Iterable[VideoFrame], target: int) -> VideoFrame:
    for frame in frames:
        if frame.pts == target:
            return frame
        if frame.pts is None or frame.pts > target:
            break
    raise LookupError(target)


def _by_counting(path: PathArg, wanted: Sequence[int], table: Timeline, max_pixels: int) -> dict[int, Tensor]:
    """Decode from the first frame: what this gives is what the video shows."""
    found: dict[int, Tensor] = {}
    display = Display()
    places = {int(table.pts[i]) if table.pts is not None else i: i for i in wanted}
    with open_video(path, max_pixels=max_pixels) as (container, stream):
        for count, frame in enumerate(decode(path, container, stream, max_pixels)):
            place = count if table.pts is None else frame.pts
            if place in places:
                index = places[place]
                found[index] = display.to_tensor(frame)
                if len(found) == len(wanted):
                    return found
    missing = next(i for i in wanted if i not in found)
    hint = f"frame {missing} at {table.times[missing]:.3f} s is listed, but the decoder does not give it"
    raise VideoError(path, "corrupt", hint)
