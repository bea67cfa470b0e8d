"""A checkpoint is a folder that is either complete or not there: safetensors, JSON and a manifest of SHA-256 sums."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

MANIFEST = "manifest.json"
_PREFIX, _REFUSED = "step_", "refused-"
_TEMPORARY, _REPLACED = ".unfinished-", ".replaced-"  # what a kill may leave behind: see sweep()


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged or does not fit; the message names the file and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """The verified contents of a checkpoint folder.

    `tensors` holds the named tensors of each `*.safetensors`, `documents` the value of each `*.json`, by file stem.
    """

    folder: Path
    tensors: Mapping[str, Mapping[str, Tensor]]
    documents: Mapping[str, Any]


def folder_of(root: Path, step: int) -> Path:
    return root / f"{_PREFIX}{step:08d}"


def step_of(folder: Path) -> int:
    return int(folder.name.removeprefix(_PREFIX))


def complete(root: Path) -> list[Path]:
    """The checkpoints under `root`, oldest first."""
    return sorted(path for path in root.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdigit())


def write(root: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], documents: Mapping[str, Any]) -> Path:
    """Write a checkpoint so that a kill or a power cut at any moment leaves it whole or absent.

    The files go to a temporary folder and reach the disk, the manifest last; one rename then makes it a checkpoint.

    Args:
        root: the folder of this run's checkpoints.
        step: the number of optimizer steps taken; it names the checkpoint.
        tensors: for each file stem, the named tensors of one safetensors file.
        documents: for each file stem, the value of one JSON file.

    Returns: the checkpoint's folder.

    Raises:
        OSError: the disk is full or not writable; earlier checkpoints are untouched.
    """
    target, temporary = folder_of(root, step), root / f"{_TEMPORARY}{step}-{os.getpid()}"
    temporary.mkdir(parents=True)
    try:
        sums = {}
        for stem, named in tensors.items():
            apart = safetensors.torch.save(_apart(named))
            sums[f"{stem}.safetensors"] = _write_file(temporary / f"{stem}.safetensors", apart)
        for stem, value in documents.items():
            sums[f"{stem}.json"] = _write_file(temporary / f"{stem}.json", _json_bytes(value))
        _write_file(temporary / MANIFEST, _manifest_bytes(sums))
        _sync_folder(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    old = target.with_name(f"{_REPLACED}{target.name}")
    if target.exists():
        target.rename(old)
    temporary.rename(target)
    _sync_folder(root)
    if old.exists():
        shutil.rmtree(old)
    return target


def read(folder: Path) -> Checkpoint:
    """Read a checkpoint, every byte of it held against the manifest.

    Raises:
        CheckpointError: a file is missing or differs from its sum; the message names it.
    """
    tensors, documents = {}, {}
    sums = _read_manifest(folder)
    for name in sums:
        content = _verified_bytes(folder, name, sums)
        path = Path(name)
        if path.suffix == ".json":
            documents[path.stem] = json.loads(content)
        else:
            tensors[path.stem] = safetensors.torch.load(content)
    return Checkpoint(folder, tensors, documents)


def verify(folder: Path) -> None:
    """Hold every file of a checkpoint against the manifest.

    Raises:
        CheckpointError: a file is missing or differs from its sum; the message names it.
    """
    sums = _read_manifest(folder)
    for name in sums:
        _verified_bytes(folder, name, sums)


def read_document(folder: Path, stem: str) -> Any:
    """One JSON file of a checkpoint, verified alone.

    Raises:
        CheckpointError: the file is not in the manifest, missing or differs from its sum.
    """
    return json.loads(_verified_bytes(folder, f"{stem}.json", _read_manifest(folder)))


def prune(root: Path, keep_last: int, best_step: int | None) -> None:
    """Remove all but the newest `keep_last` checkpoints and the best one. Call it once the newest is verified."""
    for folder in complete(root)[:-keep_last]:
        if step_of(folder) != best_step:
            discard(folder)


def discard(folder: Path) -> None:
    """Remove a checkpoint: it stops being one in a single rename, so that a kill leaves no half of it."""
    doomed = folder.with_name(f"{_TEMPORARY}{folder.name}-{os.getpid()}")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def set_aside(folder: Path) -> Path:
    """Rename a damaged checkpoint so that nothing takes it for one, and nothing of it is lost."""
    target = folder.with_name(f"{_REFUSED}{folder.name}")
    if target.exists():
        shutil.rmtree(target)
    return folder.rename(target)


def sweep(root: Path) -> None:
    """Mend what killed writers left behind: remove unfinished folders, bring back one that was not yet replaced."""
    for old in root.glob(f"{_REPLACED}*"):
        target = root / old.name.removeprefix(_REPLACED)
        if target.exists():
            shutil.rmtree(old)
        else:
            old.rename(target)
    for folder in root.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(folder)


def _json_bytes(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


def _manifest_bytes(sums: Mapping[str, str]) -> bytes:
    # The sum over the sums guards the manifest itself: read() compares it byte for byte with what it should be.
    return _json_bytes({"files": dict(sums), "sha256": hashlib.sha256(_json_bytes(dict(sums))).hexdigest()})


def _read_manifest(folder: Path) -> dict[str, str]:
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointError(
            f"{folder} is not a complete checkpoint: it has no {MANIFEST}. "
            "Give a folder named step_... under a run's checkpoints/."
        )
    content = path.read_bytes()
    try:
        sums = json.loads(content)["files"]
        intact = _manifest_bytes(sums) == content
    except (ValueError, KeyError, TypeError, AttributeError):
        intact = False
    if not intact:
        raise CheckpointError(_damaged(path, "its content differs from its own SHA-256 sum"))
    return sums


def _verified_bytes(folder: Path, name: str, sums: Mapping[str, str]) -> bytes:
    path = folder / name
    if name not in sums:
        raise CheckpointError(f"{folder} holds no {name}: it has {', '.join(sums)}.")
    if not path.is_file():
        raise CheckpointError(_damaged(path, "the manifest lists it and it is missing"))
    content = path.read_bytes()
    if (got := hashlib.sha256(content).hexdigest()) != sums[name]:
        raise CheckpointError(_damaged(path, f"SHA-256 {got[:16]}..., expected {sums[name][:16]}..."))
    return content


def _damaged(path: Path, why: str) -> str:
    return f"damaged checkpoint file {path}: {why}. Restore it from a copy, or use an earlier checkpoint."


def _apart(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Dense tensors of which no two share memory, as the format wants them: tied weights have one copy a name."""
    apart, taken = {}, set()
    for name, tensor in named.items():
        dense = tensor.contiguous()
        apart[name] = dense.clone() if dense.data_ptr() in taken else dense
        taken.add(dense.data_ptr())
    return apart


def _write_file(path: Path, content: bytes) -> str:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
