from collections.abc import Callable
from pathlib import Path

import av
import pytest

from tests import videos


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    return videos.write_video


@pytest.fixture(scope="session")
def numbers() -> Callable[..., list[int]]:
    return videos.numbers


@pytest.fixture(scope="session")
def good_mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 frames of H.264 with B-frames, the index (moov) at the front."""
    folder = tmp_path_factory.mktemp("good")
    plain = videos.write_video(folder / "plain.mp4")
    fast = folder / "good.mp4"
    with av.open(str(plain)) as source, av.open(str(fast), "w", options={"movflags": "+faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return fast
