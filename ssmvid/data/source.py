"""Opening a video file so that FFmpeg can read this one file and nothing else."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import BinaryIO

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from ssmvid.data.errors import VideoError

MAX_PIXELS = 2**26  # a frame; 8192 x 8192
PathArg = str | PathLike[str]

# Demuxers of single files. Absent on purpose: hls, dash, concat, image sequences, devices, which open other resources.
FORMATS = (
    "3g2,3gp,aac,asf,av1,avi,flac,flv,gif,h264,hevc,ivf,m4a,m4v,matroska,mj2,mov,mp3,mp4,mpeg,mpegts,mpegvideo,mxf,nut,"
    "obu,ogg,wav,webm,wtv"
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:|subfile,")
_PLAYLIST = re.compile(
    rb"\s*(?:\xef\xbb\xbf)?\s*(?:#EXTM3U|ffconcat|\[playlist\]|<smil|<asx|(?:<\?xml[^>]*>\s*)?<MPD)", re.I
)
_IMAGES = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_BOXES = {
    b"ftyp",
    b"styp",
    b"moov",
    b"moof",
    b"mdat",
    b"mfra",
    b"free",
    b"skip",
    b"wide",
    b"sidx",
    b"uuid",
    b"meta",
    b"udta",
}
_MAGICS = (
    b"\x1a\x45\xdf\xa3",
    b"RIFF",
    b"OggS",
    b"FLV",
    b"GIF8",
    b"\x30\x26\xb2\x75",
    b"\0\0\1\xba",
    b"\0\0\1\xb3",
    b"G",
)


def open_local(path: PathArg) -> BinaryIO:
    """Open a regular local file for reading; Python opens it, so no part of its name can mean a protocol.

    Raises:
        VideoError: refused (a URL or FFmpeg protocol), missing (no such file, a folder, a device, no permission).
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            return open(path, "rb")
    except (OSError, ValueError) as error:
        if _SCHEME.match(os.fspath(path)):
            hint = "URLs and protocols are not opened: download the video and give its local path"
            raise VideoError(path, "refused", hint) from None
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise VideoError(path, "missing", f"cannot be opened ({reason})") from None
    what = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
    raise VideoError(path, "missing", f"this is {what}: a regular file is needed")


