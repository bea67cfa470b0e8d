import json
import shutil

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssmvid.engine import TensorBoardLog, WandbLog
from ssmvid.engine.log import FileLog, read_rows
from tests.engine.fakes import fit


def row(kind, step, **numbers):
    return {"kind": kind, "step": step, "loss": 1.5} | numbers


def test_both_files_are_cut_back_to_the_step_and_validation_that_count(tmp_path):
    log = FileLog(tmp_path)
    log.open(0, 0)
    for written in (row("train", 1), row("train", 2), row("val", 2), row("train", 3), row("train", 4), row("val", 4)):
        log.write(written)
    with log.jsonl.open("a") as file:
        file.write('{"kind": "train", "st')  # killed in the middle of a line
    log.open(step=4, validated=2)
    assert [(line["kind"], line["step"]) for line in read_rows(log.jsonl)] == [
        ("train", 1), ("train", 2), ("val", 2), ("train", 3), ("train", 4),
    ]  # fmt: skip
    assert [line.split(",")[:2] for line in log.csv.read_text().splitlines()[1:]] == [
        ["train", "1"], ["train", "2"], ["val", "2"], ["train", "3"], ["train", "4"],
    ]  # fmt: skip


def test_every_line_is_json_even_of_what_is_not_finite(tmp_path):
    log = FileLog(tmp_path)
    log.open(0, 0)
    log.write(row("train", 1, grad_norm=float("inf"), top1=float("nan")))
    line = log.jsonl.read_text()
    assert json.loads(line, parse_constant=pytest.fail) == row("train", 1, grad_norm=None, top1=None)


def test_a_broken_line_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl:2: not a row"):
        read_rows(tmp_path / "metrics.jsonl")


def test_tensorboard_takes_the_numbers_of_the_run(tmp_path):
    fit(tmp_path, epochs=1, trackers=[TensorBoardLog()])
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    written = {line["step"]: line["loss"] for line in read_rows(tmp_path / "metrics.jsonl") if line["kind"] == "train"}
    read = {event.step: event.value for event in events.Scalars("train/loss")}
    assert read == pytest.approx(written)
    assert [event.step for event in events.Scalars("val/top1")] == [8]


def test_wandb_without_a_key_writes_offline_and_a_resumed_run_keeps_its_id(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    ids = []
    for _ in range(2):
        fit(tmp_path / "run", epochs=1, trackers=[WandbLog(project="test", entity=None)])
        (offline,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
        ids.append(offline.name.rpartition("-")[2])
        assert list(offline.glob("run-*.wandb"))
        shutil.rmtree(tmp_path / "run")
    assert ids[0] == ids[1]
