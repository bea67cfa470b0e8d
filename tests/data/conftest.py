"""Small real videos, made through PyAV: every frame carries its own number as a bar code of 16 bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from torch import Tensor

BITS = 16


def numbered_frame(number: int, width: int, height: int) -> np.ndarray:
    """A grey picture whose vertical bars spell `number`, with a white corner top left so that no turn looks like another."""
    picture = np.full((height, width, 3), 128, np.uint8)
    bar = width // BITS
    for bit in range(BITS):
        picture[height // 4 : 3 * height // 4, bit * bar : (bit + 1) * bar] = 235 if number >> bit & 1 else 20
    picture[: height // 4, : width // 4] = 255
    return picture


def write(
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


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """`write(path, frames, ...)`, above."""
    return write


@pytest.fixture(scope="session")
def numbers() -> Callable[[Tensor], list[int]]:
    """The numbers that frames (T, c, H, W) carry."""

    def read(frames: Tensor) -> list[int]:
        height, bar = frames.shape[-2], frames.shape[-1] // BITS
        middle = frames[:, :, height // 4 + 1 : 3 * height // 4 - 1].float().mean(dim=(1, 2))  # (T, W)
        bits = middle[:, : BITS * bar].unflatten(1, (BITS, bar)).mean(2) > 128
        return [sum(1 << bit for bit in range(BITS) if row[bit]) for row in bits]

    return read


@pytest.fixture(scope="session")
def good_mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 frames of H.264 with B-frames, the index (moov) at the front."""
    folder = tmp_path_factory.mktemp("good")
    plain = write(folder / "plain.mp4")
    fast = folder / "good.mp4"
    with av.open(str(plain)) as source, av.open(str(fast), "w", options={"movflags": "+faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return fast
