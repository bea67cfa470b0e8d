"""Which videos a split has, and their labels: from class folders, or from a text list."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssmvid.data.listfile import Finding, Line, read_list
from ssmvid.data.source import PathArg

SPLITS = ("train", "val")
LIST_SUFFIXES = (".csv", ".txt", ".tsv", ".list")
VIDEO_SUFFIXES = (
    *(".3g2", ".3gp", ".avi", ".flv", ".gif", ".h264", ".h265", ".hevc", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)


@dataclass(frozen=True)
class VideoIndex:
    """The videos of one split.

    Attributes:
        root: The folder that paths are relative to, resolved.
        entries: (path relative to root with forward slashes, label), sorted by path; a list's own order is kept.
        class_names: Name of each label, sorted; a checkpoint keeps them.
        findings: What is wrong with the list or the folders, each with its place.
    """

    root: Path
    entries: tuple[tuple[str, int], ...]
    class_names: tuple[str, ...]
    findings: tuple[Finding, ...]


def read_index(
    root: PathArg,
    split: str,
    *,
    val_share: float = 0.2,
    num_classes: int | None = None,
    allow_outside_root: bool = False,
) -> VideoIndex:
    """Find the videos of a split under `root`.

    The first of these that is there decides:

    1. `root/train.csv` and `root/val.csv` (or .txt, .tsv, .list): lines `path label`, see `read_list`;
    2. `root/train/CLASS/...` and `root/val/CLASS/...`;
    3. `root/CLASS/...`: a video is in val when the hash of its relative path falls into `val_share`. It stays there
       whatever other files come or go.

    Args:
        root: The folder.
        split: 'train' or 'val'.
        val_share: Share of the videos that validate, 0 < val_share < 1; layout 3 only.
        num_classes: Labels a list may have; None takes the largest label of both lists + 1. Folders count themselves.
        allow_outside_root: Take lines and links that lead out of root.

    Raises:
        FileNotFoundError: root is no folder.
        ValueError: a setting is out of its range, or no layout is there.
    """
    if split not in SPLITS or not 0 < val_share < 1:
        raise ValueError(f"read_index: split must be one of {SPLITS} and 0 < val_share < 1, got {split!r}, {val_share}")
    if not os.path.isdir(root):
        raise FileNotFoundError(f"read_index: root must be a folder, got {os.fspath(root)!r}: set data.root=DIR")
    base = Path(root).resolve()
    lists = {name: file for name in SPLITS for file in [_list_file(base, name)] if file}
    if lists:
        return _from_lists(base, split, lists, num_classes, allow_outside_root)
    if all((base / name).is_dir() for name in SPLITS):
        return _from_folders(base, split, [base / name for name in SPLITS], allow_outside_root)
    return _from_hash(base, split, val_share, allow_outside_root)


def videos_under(folder: Path) -> Iterator[Path]:
    """Every file below a folder that has a video's suffix, sorted; links to folders are followed once."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if real not in seen else []
        if real in seen:
            continue
        seen.add(real)
        for name in sorted(names):
            if Path(name).suffix.lower() in VIDEO_SUFFIXES and not name.startswith("."):
                yield Path(place, name)


def _list_file(base: Path, split: str) -> Path | None:
    found = [base / f"{split}{suffix}" for suffix in LIST_SUFFIXES if (base / f"{split}{suffix}").is_file()]
    if len(found) > 1:
        raise ValueError(f"read_index: more than one list of {split}: {', '.join(map(str, found))}: keep one")
    return found[0] if found else None


def _from_lists(
    base: Path, split: str, lists: dict[str, Path], num_classes: int | None, allow_outside_root: bool
) -> VideoIndex:
    if len(lists) < 2:
        missing = next(name for name in SPLITS if name not in lists)
        raise ValueError(
            f"read_index: {base} has {lists.popitem()[1].name}, but no list of {missing}: add {missing}.csv"
        )
    read = {
        name: read_list(file, root=base, num_classes=num_classes, allow_outside_root=allow_outside_root)
        for name, file in lists.items()
    }
    findings = [finding for _, found in read.values() for finding in found]
    findings += overlap(lists["val"], read["val"][0], lists["train"], read["train"][0])
    labels = [line.label for lines, _ in read.values() for line in lines]
    names = tuple(str(label) for label in range(num_classes or max(labels, default=-1) + 1))
    entries = tuple((line.path, line.label) for line in read[split][0])
    return VideoIndex(base, entries, names, tuple(findings))


def overlap(val_file: Path, val: Sequence[Line], train_file: Path, train: Sequence[Line]) -> list[Finding]:
    """Videos of the val list that the train list has too."""
    trained = {line.path: line.number for line in train}
    return [
        Finding(
            str(val_file), line.number, "duplicate", f"{line.path} is in {train_file.name}:{trained[line.path]} too"
        )
        for line in val
        if line.path in trained
    ]


def _from_folders(base: Path, split: str, splits: list[Path], allow_outside_root: bool) -> VideoIndex:
    classes = {folder.name: [f.name for f in _class_folders(folder)] for folder in splits}
    names = tuple(sorted(classes["train"]))
    findings = [
        Finding(str(base / "val" / name), None, "label", "a class of val that train does not have")
        for name in sorted(set(classes["val"]) - set(names))
    ]
    pairs = [
        (video, names.index(name))
        for name in sorted(set(classes[split]) & set(names))
        for video in videos_under(base / split / name)
    ]
    return _index(base, pairs, names, findings, allow_outside_root)


def _from_hash(base: Path, split: str, val_share: float, allow_outside_root: bool) -> VideoIndex:
    folders = [folder for folder in _class_folders(base) if any(videos_under(folder))]
    if not folders:
        raise ValueError(
            f"read_index: {base} holds no videos: expected train.csv and val.csv, train/CLASS/ and val/CLASS/, or "
            f"CLASS/video.mp4 (suffixes {' '.join(VIDEO_SUFFIXES)})"
        )
    names = tuple(folder.name for folder in folders)
    pairs = [
        (video, label)
        for label, folder in enumerate(folders)
        for video in videos_under(folder)
        if (_share(video.relative_to(base).as_posix()) < val_share) == (split == "val")
    ]
    return _index(base, pairs, names, [], allow_outside_root)


def _share(path: str) -> float:
    """A number in [0, 1) that depends on the path alone."""
    return int.from_bytes(hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64


def _class_folders(folder: Path) -> list[Path]:
    return sorted((f for f in folder.iterdir() if f.is_dir() and not f.name.startswith(".")), key=lambda f: f.name)


def _index(
    base: Path, pairs: list[tuple[Path, int]], names: tuple[str, ...], findings: list[Finding], allow_outside_root: bool
) -> VideoIndex:
    entries = []
    for video, label in pairs:
        if allow_outside_root or video.resolve().is_relative_to(base):
            entries.append((video.relative_to(base).as_posix(), label))
        else:
            reason = f"a link to {video.resolve()}, outside the root: set allow_outside_root if that is meant"
            findings.append(Finding(str(video), None, "refused", reason))
    return VideoIndex(base, tuple(sorted(entries)), names, tuple(findings))
