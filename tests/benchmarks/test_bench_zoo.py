"""bench_zoo.py: a row a model whose name matches, timed at its own size."""

import bench_zoo


def test_a_row_a_model_that_was_asked_for(monkeypatch):
    monkeypatch.setattr(bench_zoo, "SECONDS", 0)
    seen = []
    forward = bench_zoo.forward
    monkeypatch.setattr(bench_zoo, "forward", lambda model, clip: (seen.append(clip.shape), forward(model, clip)))
    (row,) = bench_zoo.timed(["videomamba_tiny.in1?"])
    assert (row["model"], row["op"], row["threads"]) == ("videomamba_tiny.in1k", "zoo", 2)
    assert 0 < row["p20"] <= row["ms"] <= row["p80"]
    assert set(seen) == {(1, 3, 1, 224, 224)}
