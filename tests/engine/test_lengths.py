"""Training clips grow longer as the steps go on, whatever interrupts them."""

import os
import signal

import pytest

from ssmvid.data import MovingDigits
from ssmvid.engine.log import read_rows
from tests.engine.fakes import digits, fit, long_video
from tests.engine.test_trainer import assert_same_bits, weights

LENGTHS = [[0, 4], [3, 8], [6, 16]]  # both changes within an epoch of four steps
SETTINGS = {"batch_size": 2, "epochs": 2, "lengths": LENGTHS, "log_every": 1, "ema_decay": None}


class Watched(MovingDigits):
    """Notes each clip that is asked for, and stops the run at the one of number `stop_at`."""

    def __init__(self, stop_at=None, seen=None, **options):
        super().__init__(**options)
        self.stop_at, self.seen = stop_at, [] if seen is None else seen

    def at_length(self, frames):
        return Watched(self.stop_at, self.seen, split="train", frames=frames, size=self.size, num_clips=len(self))

    def __getitem__(self, key):
        self.seen.append((self.frames, key))
        if len(self.seen) == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__getitem__(key)


def watched(stop_at=None):
    return Watched(stop_at, split="train", frames=16, size=16, num_clips=8)


def run(folder, train):
    data = {"train": train, "val": digits(16), "task": lambda: long_video("multi_axis", classes=8)}
    return fit(folder, **data, **SETTINGS)


def test_clips_have_the_length_of_their_step(tmp_path):
    data = watched()
    run(tmp_path, data)
    assert [frames for frames, _ in data.seen] == 6 * [4] + 6 * [8] + 4 * [16]
    assert sorted(index for _, (epoch, index) in data.seen if epoch == 0) == list(range(8))
    rows = [row for row in read_rows(tmp_path / "metrics.jsonl") if row["kind"] == "train"]
    tokens = [row["tokens_per_s"] / row["clips_per_s"] for row in rows]
    assert tokens == pytest.approx(3 * [16] + 3 * [32] + 2 * [64])


@pytest.mark.parametrize("stop_at", [5, 6, 7, 12])
def test_a_run_stopped_around_a_change_goes_on_bit_for_bit(tmp_path, stop_at):
    whole, first, rest = watched(), watched(stop_at), watched()
    run(tmp_path / "whole", whole)
    with pytest.raises(SystemExit):
        run(tmp_path / "parts", first)
    run(tmp_path / "parts", rest)
    assert first.seen + rest.seen == whole.seen
    assert_same_bits(weights(tmp_path / "parts"), weights(tmp_path / "whole"))


@pytest.mark.parametrize("lengths", [[[1, 4]], [[0, 4], [5, 8], [5, 16]], []])
def test_steps_that_do_not_go_on_are_refused(tmp_path, lengths):
    with pytest.raises(ValueError, match=r"trainer\.lengths must begin at step 0 and go on to later ones"):
        fit(tmp_path, lengths=lengths)
