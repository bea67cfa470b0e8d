"""The task of planted events: what tells the label, and what does not."""

import torch

from benchmarks import planted_events as pe

CODES = 10 * torch.eye(2, pe.DIM)


def draw(batch):
    task = pe.Task(CODES, torch.Generator().manual_seed(0))
    tokens, label = task.draw(batch)
    return tokens.unflatten(1, pe.GRID), label


def test_the_label_is_which_shape_came_first():
    clips, label = draw(200)
    seen = clips[..., :2].amax((2, 3)) > 5  # (b, t, shape): a code is 10, the noise 0.3
    for clip, one in zip(seen, label):
        first, second = (clip[:, shape].nonzero().flatten() for shape in (0, 1))
        assert len(first) == len(second) == pe.LENGTH
        assert (first.max() < second.min()) == bool(one)
        assert (first.min() > second.max()) != bool(one)


def test_labels_are_balanced_and_the_mean_tells_nothing():
    clips, label = draw(2000)
    assert label.float().mean() == 0.5
    means = clips.mean((1, 2, 3))
    gap = (means[label == 1].mean(0) - means[label == 0].mean(0)).abs()
    assert (gap < 6 * means.std(0) / 1000**0.5).all()


def test_the_table_has_every_run():
    result = pe.run("mlp", seed=0, steps=2)
    text = pe.table({"mlp": [result, result._replace(accuracy=100.0)]}, [0, 1], 2)
    assert f"| mlp | {result.tokens} | {result.parameters:,} |" in text
    assert f"**{(result.accuracy + 100) / 2:.1f}** | {result.accuracy:.1f} | 100.0 |" in text
