import json
import statistics

import pytest
from omegaconf import OmegaConf

from ssmvid.engine.ablation import WriteTable

TOP1 = {"snake": [0.5, 0.7, 0.6], "thw": [0.9], "slow": []}
QUESTION = {"question": "Which?", "command": "python x", "name": "scan_order", "group": "scan", "metric": "val/top1"}


@pytest.fixture
def sweep(tmp_path):
    for choice, values in TOP1.items():
        for seed in range(max(len(values), 1)):
            run = tmp_path / "sweep" / f"scan={choice},seed={seed}"
            (run / ".hydra").mkdir(parents=True)
            (run / ".hydra" / "hydra.yaml").write_text(
                f"hydra:\n  runtime:\n    choices: {{scan: {choice}, data: x}}\n"
            )
            if values:
                summary = {"val/top1": values[seed], "minutes": 0.5, "params": 12345, "steps": 10}
                summary |= {"device": "a CPU", "commit": "abc", "versions": {"torch": "2", "numba": None}}
                (run / "summary.json").write_text(json.dumps(summary))
    return OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path / "sweep")}}})


def test_the_table_has_mean_and_spread_of_each_choice_best_first(sweep, tmp_path):
    WriteTable(**QUESTION, docs=str(tmp_path / "docs")).on_multirun_end(sweep)
    page = (tmp_path / "docs" / "scan_order.md").read_text()
    table = [line for line in page.splitlines() if line.startswith("| ")]
    assert table == [
        "| scan | runs | val/top1, mean % | spread (std) | minutes a run |",
        "| thw | 1 | 90.00 |  | 0.50 |",
        f"| snake | 3 | 60.00 | {100 * statistics.stdev(TOP1['snake']):.2f} | 0.50 |",
        "| slow | 0 | | | |",
    ]
    assert "Without a result, and not in the numbers: scan=slow,seed=0." in page
    assert all(part in page for part in ("Which?", "    python x", "12,345 parameters", "commit abc", "torch 2"))
    assert (tmp_path / "docs" / "scan_order.png").read_bytes().startswith(b"\x89PNG")


def test_no_table_is_written_from_nothing(sweep, tmp_path):
    for summary in (tmp_path / "sweep").rglob("summary.json"):
        summary.unlink()
    with pytest.raises(ValueError, match=r"no run under .* has a summary\.json"):
        WriteTable(**QUESTION, docs=str(tmp_path / "docs")).on_multirun_end(sweep)
    assert not (tmp_path / "docs").exists()


def test_a_metric_that_the_runs_do_not_have_is_named(sweep, tmp_path):
    with pytest.raises(ValueError, match=r"has no 'val/top2'"):
        WriteTable(**QUESTION | {"metric": "val/top2"}, docs=str(tmp_path / "docs")).on_multirun_end(sweep)
