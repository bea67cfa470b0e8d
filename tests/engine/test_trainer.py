import json
import logging
import os
import signal

import pytest
import torch

from ssmvid.engine import NonFiniteLoss, ResumeError, checkpoint
from ssmvid.engine.log import COLUMNS, read_rows
from tests.engine.fakes import Numbers, fit


def weights(folder):
    """Model, moving average and optimizer of the newest checkpoint."""
    return checkpoint.read(checkpoint.complete(folder / "checkpoints")[-1]).tensors


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for file in one:
        assert one[file].keys() == other[file].keys()
        assert all(torch.equal(one[file][name], other[file][name]) for name in one[file])


def rows(folder):
    """The rows of the log without their clock."""
    clock = ("clips_per_s", "tokens_per_s", "peak_mib", "minutes")
    return [
        {name: value for name, value in row.items() if name not in clock} for row in read_rows(folder / "metrics.jsonl")
    ]


def assert_rows_close(some, others):
    for one, other in zip(some, others, strict=True):
        assert one.pop("kind") == other.pop("kind")
        assert one == pytest.approx(other, rel=1e-3)


class Stop(Numbers):
    """Sends this process a signal when it comes to the clip at `place` of all that are asked for."""

    def __init__(self, place, number=signal.SIGTERM):
        super().__init__()
        self.place, self.number = place, number

    def __getitem__(self, key):
        if len(self.seen) == self.place:
            os.kill(os.getpid(), self.number)
        return super().__getitem__(key)


