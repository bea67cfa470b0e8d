"""Two ranks on gloo give the numbers of one, and one folder."""

from functools import partial

import pytest
import torch

from ssmvid.engine import checkpoint
from tests.engine.fakes import Numbers, digits, fit, long_video
from tests.engine.processes import run_ranks
from tests.engine.test_trainer import assert_rows_close, rows, weights

QUIET = {"dropout": 0.0, "ema_decay": None, "epochs": 2}  # dropout draws other numbers on each rank


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def assert_close(one, other):
    for name, tensor in one["model"].items():
        torch.testing.assert_close(other["model"][name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sharding", ["ddp", "fsdp2"])
def test_two_ranks_equal_one_and_only_the_first_writes(tmp_path, sharding):
    data = {"train": Numbers(64, broken=(1, 2, 3, 50)), "val": Numbers(21, broken=(20,))}
    fit(tmp_path / "one", **data, **QUIET)
    run_ranks(tmp_path / "two", 2, sharding=sharding, **data, **QUIET)
    assert_close(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert_rows_close(rows(tmp_path / "two"), rows(tmp_path / "one"))
    assert files(tmp_path / "two") == files(tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_run_of_two_ranks_goes_on_with_one(tmp_path):
    run_ranks(tmp_path / "run", 2, **QUIET)
    expected = weights(tmp_path / "run")
    root = tmp_path / "run" / "checkpoints"
    for folder in checkpoint.complete(root)[1:]:
        checkpoint.discard(folder)
    (tmp_path / "run" / "summary.json").unlink()
    fit(tmp_path / "run", **QUIET)
    assert_close(expected, weights(tmp_path / "run"))


CLIPS = {"train": digits(), "val": digits(num_clips=5), "ema_decay": None, "epochs": 2, "batch_size": 4, "log_every": 1}


@pytest.mark.parametrize(
    ("size", "sharding", "task"),
    [
        (2, "ddp", partial(long_video, "nested_sqrt", causal_frames=3)),  # three frames here, five there
        (2, "fsdp2", partial(long_video, "off", "SA", None)),
        pytest.param(4, "ddp", partial(long_video, "every_layer"), marks=pytest.mark.slow),
    ],
)
def test_ranks_that_share_clips_out_equal_one(tmp_path, size, sharding, task):
    fit(tmp_path / "one", task=task, **CLIPS)
    run_ranks(tmp_path / "ranks", size, task=task, sharding=sharding, context=2, **CLIPS)
    one, ranks = weights(tmp_path / "one")["model"], weights(tmp_path / "ranks")["model"]
    for name, tensor in one.items():
        torch.testing.assert_close(ranks[name], tensor, rtol=1e-5, atol=1e-5, msg=name)
    for here, there in zip(rows(tmp_path / "ranks"), rows(tmp_path / "one"), strict=True):
        assert here["loss"] == pytest.approx(there["loss"], rel=1e-5)
        assert [here[name] for name in ("top1", "n_ok", "n_failed")] == [
            there[name] for name in ("top1", "n_ok", "n_failed")
        ]
