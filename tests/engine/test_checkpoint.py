from pathlib import Path

import pytest
import torch

from ssmvid.engine import checkpoint
from ssmvid.engine.checkpoint import CheckpointError

TENSORS = {
    "model": {"a": torch.randn(3, 5), "b": torch.randn(4, 2).T, "empty": torch.empty(0)},
    "optimizer": {"a/step": torch.tensor(3.0), "a/half": torch.ones(2, dtype=torch.bfloat16)},
}
DOCUMENTS = {"state": {"step": 7, "best": None, "minutes": 0.1}, "class_names": ["a", "b"]}
FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "class_names.json", "manifest.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return checkpoint.write(tmp_path, 7, TENSORS, DOCUMENTS)


def test_what_was_written_is_read_back_bit_for_bit(folder):
    saved = checkpoint.read(folder)
    assert folder.name == "step_00000007"
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert saved.documents == DOCUMENTS
    for file, named in TENSORS.items():
        assert saved.tensors[file].keys() == named.keys()
        assert all(torch.equal(saved.tensors[file][name], tensor) for name, tensor in named.items())


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_byte_is_refused_with_the_files_name(folder, name):
    whole = (folder / name).read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 40)):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        (folder / name).write_bytes(damaged)
        for read in (checkpoint.read, checkpoint.verify):
            with pytest.raises(CheckpointError, match=name):
                read(folder)
    (folder / name).write_bytes(whole)
    checkpoint.verify(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_cut_file_is_refused_with_its_name(folder, name):
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match=name):
        checkpoint.read(folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        checkpoint.read(folder)


def test_a_disk_that_fills_up_leaves_the_earlier_checkpoint_and_nothing_else(folder, monkeypatch):
    calls = 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(folder.parent, 8, TENSORS, DOCUMENTS)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    checkpoint.verify(folder)


def test_a_checkpoint_of_the_same_step_is_replaced(folder):
    checkpoint.write(folder.parent, 7, TENSORS, {"state": {"step": 7, "validated": True}})
    assert checkpoint.read(folder).documents == {"state": {"step": 7, "validated": True}}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_sweep_mends_what_a_kill_left_behind(folder):
    root = folder.parent
    (root / ".unfinished-8-1").mkdir()
    (root / ".unfinished-8-1" / "model.safetensors").write_bytes(b"half")
    folder.rename(root / ".replaced-step_00000007")  # killed between the two renames
    checkpoint.sweep(root)
    assert [path.name for path in root.iterdir()] == ["step_00000007"]
    checkpoint.verify(folder)


def test_prune_keeps_the_newest_and_the_best(tmp_path):
    for step in (1, 2, 10, 20, 100):
        checkpoint.write(tmp_path, step, {}, {"state": step})
    checkpoint.prune(tmp_path, keep_last=2, best_step=2)
    assert [checkpoint.step_of(path) for path in checkpoint.complete(tmp_path)] == [2, 20, 100]


def test_a_folder_that_is_no_checkpoint_says_so(tmp_path):
    with pytest.raises(CheckpointError, match=r"not a complete checkpoint: it has no manifest.json"):
        checkpoint.read(tmp_path)
