"""Checking videos before a run: every line of a list, every file of a folder, every frame."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssmvid.data.decode import frame_times
from ssmvid.data.errors import VideoError
from ssmvid.data.frames import decode, timed
from ssmvid.data.index import LIST_SUFFIXES, SPLITS, VIDEO_SUFFIXES, overlap, read_index
from ssmvid.data.listfile import Finding, Line, read_list
from ssmvid.data.source import MAX_PIXELS, PathArg, open_video


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        findings: Everything that is wrong or worth knowing; `str(finding)` is `file:line: reason` or `file: reason`.
        n_ok: Videos that decode from the first frame to the last.
        n_failed: Videos that do not.
    """

    findings: tuple[Finding, ...]
    n_ok: int
    n_failed: int

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not any(finding.fatal for finding in self.findings)


def check(
    path: PathArg,
    *,
    num_classes: int | None = None,
    allow_outside_root: bool = False,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Check one video, one list, or all of a folder: its lists or class folders, and every video in it, fully decoded.

    Args:
        path: A video, a list (.csv, .txt, .tsv, .list; relative paths start from its folder), or a folder.
        num_classes: Labels a list may have; None allows any.
        allow_outside_root: Take lines and links that lead out of the root.
        max_pixels: The most pixels a frame may have.
        progress: Called with (videos done, videos in all) after each.

    Raises:
        FileNotFoundError: there is no such path.
    """
    given = Path(path)
    if not given.exists():
        raise FileNotFoundError(f"data check: there is no {os.fspath(path)!r}: give a video, a list or a folder")
    if given.is_dir():
        videos, findings = _of_folder(given, num_classes, allow_outside_root)
    elif given.suffix.lower() in LIST_SUFFIXES:
        videos, findings = _of_lists([given], num_classes, allow_outside_root)
    else:
        videos, findings = [(given, str(given), None)], []
    failed = 0
    for done, (video, file, line) in enumerate(videos, start=1):
        try:
            check_video(video, max_pixels=max_pixels)
        except VideoError as error:
            failed += 1
            where = "" if line is None else f"{video}: "
            findings.append(Finding(file, line, error.kind, f"{where}{error.kind}: {error.hint}"))
        if progress is not None:
            progress(done, len(videos))
    return CheckReport(tuple(findings), len(videos) - failed, failed)


def check_video(path: PathArg, *, max_pixels: int = MAX_PIXELS) -> int:
    """Decode a video from the first frame to the last, and compare with what its packets promise; returns its frames.

    Raises:
        VideoError: the file is no usable video; kind and hint say why.
    """
    promised = frame_times(path, max_pixels=max_pixels)
    with open_video(path, max_pixels=max_pixels) as (container, stream):
        frames = timed(decode(path, container, stream, max_pixels, whole=True), stream)
        shown = np.fromiter((time for _, time in frames), np.float64)
    if len(shown) != len(promised) or not np.allclose(shown, promised, rtol=0, atol=1e-6):
        hint = f"the container lists {len(promised)} frames, the decoder shows {len(shown)}, or at other times"
        raise VideoError(path, "corrupt", f"{hint}: encode it again")
    return len(shown)


Video = tuple[Path, str, int | None]  # the file; and where it is named: file, line


def _of_lists(
    lists: list[Path], num_classes: int | None, allow_outside_root: bool
) -> tuple[list[Video], list[Finding]]:
    videos: list[Video] = []
    findings: list[Finding] = []
    read: dict[str, tuple[Path, list[Line]]] = {}
    for file in lists:
        root = file.parent.resolve()
        lines, found = read_list(file, root=root, num_classes=num_classes, allow_outside_root=allow_outside_root)
        findings += found
        videos += [(root / line.path, str(file), line.number) for line in lines]
        read[file.stem] = file, lines
    if set(SPLITS) <= set(read):
        findings += overlap(*read["val"], *read["train"])
    return videos, findings


def _of_folder(folder: Path, num_classes: int | None, allow_outside_root: bool) -> tuple[list[Video], list[Finding]]:
    """The videos of a folder's lists where it has them, else every video file below it."""
    lists = [folder / f"{split}{suffix}" for split in SPLITS for suffix in LIST_SUFFIXES]
    lists = [file for file in lists if file.is_file()]
    if lists:
        return _of_lists(lists, num_classes, allow_outside_root)
    videos: list[Video] = []
    findings: list[Finding] = []
    for file, is_video in _walk(folder):
        if is_video:
            videos.append((file, str(file), None))
        else:
            reason = f"ignored: {file.suffix or 'no suffix'} is not a video's suffix"
            findings.append(Finding(str(file), None, "ignored", reason, fatal=False))
    for split in SPLITS if any(entry.is_dir() for entry in folder.iterdir()) else ():
        index = read_index(folder, split, allow_outside_root=allow_outside_root)
        findings += [finding for finding in index.findings if finding not in findings]
    return videos, findings


def _walk(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Every file below a folder, and whether its suffix is a video's; a folder with such a suffix is taken for one."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        wrong = [name for name in folders if Path(name).suffix.lower() in VIDEO_SUFFIXES]
        for name in sorted(wrong + names):
            yield Path(place, name), Path(name).suffix.lower() in VIDEO_SUFFIXES
