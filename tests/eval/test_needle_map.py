import json
from pathlib import Path

import pytest
import torch
from torch import nn

from ssmvid.data.needles import ANSWERS, VARIANTS, VOCABULARY
from ssmvid.engine import CheckpointError
from ssmvid.eval import Trained, needle_map
from ssmvid.eval.needle_map import table
from tests.needles import Oracle

DATA = {"_target_": "ssmvid.data.Needles", "variant": "single", "split": "val", "frames": 9, "size": 12, "num_clips": 7}
HOW = {"batch_size": 8, "workers": 0, "device": "cpu", "precision": "fp32"}
CELLS = {"lengths": [1, 3], "depths": [0, 0.5, 1], "clips": 20}


class AlwaysSeven(nn.Module):
    def forward(self, frames, labels, questions):
        logits = torch.zeros(len(labels), len(VOCABULARY))
        logits[:, 7] = 1
        return {"loss": torch.ones(()), "logits": logits}


def run(task, tmp_path, data=DATA, names=ANSWERS):
    trained = Trained(task, Path("run"), 3, "model", names, {"model": {"name": "oracle"}})
    return needle_map(trained, data, **CELLS, **HOW, out=tmp_path / "eval.jsonl")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_oracle_scores_all_of_every_cell(variant, tmp_path, capsys):
    assert run(Oracle(), tmp_path, DATA | {"variant": variant}) == {"top1": 1.0}
    rows = [json.loads(line) for line in (tmp_path / "eval.jsonl").read_text().splitlines()]
    assert [(row["depth"], row["frames"]) for row in rows] == [(d, t) for d in (0, 0.5, 1) for t in (9, 27)]
    assert all((row["top1"], row["n_ok"], row["variant"], row["task"]) == (1, 20, variant, "vniah") for row in rows)
    assert (tmp_path / "vniah.png").read_bytes().startswith(b"\x89PNG")
    assert "| mean | 100.0 | 100.0 |" in capsys.readouterr().out


def test_one_answer_to_all_scores_chance(tmp_path):
    assert run(AlwaysSeven(), tmp_path) == {"top1": pytest.approx(0.1)}


def test_other_data_and_other_answers_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"data are 'ssmvid\.data\.MovingDigits': train experiment=vniah_tiny"):
        run(Oracle(), tmp_path, {"_target_": "ssmvid.data.MovingDigits", "frames": 4})
    with pytest.raises(CheckpointError, match="10 classes, the model was trained on 2"):
        run(Oracle(), tmp_path, names=("0", "1"))
    assert not (tmp_path / "eval.jsonl").exists()


def test_the_table_is_the_map():
    text = table(torch.tensor([[1.0, 0.5], [0.25, 0.0]]).numpy(), [32, 64], [0, 1.0])
    assert text.splitlines()[2:] == ["| 0 | 100 | 50 |", "| 1 | 25 | 0 |", "| mean | 62.5 | 25.0 |"]
