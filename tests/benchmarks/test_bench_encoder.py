"""The encoder benchmark: rows of both encoders, and no row where a stream is not the whole clip."""

import json

import bench_encoder
import pytest
import report
from hydra import compose, initialize_config_dir


@pytest.fixture
def settings():
    with initialize_config_dir(str(report.ROOT / "benchmarks"), version_base="1.3"):
        yield lambda *overrides: compose("bench_encoder", overrides=["size=32", "part=4", "seconds=0.01", *overrides])


def test_both_encoders_have_a_row_a_length(settings, capsys):
    rows = list(bench_encoder.measured(settings("frames=[4,8]")))
    assert [(row["backend"], row["frames"], row["tokens"]) for row in rows] == [
        ("multiscan_tiny", 4, 16), ("joint attention", 4, 16), ("multiscan_tiny", 8, 32), ("joint attention", 8, 32),
    ]  # fmt: skip
    assert all(row["ms"] > 0 and json.dumps(row) for row in rows)
    assert capsys.readouterr().out.count("tokens/s") == 4


def test_what_is_too_slow_is_named_and_left_out(settings, capsys):
    rows = list(bench_encoder.measured(settings("frames=[4,8]", "limit=0")))
    assert [row["frames"] for row in rows] == [4, 4]
    assert "takes over 0 s a clip at a shorter length" in capsys.readouterr().out


def test_a_stream_that_differs_has_no_row(settings, monkeypatch):
    right = bench_encoder.streamed
    monkeypatch.setattr(bench_encoder, "streamed", lambda *given: right(*given) + 0.01)
    with pytest.raises(AssertionError, match="not close"):
        next(bench_encoder.measured(settings("frames=[4]")))
