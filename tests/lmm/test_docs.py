"""docs/lmm.md: its example runs, and its table names every connector."""

import re
from pathlib import Path

from tests.lmm.connectors import NAMES

TEXT = (Path(__file__).parents[2] / "docs" / "lmm.md").read_text()


def test_the_examples_run():
    names: dict = {}
    for example in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(example, names)
    assert names["tokens"].shape == (1, names["encoder"].num_tokens(16, 112, 112), 896)
    assert names["answer"].shape == names["later"].shape == names["reply"].shape == (1, 8)


def test_every_connector_is_in_the_table():
    table = re.findall(r"^\| (`.*?) \|", TEXT, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(table))) == NAMES