@contextmanager
def open_video(
    path: PathArg, *, max_pixels: int = MAX_PIXELS, threads: int = 1
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the best video stream of a local file, and close it again.

    Args:
        path: A local file.
        max_pixels: The most pixels a frame may have, checked in the header before decoding, and by the decoder.
        threads: Decoding threads; 0 takes one a core. 1 in loader workers: FFmpeg's own threads there can deadlock.

    Raises:
        VideoError: missing, refused, not_media, truncated, corrupt, no_video, unsupported, empty, too_large.
    """
    with open_local(path) as file:
        _check_bytes(path, file)
        limits = {"max_pixels": str(max_pixels), "err_detect": "explode"}  # a damaged frame is an error, not a guess
        guard = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
        try:
            container = av.open(
                file, options=limits, container_options=guard, metadata_errors="replace", buffer_size=2**18
            )
        except (FFmpegError, OSError) as error:
            raise VideoError(path, *_why_not_opened(file, error)) from None
        with container:
            yield container, _video_stream(path, container, max_pixels, threads)


def _video_stream(path: PathArg, container: InputContainer, max_pixels: int, threads: int) -> VideoStream:
    if not container.streams:
        raise VideoError(path, "empty", "the container holds no stream at all")
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not videos:
        kinds = ", ".join(sorted({s.type for s in container.streams}))
        raise VideoError(path, "no_video", f"no video stream, only: {kinds}")
    best = container.streams.best("video")
    stream = best if best in videos else videos[0]
    if stream.codec_context is None:
        raise VideoError(path, "unsupported", "no decoder for this video codec: re-encode it, for instance to H.264")
    check_pixels(path, stream.width, stream.height, max_pixels)
    stream.thread_type = "NONE" if threads == 1 else "AUTO"
    stream.codec_context.thread_count = threads
    return stream


def check_pixels(path: PathArg, width: int, height: int, max_pixels: int) -> None:
    """Raise VideoError too_large where a frame has more than `max_pixels`."""
    if width * height > max_pixels:
        hint = f"{width} x {height} pixels a frame, at most {max_pixels} are allowed: scale it down or raise max_pixels"
        raise VideoError(path, "too_large", hint)


def _check_bytes(path: PathArg, file: BinaryIO) -> None:
    """Refuse what the first bytes and the declared sizes already tell."""
    head = file.read(4096)
    size = os.fstat(file.fileno()).st_size
    if _PLAYLIST.match(head):
        raise VideoError(
            path, "refused", "a playlist or concat script, whatever its name: give the video files themselves"
        )
    if not head:
        raise VideoError(path, "not_media", "the file has 0 bytes")
    image = next((name for magic, name in _IMAGES.items() if head.startswith(magic)), None)
    if image:
        raise VideoError(path, "not_media", f"a still image ({image}), not a video")
    declared = _declared_size(file, head, size)
    if head.startswith(b"GIF8"):
        file.seek(-min(size, 4096), os.SEEK_END)
        declared += not file.read().rstrip(b"\0").endswith(b";")  # the trailer (GIF89a, section 27) is missing
    file.seek(0)
    if declared > size:
        hint = f"the container declares {declared} bytes or more, the file has {size}: copy or download it again"
        raise VideoError(path, "truncated", hint)


def _declared_size(file: BinaryIO, head: bytes, size: int) -> int:
    """Bytes the container says it has; `size` where it does not say."""
    if head[4:8] in _BOXES:
        return _end_of_boxes(file, size)
    if head[:4] == b"RIFF":
        return 8 + int.from_bytes(head[4:8], "little")
    if head[:4] == b"\x1a\x45\xdf\xa3":  # Matroska: the EBML header, then one Segment
        start, length = _ebml_size(head, 4)
        segment = start + (length or 0)
        if head[segment : segment + 4] == b"\x18\x53\x80\x67":
            start, length = _ebml_size(head, segment + 4)
            return size if length is None else start + length
    return size


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """Where the last top-level ISO box (ISO/IEC 14496-12, 4.2) ends; trailing bytes that are no box are not counted."""
    end = 0
    while end < size:
        file.seek(end)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if header[4:8] not in _BOXES or length == 0:  # 0: the box reaches to the end of the file
            return max(end, size)
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        end += max(length, 8)
    return end


def _ebml_size(head: bytes, at: int) -> tuple[int, int | None]:
    """A Matroska element size (RFC 8794, section 6): where the data begins, and its bytes, None for unknown."""
    first = head[at] if at < len(head) else 0
    width = 9 - first.bit_length()
    if width > 8:
        return at, None
    value = int.from_bytes(head[at : at + width], "big") & (1 << 7 * width) - 1
    return at + width, None if value == (1 << 7 * width) - 1 else value


def _why_not_opened(file: BinaryIO, error: Exception) -> tuple[str, str]:
    """Kind and hint of a file that FFmpeg could not open."""
    file.seek(0)
    head = file.read(4096)
    if isinstance(error, MemoryError):
        return "too_large", "its header asks for more memory than there is"
    if head[4:8] in _BOXES and not _has_box(file, b"moov"):
        return "truncated", "the index (moov box) is missing: the recording or copy was cut off; copy it again"
    if head[4:8] in _BOXES or head.startswith(_MAGICS):
        return "corrupt", "it begins like a video, but its header cannot be read: copy or encode it again"
    return "not_media", f"its first bytes ({head[:12]!r}) are of no video container: check what was downloaded"


def _has_box(file: BinaryIO, name: bytes) -> bool:
    at = 0
    while True:
        file.seek(at)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if header[4:8] == name:
            return True
        if header[4:8] not in _BOXES or length == 0:
            return False
        at += max(int.from_bytes(header[8:16], "big") if length == 1 else length, 8)
