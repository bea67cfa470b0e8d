"""docs/models.md has every registered model, with its parameters and what holds it to the released code."""

import fnmatch
import importlib.util
import re
from pathlib import Path

import torch

import ssmvid
from tests.backbones.test_official import COUNTS, GOLDENS

DOCS = Path(__file__).parents[2] / "docs"
LINES = [line.split(" | ") for line in (DOCS / "models.md").read_text().splitlines() if line.startswith("| `")]
ROWS = {cells[0].strip("| `"): [cell.strip() for cell in cells] for cells in LINES}


def script():
    spec = importlib.util.spec_from_file_location("make_models", DOCS / "make_models.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_model_is_on_the_page():
    assert list(ROWS) == script().names()
    assert {name.partition(".")[0] for name in ROWS} == set(ssmvid.list_models())


def test_parameters_are_those_of_the_models():
    counted = {}
    for name in ROWS:
        with torch.device("meta"):
            model = ssmvid.create_model(name)
        counted[name] = sum(parameter.numel() for parameter in model.parameters())
    assert {name: int(cells[2].replace(",", "")) for name, cells in ROWS.items()} == counted
    assert {name for name, cells in ROWS.items() if cells[3] == "released"} == COUNTS.keys()


def test_outputs_said_to_be_held_are():
    proven = script().PROVEN
    assert proven.keys() == GOLDENS.keys()
    for golden, pattern in proven.items():
        assert fnmatch.fnmatch(GOLDENS[golden][0], pattern), golden
    assert {cells[8] for cells in ROWS.values()} <= {"", *GOLDENS}


def test_a_row_is_what_the_script_writes():
    """Of a model quick to count: its operations as well, and the time that was measured."""
    written = script().row("local_vim_tiny")
    assert written in (DOCS / "models.md").read_text()
    assert all(float(number) > 0 for number in re.findall(r"\d+\.\d+", written))
