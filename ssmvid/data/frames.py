"""Single frames: decoding them one by one, their times, their orientation, their pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from torch import Tensor

from ssmvid.data.errors import VideoError
from ssmvid.data.source import PathArg, check_pixels

TIME_SLACK = 1e-3  # seconds: Matroska rounds times to a millisecond, so 2/30 s is stored as 0.067 s


def decode(
    path: PathArg, container: InputContainer, stream: VideoStream, max_pixels: int, whole: bool = False
) -> Iterator[VideoFrame]:
    """The frames from where the container stands, in presentation order; all of one size.

    `whole` says that it stands at the start: the packets are then counted against the header, where that is binding.

    Raises:
        VideoError: corrupt, truncated, resolution_change or too_large, when that place is reached.
    """
    count, packets, size = 0, 0, None
    expected = stream.frames if whole and container.format.name.startswith("mov") else 0
    try:
        for packet in container.demux(stream):
            packets += packet.size > 0
            for frame in packet.decode():
                size = size or (frame.width, frame.height)
                if (frame.width, frame.height) != size:
                    hint = f"frame {count} is {frame.width} x {frame.height}, those before {size[0]} x {size[1]}"
                    raise VideoError(path, "resolution_change", f"{hint}: cut it there")
                if frame.is_corrupt:
                    raise VideoError(path, "corrupt", f"frame {count} is damaged: encode it again")
                yield frame
                count += 1
    except (FFmpegError, MemoryError) as error:
        check_pixels(path, stream.codec_context.width, stream.codec_context.height, max_pixels)
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(path, "corrupt", f"decoding failed after {count} frames ({reason}): encode it again") from None
    if packets < expected:
        hint = f"the header counts {expected} frames, the file holds {packets}: copy or download it again"
        raise VideoError(path, "truncated", hint)


def timed(frames: Iterator[VideoFrame], stream: VideoStream) -> Iterator[tuple[VideoFrame, float]]:
    """Each frame with its time in seconds since the first one, strictly rising.

    Where a frame carries no time, or it falls back (joined broadcasts), the clock goes on by one average frame.
    AVI stores no presentation times, and what FFmpeg guesses for B-frames is wrong: there only the rate counts.
    """
    rate = stream.guessed_rate or stream.average_rate
    step = float(1 / rate) if rate else 0.04
    base = stream.time_base
    origin, last = None, -step
    for frame in frames:
        time = last + step
        if frame.pts is not None and base is not None and stream.container.format.name != "avi":
            if origin is None or (frame.pts - origin) * base.numerator / base.denominator <= last:
                origin = frame.pts - round(time * base.denominator / base.numerator)
            time = (frame.pts - origin) * base.numerator / base.denominator
        last = time
        yield frame, time


class Display:
    """The frames of one opened video as a viewer sees them: in RGB, turned and mirrored by the stream's display matrix.

    The matrix is read from the first frame, and again where the rotation changes, not from every frame: PyAV ties a
    frame whose side data is looked at into a cycle with itself, and its picture then stays in memory until Python's
    garbage collector comes by, hundreds of frames later.

    Source: ISO/IEC 14496-12, 8.3.2: the matrix is {a, b, u, c, d, v, x, y, w}; (x, y) is shown at (ax + cy, bx + dy).
    """

    def __init__(self) -> None:
        self._matrices: dict[int, tuple[int, int, int, int]] = {}  # a b c d, by rotation in degrees

    def to_tensor(self, frame: VideoFrame) -> Tensor:
        """uint8 (c, H, W), RGB, in the colour matrix and range the stream names."""
        return torch.from_numpy(np.ascontiguousarray(self.to_array(frame).transpose(2, 0, 1)))

    def to_array(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """uint8 (H, W, c), RGB; a view where the picture is turned."""
        pixels = cast("NDArray[np.uint8]", frame.to_ndarray(format="rgb24"))
        if frame.rotation not in self._matrices:
            self._matrices[frame.rotation] = _matrix(frame)
        a, b, c, d = self._matrices[frame.rotation]
        if abs(b) > abs(a):  # a quarter turn: x' = c y, y' = b x
            pixels, a, d = pixels.transpose(1, 0, 2), c, b
        return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    matrix = cast("bytes | None", frame.side_data.get("DISPLAYMATRIX"))
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].tolist()
    return a, b, c, d
