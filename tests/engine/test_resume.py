import logging

import pytest
import torch

from ssmvid.engine import checkpoint, resume
from ssmvid.engine.checkpoint import CheckpointError
from ssmvid.engine.resume import ResumeError


@pytest.fixture
def root(tmp_path):
    for step in (3, 6):
        checkpoint.write(tmp_path, step, {"model": {"a": torch.ones(4)}}, {"state": {"step": step}})
    return tmp_path


def damage(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_auto_takes_the_newest_or_starts_anew(root, tmp_path):
    found = resume.find("auto", root)
    assert found is not None
    assert found.documents["state"] == {"step": 6}
    assert resume.find("auto", tmp_path / "elsewhere") is None


def test_auto_says_loudly_which_checkpoint_it_refused_and_why_and_keeps_it(root, caplog):
    damage(root / "step_00000006")
    with caplog.at_level(logging.ERROR):
        found = resume.find("auto", root)
    assert found is not None
    assert found.documents["state"] == {"step": 3}
    assert "REFUSED step_00000006" in caplog.text
    assert "model.safetensors" in caplog.text
    assert "continuing from" in caplog.text
    assert (root / "refused-step_00000006" / "model.safetensors").exists()


def test_auto_does_not_start_anew_where_every_checkpoint_is_damaged(root):
    for folder in checkpoint.complete(root):
        damage(folder)
    with pytest.raises(ResumeError, match=r"(?s)no sound checkpoint.*step_00000006.*step_00000003.*run=ANOTHER_NAME"):
        resume.find("auto", root)


def test_a_damaged_checkpoint_asked_for_by_name_is_an_error(root):
    damage(root / "step_00000006")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        resume.find(str(root / "step_00000006"), root)
    assert resume.find(str(root / "step_00000003"), root) is not None


def test_none_does_not_overwrite_a_run(root, tmp_path):
    with pytest.raises(ResumeError, match="resume=none would overwrite"):
        resume.find("none", root)
    assert resume.find("none", tmp_path / "elsewhere") is None


CONFIG = {"run": "x", "optim": {"lr": 1e-3}, "trainer": {"workers": 0, "epochs": 3}, "log": {}, "orders": ["thw"]}


def test_the_same_config_and_harmless_changes_pass():
    resume.check_config(CONFIG, CONFIG)
    changed = CONFIG | {"run": "y", "log": {"wandb": {"project": "p"}}, "trainer": {"workers": 4, "epochs": 3}}
    resume.check_config(CONFIG, changed)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"optim": {"lr": 1e-2}}, r"optim\.lr: 0\.001 in the checkpoint, 0\.01 now"),
        ({"orders": ["hwt"]}, r"orders: \['thw'\] in the checkpoint, \['hwt'\] now"),
        ({"task": {"label_smoothing": 0.1}}, r"task\.label_smoothing: '\(absent\)' in the checkpoint, 0\.1 now"),
    ],
)
def test_another_config_is_refused_with_the_keys(change, line):
    with pytest.raises(ResumeError, match=line):
        resume.check_config(CONFIG, CONFIG | change)
