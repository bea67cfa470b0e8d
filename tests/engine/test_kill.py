"""kill -9 at random moments: in a step, in a write, in a validation."""

import random
import time

import pytest

from tests.engine.processes import start
from tests.engine.test_trainer import assert_same_bits, rows, weights

SETTINGS = {"epochs": 8, "checkpoint_every": 2, "log_every": 1}  # 64 steps, 8 validations, 32 checkpoints


def lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_again_and_again_a_run_ends_with_the_bits_of_an_undisturbed_one(tmp_path, kills):
    whole = start(tmp_path / "whole", **SETTINGS)
    moments = random.Random(kills)
    for kill in range(kills):
        process = start(tmp_path / "parts", **SETTINGS)
        reached = 60 * (kill + moments.random()) / kills  # rows of the log, of 72
        while process.is_alive() and lines(tmp_path / "parts" / "metrics.jsonl") < reached:
            time.sleep(0.0005)
        time.sleep(moments.uniform(0, 0.03))  # two or three steps: anywhere within them
        process.kill()
        process.join()
        assert process.exitcode == -9
    last = start(tmp_path / "parts", **SETTINGS)
    for process in (whole, last):
        process.join()
        assert process.exitcode == 0
    assert_same_bits(weights(tmp_path / "parts"), weights(tmp_path / "whole"))
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert not list((tmp_path / "parts" / "checkpoints").glob(".*"))
