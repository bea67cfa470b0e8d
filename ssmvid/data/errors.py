"""The one error a video can cause."""

from __future__ import annotations

from os import PathLike, fspath

KINDS = {
    "missing": "there is no such file, it is a folder, or it cannot be read",
    "refused": "a URL, a playlist, a concat script or a path outside the root: only plain local files are opened",
    "not_media": "the bytes are not a video in any container that is read here",
    "no_video": "a media file without a video stream",
    "unsupported": "a video stream in a codec this build cannot decode",
    "empty": "a video stream without one frame",
    "too_large": "more pixels a frame, or bytes a clip, than allowed",
    "truncated": "the file ends before the video does",
    "corrupt": "the container or the video stream is damaged",
    "resolution_change": "the frame size changes in the middle of the stream",
}


class VideoError(Exception):
    """A video that cannot be used, and why: it never stands for anything but this one file.

    Args:
        path: The file, as it was given.
        kind: One of `KINDS`.
        hint: What was found, and what to do, in one line.
    """

    def __init__(self, path: str | PathLike[str], kind: str, hint: str) -> None:
        assert kind in KINDS, kind
        self.path, self.kind, self.hint = fspath(path), kind, hint
        super().__init__(self.path, kind, hint)  # these three are what pickle hands to a new one

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}: {self.hint}"