def test_a_run_leaves_what_a_user_looks_for(tmp_path):
    numbers = fit(tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary == numbers
    assert {"val/top1", "val/top5", "n_ok", "n_failed", "minutes", "steps", "params", "seed", "versions"} <= set(
        summary
    )
    assert (summary["n_ok"], summary["n_failed"], summary["steps"]) == (20, 0, 24)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert len(lines) - 1 == len(rows(tmp_path)) == 15
    assert [row["step"] for row in rows(tmp_path) if row["kind"] == "val"] == [8, 16, 24]
    kept = checkpoint.complete(tmp_path / "checkpoints")
    assert [checkpoint.step_of(folder) for folder in kept] == sorted({21, 24, summary["best/step"]})
    assert not list(tmp_path.rglob("*.pt")) + list(tmp_path.rglob("*.pkl"))


def test_a_finished_run_is_not_run_again(tmp_path):
    first, data = fit(tmp_path), Numbers()
    assert fit(tmp_path, train=data) == first
    assert data.seen == []


@pytest.mark.parametrize(
    ("place", "number"),  # in the first step, within an epoch, in the last step of one
    [(0, signal.SIGINT), (30, signal.SIGUSR1), (63, signal.SIGTERM)],
)
def test_a_signal_saves_at_the_next_step_and_the_rest_is_bit_for_bit(tmp_path, place, number):
    fit(tmp_path / "whole")
    data = Stop(place, number)
    with pytest.raises(SystemExit) as stopped:
        fit(tmp_path / "parts", train=data)
    assert stopped.value.code == 128 + number
    assert len(data.seen) == (place // 8 + 1) * 8  # not one batch after the signal
    assert not (tmp_path / "parts" / "summary.json").exists()
    fit(tmp_path / "parts", train=Numbers())
    assert_same_bits(weights(tmp_path / "parts"), weights(tmp_path / "whole"))
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


def test_a_signal_at_the_last_step_leaves_only_the_validation_to_do(tmp_path):
    with pytest.raises(SystemExit):
        fit(tmp_path, train=Stop(3 * 64 - 1))
    assert [row["step"] for row in rows(tmp_path) if row["kind"] == "val"] == [8, 16]
    data = Numbers()
    summary = fit(tmp_path, train=data)
    assert data.seen == []
    assert [row["step"] for row in rows(tmp_path) if row["kind"] == "val"] == [8, 16, 24]
    assert fit(tmp_path) == summary


def test_resume_goes_through_the_samples_that_were_left(tmp_path):
    whole, first, rest = Numbers(), Stop(100), Numbers()
    fit(tmp_path / "whole", train=whole)
    with pytest.raises(SystemExit):
        fit(tmp_path / "parts", train=first)
    fit(tmp_path / "parts", train=rest)
    assert first.seen + rest.seen == whole.seen


def test_another_config_is_refused_and_nothing_is_touched(tmp_path):
    with pytest.raises(SystemExit):
        fit(tmp_path, train=Stop(30))
    before = weights(tmp_path), rows(tmp_path)
    with pytest.raises(ResumeError, match=r"trainer\.batch_size: 8 in the checkpoint, 16 now"):
        fit(tmp_path, batch_size=16)
    assert_same_bits(weights(tmp_path), before[0])
    assert rows(tmp_path) == before[1]
    fit(tmp_path, log_every=1, keep_last=5)


def test_accumulated_micro_batches_equal_one_batch_even_with_failed_videos(tmp_path):
    settings = {"dropout": 0.0, "epochs": 2, "ema_decay": None}
    broken = (3, 11, 12, 13, 40)
    fit(tmp_path / "big", train=Numbers(64, broken), batch_size=16, accumulate=1, **settings)
    fit(tmp_path / "small", train=Numbers(64, broken), batch_size=4, accumulate=4, **settings)
    big, small = weights(tmp_path / "big"), weights(tmp_path / "small")
    for name, tensor in big["model"].items():
        torch.testing.assert_close(small["model"][name], tensor, rtol=1e-4, atol=1e-5)
    assert_rows_close(rows(tmp_path / "small"), rows(tmp_path / "big"))


def test_the_last_step_of_an_epoch_takes_the_micro_batches_that_are_left(tmp_path):
    data = Numbers(56)  # 7 micro-batches: steps of 3, 3 and 1
    assert fit(tmp_path, train=data, accumulate=3, epochs=1)["steps"] == 3
    assert len(data.seen) == 56


def test_failed_videos_are_counted_reported_and_wrong_answers(tmp_path, caplog):
    val_broken = (0, 19)
    with caplog.at_level(logging.WARNING):
        summary = fit(tmp_path, train=Numbers(64, broken=(5, 6)), val=Numbers(20, broken=val_broken), epochs=2)
    assert (summary["n_ok"], summary["n_failed"], summary["train/n_failed"]) == (18, 2, 4)
    assert "failed video: 5.mp4: corrupt: made so" in caplog.text
    assert sum(row["n_failed"] for row in rows(tmp_path) if row["kind"] == "train") == 4
    assert sum(row["n_ok"] for row in rows(tmp_path) if row["kind"] == "train") == 124
    correct = summary["val/top1"] * 20
    assert correct == pytest.approx(round(correct))  # of all twenty, not of the eighteen that could be read


def test_a_step_whose_videos_all_failed_changes_nothing_but_the_count(tmp_path):
    summary = fit(tmp_path, train=Numbers(16, broken=tuple(range(16))), epochs=1)
    assert summary["train/n_failed"] == 16
    assert [row["loss"] for row in rows(tmp_path) if row["kind"] == "train"] == [None]


def test_a_nan_stops_the_run_before_the_optimizer_and_names_the_samples(tmp_path):
    data = Numbers(64, nan=(7,))
    with pytest.raises(NonFiniteLoss, match=r"at step \d+, before the optimizer took it"):
        fit(tmp_path, train=data, checkpoint_every=1)
    (report,) = tmp_path.glob("nonfinite_step_*.json")
    found = json.loads(report.read_text())
    assert "7" in found["samples"][0]
    newest = weights(tmp_path)
    assert checkpoint.step_of(checkpoint.complete(tmp_path / "checkpoints")[-1]) == found["step"]
    assert all(torch.isfinite(tensor).all() for named in newest.values() for tensor in named.values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, r"trainer\.epochs must be at least 1, got 0"),
        ({"precision": "int8"}, r"trainer\.precision must be one of fp32, bf16, fp16, got 'int8'"),
        ({"sharding": "fsdp2", "ema_decay": None}, "start it with torchrun"),
        ({"sharding": "fsdp2"}, r"trainer\.ema_decay needs whole weights"),
        ({"batch_size": 100}, "68 training clips do not fill one batch"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, **settings)


def test_bf16_trains(tmp_path):
    assert fit(tmp_path, precision="bf16", epochs=1)["val/loss"] < 2
