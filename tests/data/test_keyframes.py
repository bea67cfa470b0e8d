"""Adaptive keyframe sampling: the published algorithm where it keeps its budget, and a budget that is always kept."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmvid.data import frame_times, read_frames, read_keyframes, sample_keyframes, write_videos


def published(scores, frames, threshold, depth):
    """The released algorithm in its own terms: parts by depth, in each the best frames / 2^depth."""
    scores = (np.array(scores) - np.min(scores)) / (np.max(scores) - np.min(scores))
    parts, settled = [(list(range(len(scores))), 0)], []
    while parts:
        part, level = parts.pop()
        ranked = sorted(part, key=lambda i: (-scores[i], i))
        gap = np.mean(scores[ranked[:frames]]) - np.mean(scores[part])
        if gap > threshold or level == depth:
            settled += ranked[: frames // 2**level]
        else:
            half = len(part) // 2
            parts += [(part[:half], level + 1), (part[half:], level + 1)]
    return sorted(settled)


scores = st.lists(st.integers(0, 40), min_size=1, max_size=80)


@pytest.mark.parametrize(("frames", "depth"), [(8, 3), (8, 2), (4, 2), (16, 0)])
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.8])
def test_it_is_the_published_algorithm_where_that_keeps_its_budget(frames, depth, threshold):
    rng = np.random.default_rng(0)
    for n in (64, 65, 100, 127):
        drawn = rng.random(n) ** 4
        got = sample_keyframes(drawn, frames=frames, threshold=threshold, depth=depth)
        assert got.tolist() == published(drawn, frames, threshold, depth)


def test_a_peak_takes_all_and_a_plain_does_not():
    peak = np.zeros(64)
    peak[20:24] = 1
    assert sample_keyframes(peak, frames=4).tolist() == [20, 21, 22, 23]
    assert sample_keyframes(np.ones(64), frames=4).tolist() == [0, 16, 32, 48]
    halves = np.r_[np.linspace(0, 0.3, 32), 1.0, np.zeros(31)]
    assert sample_keyframes(halves, frames=1).tolist() == [32]


@given(scores=scores, frames=st.integers(1, 90), threshold=st.floats(0, 1), depth=st.integers(0, 7))
@settings(max_examples=300, deadline=None)
def test_the_budget_is_kept_and_places_rise(scores, frames, threshold, depth):
    chosen = sample_keyframes(scores, frames=frames, threshold=threshold, depth=depth)
    assert len(chosen) == min(frames, len(scores))
    assert (np.diff(chosen) > 0).all()
    assert (chosen >= 0).all()
    assert (chosen < len(scores)).all()


@given(scores=scores, frames=st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_scale_and_shift_of_scores_do_not_matter(scores, frames):
    other = 8.0 * np.array(scores) - 3
    assert np.array_equal(sample_keyframes(scores, frames=frames), sample_keyframes(other, frames=frames))


def test_without_halving_they_are_the_best_of_every_choice():
    drawn = np.random.default_rng(1).permutation(9)
    best = max(itertools.combinations(range(9), 3), key=lambda places: drawn[list(places)].sum())
    assert sample_keyframes(drawn, frames=3, depth=0).tolist() == list(best)


@given(scores=scores, levels=st.integers(0, 4))
@settings(max_examples=100, deadline=None)
def test_halved_to_the_end_each_stretch_has_its_best(scores, levels):
    """Of 16 stretches of equal length, as many frames as there are stretches at that depth."""
    scores = (scores * 80)[:80]
    chosen = sample_keyframes(scores, frames=2**levels, threshold=1.0, depth=levels)
    stretches = np.array(scores).reshape(2**levels, -1)
    assert chosen.tolist() == [i * stretches.shape[1] + int(own.argmax()) for i, own in enumerate(stretches)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scores": []}, r"n >= 1 finite numbers, got shape \(0,\)"),
        ({"scores": [1.0, float("nan")]}, "finite numbers"),
        ({"scores": [[1.0]]}, r"got shape \(1, 1\)"),
        ({"frames": 0}, "frames >= 1 and depth >= 0 are needed, got frames=0"),
        ({"depth": -1}, "depth=-1"),
    ],
)
def test_what_is_out_of_range_is_refused(wrong, message):
    settings = {"scores": [1.0, 2.0], "frames": 1} | wrong
    with pytest.raises(ValueError, match=message):
        sample_keyframes(settings.pop("scores"), **settings)


def test_keyframes_of_a_file(tmp_path):
    write_videos(tmp_path, frames=64, train_clips=1, val_clips=1)
    path = next(tmp_path.rglob("*.mp4"))
    sizes = []

    def scorer(images):
        sizes.append(len(images))
        return images.float().mean((1, 2, 3))

    rate = 1 / np.diff(frame_times(path)).mean()
    every = read_keyframes(path, scorer, frames=1000, fps=2 * rate)
    assert every.indices.tolist() == list(range(64))
    assert sizes == [32, 32]
    whole = read_frames(path, range(64))
    assert torch.equal(every.frames, whole)
    few = read_keyframes(path, scorer, frames=5, fps=rate / 3)
    assert sizes[2:] == [22]
    brightness = whole[::3].float().mean((1, 2, 3)).numpy()
    assert np.array_equal(few.indices, 3 * sample_keyframes(brightness, frames=5))
    assert torch.equal(few.frames, whole[few.indices])
