"""docs/lmm.md: its example runs, and its table names every connector."""

import re
from pathlib import Path

from tests.lmm.connectors import NAMES

TEXT = (Path(__file__).parents[2] / "docs" / "lmm.md").read_text()


def test_the_example_runs():
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)[1], names)
    assert names["tokens"].shape == (1, names["encoder"].num_tokens(16, 112, 112), 896)


def test_every_connector_is_in_the_table():
    table = re.findall(r"^\| (`.*?) \|", TEXT, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(table))) == NAMES
