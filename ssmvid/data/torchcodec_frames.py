"""torchcodec as a second decoder, for the files where it gives the same frames as PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from torch import Tensor

from ssmvid.data.errors import VideoError
from ssmvid.data.source import PathArg, open_local
from ssmvid.data.timeline import Timeline


@cache
def why_no_torchcodec() -> str | None:
    """Why torchcodec cannot be used here, in one line; None where it can."""
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:  # not installed, or no FFmpeg or torch that fits it
        return str(error).strip().splitlines()[0]
    return None


def torchcodec_frames(path: PathArg, wanted: Sequence[int], table: Timeline) -> dict[int, Tensor]:
    """The frames of these indices (unique, rising) as uint8 (c, H, W).

    Raises:
        VideoError: unsupported where its frames are not those of the timeline (MPEG-TS, AVI: it seeks to wrong ones);
            corrupt where it fails.
    """
    from torchcodec.decoders import VideoDecoder

    if table.pts is None:
        raise VideoError(path, "unsupported", "torchcodec is only used for MP4 and Matroska: use decoder=pyav")
    with open_local(path) as file:
        try:
            decoder = VideoDecoder(file, seek_mode="exact", num_ffmpeg_threads=1)
            batch = decoder.get_frames_at(list(wanted))
        except (RuntimeError, ValueError, IndexError) as error:
            reason = str(error).strip().splitlines()[0]
            raise VideoError(path, "corrupt", f"torchcodec failed ({reason}): try decoder=pyav") from None
        times = batch.pts_seconds.numpy() - decoder.metadata.begin_stream_seconds_from_content
    if decoder.metadata.num_frames != len(table.times) or np.abs(times - table.times[list(wanted)]).max() > 1e-6:
        raise VideoError(path, "unsupported", "torchcodec counts or times its frames differently: use decoder=pyav")
    return dict(zip(wanted, batch.data))
