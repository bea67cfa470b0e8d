"""Small real videos, made through PyAV: every frame carries its own number as a bar code of 16 bits."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from torch import Tensor

BITS = 16


def numbered_frame(number: int, width: int, height: int) -> np.ndarray:
    """A grey picture whose bars spell `number`; a white corner top left, so that no turn looks like another."""
    picture = np.full((height, width, 3), 128, np.uint8)
    bar = width // BITS
    for bit in range(BITS):
        picture[height // 4 : 3 * height // 4, bit * bar : (bit + 1) * bar] = 235 if number >> bit & 1 else 20
    picture[: height // 4, : width // 4] = 255
    return picture


def write_video(
    path: Path,
    frames: int = 30,
    *,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times_ms: Sequence[int] | None = None,
    gop: int = 10,
    container_format: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode `frames` numbered frames at 30 a second, or shown at `times_ms`."""
    extra = {"bf": "2", "preset": "veryfast", "crf": "12"} if codec == "libx264" else {}
    with av.open(str(path), "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=30, options={**extra, **(options or {})})
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.gop_size = gop
        stream.thread_type = "NONE"
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, *size), format="rgb24")
            frame.pts = number if times_ms is None else times_ms[number]
            frame.time_base = Fraction(1, 30) if times_ms is None else Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def numbers(frames: Tensor) -> list[int]:
    """The numbers that frames (T, c, H, W) carry."""
    height, bar = frames.shape[-2], frames.shape[-1] // BITS
    middle = frames[:, :, height // 4 + 1 : 3 * height // 4 - 1].float().mean(dim=(1, 2))  # (T, W)
    bits = middle[:, : BITS * bar].unflatten(1, (BITS, bar)).mean(2) > 128
    return [sum(1 << bit for bit in range(BITS) if row[bit]) for row in bits]
