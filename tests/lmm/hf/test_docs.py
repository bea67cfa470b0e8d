"""docs/lmm/hugging_face.md: its code runs, and its table has every class of LMM."""

import re
from pathlib import Path

from ssmvid.lmm.hf.plug import PLUG_POINTS
from tests.lmm.hf.tiny import make_tokenizer

TEXT = (Path(__file__).parents[3] / "docs" / "lmm" / "hugging_face.md").read_text()


def test_the_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {"tokenizer": make_tokenizer()}
    for code in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(code, names)
    before, encoder = names["inputs"]["input_ids"], names["encoder"]
    assert (before == names["lmm"].config.video_token_id).sum() == encoder.num_tokens(16, 112, 112)
    assert before.shape[1] < names["answer"].shape[1] <= before.shape[1] + 8


def test_every_class_is_in_the_table():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", TEXT, re.MULTILINE))
    dropped = {point.lmm: [point.tower, *point.behind] for point in PLUG_POINTS.values()}
    assert {lmm: re.findall(r"`(\w+)`", cell) for lmm, cell in rows.items()} == dropped
