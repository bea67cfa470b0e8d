"""bench_model.py and crossover.py: a row a length, model and backend; where lines cross."""

import pytest
import report
from bench_model import main
from crossover import PEER, crossovers
from hydra import compose, initialize_config_dir

TINY = ("models=[multiscan_tiny,videomamba_tiny]", "size=32", "seconds=0", "threads=1")


def run(tmp_path, *overrides):
    with initialize_config_dir(str(report.ROOT / "benchmarks"), version_base="1.3"):
        cfg = compose("bench_model", [f"out={tmp_path}", *TINY, *overrides])
    main.__wrapped__(cfg)
    return report.read_rows(tmp_path)


def test_a_row_a_length_model_and_backend(tmp_path, capsys):
    rows = run(tmp_path, "frames=[1,2,3]", "backends=[cpu]")
    assert [(row["frames"], row["model"], row["backend"]) for row in rows] == [
        (frames, model, backend)
        for frames in (1, 2, 3)
        for model in ("multiscan_tiny", "videomamba_tiny")
        for backend in (PEER, "cpu")
    ]
    for row in rows:
        assert row["tokens"] == 4 * row["frames"] + (row["model"] == "videomamba_tiny")
        assert row["peak_mib"] >= 0
        assert row["s_a_clip"] == row["ms"] / 1e3
    assert [row["ms"] for row in rows[::4]] == [row["ms"] for row in rows[2::4]]  # one ViT a width
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert [line.split(" on ")[0] for line in lines] == ["multiscan_tiny", "videomamba_tiny"]
    assert all("1 frames" in line and "3 frames" in line for line in lines)


def test_official_code_is_looked_for_where_it_was_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="checkout of OpenGVLab/VideoMamba"):
        run(tmp_path, "models=[videomamba_tiny]", "frames=[1]", "backends=[]", f"official={tmp_path}")


def row(frames, backend, ms):
    return {"model": "m", "frames": frames, "backend": backend, "ms": ms}


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (
            (20, 40, 80, 160),
            "m on cpu is faster from about 16 frames on; its speed over joint attention's: 8 frames 0.50",
        ),
        ((20, 50, 90, 160), "faster from about 19 frames"),
        ((5, 10, 20, 40), "faster from 8 frames on, the fewest measured"),
        ((1e4, 1e4, 1e4, 1e4), "not faster at up to 64 frames"),
    ],
)
def test_lines_cross_where_the_ratio_passes_one(ms, said):
    """The peer's time is quadratic: 10, 40, 160, 640 ms."""
    frames = (8, 16, 32, 64)
    rows = [row(t, PEER, 10 * (t / 8) ** 2) for t in frames] + [row(t, "cpu", x) for t, x in zip(frames, ms)]
    (line,) = crossovers(rows)
    assert said in line


def test_two_lengths_say_nothing():
    assert list(crossovers([row(t, name, 1.0) for t in (8, 16) for name in (PEER, "cpu")])) == []
