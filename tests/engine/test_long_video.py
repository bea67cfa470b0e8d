"""What the log of a run on long clips tells."""

import json

import pytest

from ssmvid.engine import TensorBoardLog
from ssmvid.engine.log import read_rows
from tests.engine.fakes import digits, fit, long_video


@pytest.mark.parametrize(("policy", "cut"), [("multi_axis", "2 x 1"), ("nested_sqrt", "2 x 8"), ("off", "2 x 8")])
def test_the_log_tells_tokens_peak_and_policy(tmp_path, policy, cut):
    data = {"train": digits(), "val": digits(), "task": lambda: long_video(policy)}
    fit(tmp_path, **data, epochs=2, batch_size=2, log_every=1, trackers=[TensorBoardLog()])
    rows = [row for row in read_rows(tmp_path / "metrics.jsonl") if row["kind"] == "train"]
    assert len(rows) == 8
    for row in rows:
        assert row["memory"] == f"{policy} {cut}"
        assert row["tokens_per_s"] == pytest.approx(32 * row["clips_per_s"])  # 8 frames of 4 tokens
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["memory"] == f"{policy} {cut}"
    assert summary["peak_mib"] == max(row["peak_mib"] for row in rows) > 0
    assert min(row["tokens_per_s"] for row in rows) < summary["tokens_per_s"] < max(r["tokens_per_s"] for r in rows)


def test_a_model_without_tokens_has_none_in_its_log(tmp_path):
    summary = fit(tmp_path, epochs=1)
    assert not {"tokens_per_s", "memory"} & {*summary, *read_rows(tmp_path / "metrics.jsonl")[0]}
