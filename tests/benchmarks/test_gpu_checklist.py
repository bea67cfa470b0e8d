"""The GPU checklist without a GPU: what it lists, how it goes on, and its checks, on the CPU kernels."""

import json
import time

import pytest
import torch

from benchmarks import gpu_checklist as checklist
from ssmvid_kernels.calls import find_ops

WHERE = dict(device="here", torch="1", triton="2", python="3", sources="abc", commit="def", date="today")
ITEMS = [dict(check="fake", op=op, dtype="float32", case=case) for op in ("a", "b") for case in ("x", "y")]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "results" / "here.jsonl"


@pytest.fixture
def fake(monkeypatch):
    """What the check `fake` was asked; it fails for case y of op b."""
    asked = []

    def check(item, device):
        asked.append(item)
        assert (item["op"], item["case"]) != ("b", "y"), "y is wrong"

    monkeypatch.setitem(checklist.CHECKS, "fake", check)
    return asked


def work(items, file, where=WHERE, seconds=60.0):
    checklist.work(items, file, where, time.time() + seconds, "cpu")


def test_every_op_is_checked_in_every_way():
    items = checklist.list_items()
    assert all(items.count(item) == 1 for item in items[::37])
    for name, op in find_ops().items():
        mine = [item for item in items if item["op"] == name]
        assert {item["check"] for item in mine} == set(checklist.CHECKS)
        exact = [item for item in mine if item["check"] == "exact"]
        asked = {(item["dtype"], item["call"], item["case"]) for item in exact if item["layout"] == "dense"}
        assert len(asked) == 4 * len(op.cases.CALLS) * len(op.cases.EXACT)
        assert {item["layout"] for item in exact} == set(op.layouts)


def test_every_item_is_plain_data_and_names_a_case():
    ops = find_ops()
    for item in checklist.list_items():
        assert json.loads(json.dumps(item)) == item
        cases = ops[item["op"]].cases
        assert item["case"] in (cases.EXACT if item["check"] in ("exact", "far") else cases.SPEED)


def test_a_call_goes_on_where_the_last_one_stopped(file, fake):
    work(ITEMS, file, seconds=-1)
    assert checklist.unfinished(ITEMS, file, WHERE) == ITEMS
    work(ITEMS[:2], file)
    assert checklist.unfinished(ITEMS, file, WHERE) == ITEMS[2:]
    work(checklist.unfinished(ITEMS, file, WHERE), file)
    assert fake == ITEMS
    assert checklist.unfinished(ITEMS, file, WHERE) == []


def test_a_row_says_what_was_asked_what_came_of_it_and_where(file, fake):
    work(ITEMS, file)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["item"] for row in rows] == ITEMS
    assert [row["right"] for row in rows] == [True, True, True, False]
    assert rows[3]["error"].startswith("AssertionError: y is wrong")
    assert all(row.items() >= WHERE.items() and row["seconds"] >= 0 for row in rows)


@pytest.mark.parametrize("changed", checklist.SAME_RUN)
def test_other_sources_versions_or_devices_begin_anew(file, fake, changed):
    work(ITEMS[:1], file)
    assert checklist.unfinished(ITEMS[:1], file, WHERE | {"commit": "other", "date": "tomorrow"}) == []
    assert checklist.unfinished(ITEMS[:1], file, WHERE | {changed: "other"}) == ITEMS[:1]


def test_a_process_that_dies_takes_only_its_item_with_it(file, capsys):
    exact = dict(check="exact", op="conv", dtype="float32", call="silu", layout="dense", case="one_step")
    items = [exact, dict(check="no such check", op="conv", dtype="float32", case="x")]
    run = lambda minutes: checklist.run(items, file, WHERE, time.time() + 60 * minutes, "cpu", jobs=1)
    assert run(-1) == 3
    assert "2 items, 0 right, 0 wrong, 2 left" in capsys.readouterr().out
    assert run(2) == 1
    assert "2 items, 1 right, 1 wrong, 0 left" in capsys.readouterr().out
    wrong = [row for row in checklist.finished(file, WHERE) if not row["right"]]
    assert [row["error"] for row in wrong] == ["its process ended with status 1"]


SMALL = {
    "exact": dict(dtype="float16", call="bare", layout="sliced", case="ragged"),
    "first": dict(dtype="bfloat16", case="image", seconds=600),
    "repeats": dict(dtype="bfloat16", case="image", times=3),
    "large": dict(dtype="bfloat16", case="image", elements=500_000),
}


@pytest.mark.parametrize("op", find_ops())
@pytest.mark.parametrize("check", SMALL)
def test_the_checks_themselves(monkeypatch, check, op):
    monkeypatch.setattr(checklist, "backend", lambda device: "cpu")
    checklist.CHECKS[check](dict(check=check, op=op) | SMALL[check], "cpu")


def test_a_slow_first_call_is_seen(monkeypatch):
    monkeypatch.setattr(checklist, "backend", lambda device: "cpu")
    with pytest.raises(AssertionError, match=r"the first call took .* s, allowed 0 s"):
        checklist.check_first(dict(op="conv", dtype="float32", case="image", seconds=0), "cpu")


@pytest.mark.slow  # the first one waits for a C++ compiler
@pytest.mark.parametrize("op", find_ops())
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
def test_the_check_of_compilations(monkeypatch, op):
    monkeypatch.setattr(checklist, "backend", lambda device: "cpu")
    checklist.check_compile(dict(op=op, dtype="float32", case="image"), "cpu")


@pytest.mark.parametrize("op", find_ops())
def test_the_check_of_far_tokens(monkeypatch, op):
    monkeypatch.setattr(checklist, "backend", lambda device: "cpu")
    monkeypatch.setattr(checklist, "FAR", 100_000)
    checklist.check_far(dict(op=op, dtype="float32", case=find_ops()[op].strided_case), "cpu")


def test_a_check_sees_what_is_wrong(monkeypatch):
    monkeypatch.setattr(checklist, "backend", lambda device: "cpu")
    monkeypatch.setattr(checklist, "FAR", 100_000)
    runs = iter(range(10))
    monkeypatch.setattr(checklist, "both_ways", lambda *args, **kwargs: {"y": torch.full((2, 3), float(next(runs)))})
    with pytest.raises(AssertionError, match="y: run 1 differs from the first"):
        checklist.check_repeats(dict(op="s6", dtype="float32", case="image", times=3), "cpu")
    with pytest.raises(AssertionError, match="y: Tensor-likes are not close"):
        checklist.check_far(dict(op="s6", dtype="float32", case="two_paths"), "cpu")
    with pytest.raises(AssertionError, match="y: Tensor-likes are not close"):
        checklist.check_large(dict(op="s6", dtype="float32", case="image", elements=1), "cpu")


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert checklist.main([]) == 2
    assert "it needs a CUDA GPU, and torch" in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert checklist.main([]) == 2
    assert "TRITON_INTERPRET=1 would run every kernel in Python: unset it" in capsys.readouterr().err
