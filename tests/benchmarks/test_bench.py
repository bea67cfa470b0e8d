"""bench.py and report.py: peers compute what they are said to, rows hold what was measured, slopes are slopes."""

import json

import machine
import peers
import plots
import pytest
import report
import torch
from bench import CALLS, main
from hydra import compose, initialize_config_dir

from ssmvid.scan import Grid, ScanOrder
from ssmvid_kernels.calls import find_ops

OPS = find_ops()


@pytest.fixture
def bench(tmp_path):
    """Run bench.py's main with overrides; the rows it wrote."""

    def run(*overrides):
        folder = str(report.ROOT / "benchmarks")
        with initialize_config_dir(folder, version_base="1.3"):
            cfg = compose("bench", [f"out={tmp_path}", "seconds=0", "threads=1", *overrides])
        main.__wrapped__(cfg)
        return report.read_rows(tmp_path)

    return run


@pytest.mark.parametrize("op", ["s6", "ssd", "conv"])
def test_unfused_paths_give_what_fused_ones_give(op):
    names, options = CALLS[op]
    case = OPS[op].cases.SPEED["image"]._replace(b=1, l=24, k=2)
    inputs = OPS[op].cases.make_inputs(case)
    tensors = {name: inputs[name].detach() for name in names}
    walks = [ScanOrder.parse(order).walk(Grid(2, 3, 4)) for order in ("hwt", "thw+rev")]
    (peer,) = peers.peers(op, OPS[op].run, 2)
    unfused = peer.run(walks=walks, **tensors, **options)[0]
    torch.testing.assert_close(unfused, OPS[op].run(walks=walks, **tensors, **options).y)


def test_a_row_holds_what_was_measured(bench):
    rows = bench("op=ssd", "case=image", "backends=[cpu]", "l=256")
    assert [(row["pass"], row["backend"]) for row in rows] == [
        (which, backend) for which in ("fwd", "fwdbwd") for backend in ("unbind loop", "attention", "cpu")
    ]
    first, row = rows[0], rows[2]
    assert row["ratio"] == first["ms"] / row["ms"]
    case = OPS["ssd"].cases.SPEED["image"]
    x, dt, gates = (case.b * 256 * size for size in (case.heads * case.p, case.heads, 2 * case.g * case.n))
    assert row["bytes"] == 4 * (2 * x + dt + gates + 3 * case.heads)
    assert row["floor_ms"] > 0


def test_an_implementation_too_slow_for_one_length_is_not_run_at_the_next(bench, capsys):
    rows = bench("op=conv", "case=image", "pass=fwd", "backends=[cpu]", "l=[256,512]", "limit=0")
    assert [row["l"] for row in rows] == [256, 256]
    assert "takes over 0 s a call at a shorter length" in capsys.readouterr().out


def test_what_cannot_run_is_named_with_the_reason(bench, capsys, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    bench("op=ssd", "case=image", "pass=fwd", "backends=[triton]", "l=256")
    printed = capsys.readouterr().out
    assert "without fla simple_gla: fla is not installed" in printed
    assert "without triton: triton needs a GPU" in printed


def test_a_wrong_result_is_no_row(bench, monkeypatch):
    op = OPS["conv"]
    wrong = lambda x, **given: op.run(x * (1 if given["backend"] == "reference" else 1.01), **given)
    monkeypatch.setattr("bench.find_ops", lambda: {"conv": op._replace(run=wrong)})
    with pytest.raises(AssertionError, match="cpu y: off by"):
        bench("op=conv", "case=image", "pass=fwd", "backends=[cpu]")


def test_slopes_are_those_of_the_long_end():
    line = [(n, n**0.5 if n < plots.LONG else float(n) ** 1.5, None) for n in (256, 1024, 16384, 32768, 65536)]
    assert plots.slope(line, 1) == "1.50 (16,384 to 65,536)"
    assert plots.slope(line, 2) == ""


def test_the_page_draws_sweeps_and_keeps_slower_rows(tmp_path, monkeypatch):
    row = dict(
        op="s6", device="here", dtype="float32", threads=2, case="clip", b=2, k=0, commit="c", torch="2", date="d"
    )
    row |= {"pass": "fwd", "p20": 1.0, "p80": 2.0, "peak_mib": 3.0, "floor_ms": 0.5, "bytes": 10**6, "flops": 2 * 10**6}
    lines = [row | dict(l=l, ms=l * slow, backend=name) for l in (1, 2, 4) for name, slow in (("loop", 1), ("cpu", 2))]
    (tmp_path / "here.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(report, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    text = "\n".join(report.page(report.read_rows(tmp_path)))
    assert "| clip: b=2 l=4 | fwd | cpu | 8.00 | 1.00-2.00 | 0.5 | 0.1 | 0.2 | 6% | 3 |" in text
    assert "| cpu | 1.00 (1 to 4) | 0.00 (1 to 4) |" in text
    assert (tmp_path / "docs" / "benchmarks" / "here-s6-float32-fwd.png").stat().st_size > 5000


def test_the_peak_of_memory_is_what_a_call_takes():
    peak = machine.peak_mib(lambda: torch.ones(64 * 2**18), "cpu")
    assert 60 < peak < 80
