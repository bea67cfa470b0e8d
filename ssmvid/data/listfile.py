"""Text lists of videos: one `path label` a line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HEADER_WORDS = {"label", "labels", "class", "class_id", "class_index", "target", "category"}
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(concat|data|pipe|crypto|async|cache|fd):")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and where.

    Attributes:
        file: The list, or the video.
        line: Line of the list, from 1; None where the place is a file.
        kind: What sort of fault: a kind of `VideoError`, or 'line', 'label', 'duplicate', 'ignored'.
        reason: What was found and what to do, in one line.
        fatal: False where it is only worth knowing.
    """

    file: str
    line: int | None
    kind: str
    reason: str
    fatal: bool = True

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.reason}"


@dataclass(frozen=True)
class Line:
    """A good line: its number, the path relative to the root (absolute where it leads out of it), the label."""

    number: int
    path: str
    label: int


def read_list(
    file: Path, *, root: Path, num_classes: int | None = None, allow_outside_root: bool = False
) -> tuple[list[Line], list[Finding]]:
    """Read a list of videos; what is broken comes back as findings, line by line.

    The label is what stands after the last tab, comma or blank; everything before it is the path, so paths may hold
    blanks and commas. A path may be quoted as in CSV. UTF-8, with or without a byte-order mark, any line ends; empty
    lines and a header line are passed over.

    Args:
        file: The list.
        root: The folder that relative paths start from, resolved.
        num_classes: Labels must be below it; None allows any.
        allow_outside_root: Take absolute paths, `../` and links that lead out of root.

    Raises:
        ValueError: the file is not UTF-8 text.
    """
    lines: list[Line] = []
    findings: list[Finding] = []
    first: dict[str, Line] = {}
    for number, text in _numbered(file):
        try:
            name, label = _parse(text, num_classes)
            line = Line(number, _inside(name, root, allow_outside_root), label)
            seen = first.setdefault(line.path, line)
            if seen is not line:
                says = "" if seen.label == label else f", there with label {seen.label}"
                raise _Broken("duplicate", f"{line.path} is in line {seen.number} already{says}: keep one")
        except _Broken as broken:
            findings.append(Finding(str(file), number, broken.kind, broken.reason))
        else:
            lines.append(line)
    return lines, findings


class _Broken(Exception):
    def __init__(self, kind: str, reason: str) -> None:
        self.kind, self.reason = kind, reason
        super().__init__(kind, reason)


def _numbered(file: Path) -> Iterator[tuple[int, str]]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: a list must be UTF-8 text: byte {error.start} is not") from None
    header = True
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        line = line.strip(" ")
        if not line.strip():
            continue
        if not (header and _split(line)[1].strip("\"' ").lower() in _HEADER_WORDS):
            yield number, line
        header = False


def _split(line: str) -> tuple[str, str]:
    """(path, label) as written; the label is '' where the line has one field only."""
    if line.startswith('"'):  # "path, with ""anything""",label
        quoted = re.fullmatch(r'"((?:[^"]|"")*)"[ \t]*[,\t ][ \t]*(.*)', line)
        if quoted:
            return quoted[1].replace('""', '"'), quoted[2].strip()
    for delimiter in ("\t", ",", " "):
        path, found, label = line.rpartition(delimiter)
        label = label.strip()
        if found and label and " " not in label:
            return path.strip(), label
    return line, ""


def _parse(line: str, num_classes: int | None) -> tuple[str, int]:
    path, label = _split(line)
    label = label[1:-1] if len(label) > 1 and label[0] == label[-1] == '"' else label
    if not label or not path:
        raise _Broken("line", f"expected `path label`, got {line!r}")
    if not re.fullmatch(r"[+-]?[0-9]+", label):
        raise _Broken("label", f"the label must be a whole number, got {label!r}")
    if int(label) < 0 or (num_classes is not None and int(label) >= num_classes):
        below = "" if num_classes is None else f" < {num_classes}"
        raise _Broken("label", f"the label must be 0 <= label{below}, got {int(label)}")
    return path, int(label)


def _inside(name: str, root: Path, allow_outside_root: bool) -> str:
    """The path relative to root, with forward slashes."""
    if _URL.match(name) and not os.path.exists(root / name):
        raise _Broken("refused", f"{name} is a URL: download the video and give its local path")
    if "\0" in name:
        raise _Broken("line", "the path holds a zero byte")
    path = Path(os.path.normpath(root / name))
    if path.is_relative_to(root) and (allow_outside_root or Path(os.path.realpath(path)).is_relative_to(root)):
        return path.relative_to(root).as_posix()
    if allow_outside_root:
        return path.as_posix()
    raise _Broken("refused", f"{name} leads out of {root}: set allow_outside_root if that is meant")
