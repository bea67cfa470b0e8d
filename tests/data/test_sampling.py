"""Which frames a clip takes: golden tables, and what holds for every video."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmvid.data import sample_budget, sample_fps, sample_stride, sample_uniform

STRIDE = [  # frames of the video, of the clip, stride, place -> indices
    (32, 8, 4, 0.0, [0, 4, 8, 12, 16, 20, 24, 28]),
    (32, 8, 4, 0.5, [2, 6, 10, 14, 18, 22, 26, 30]),
    (32, 8, 4, 1.0, [3, 7, 11, 15, 19, 23, 27, 31]),
    (29, 8, 4, 0.5, [0, 4, 8, 12, 16, 20, 24, 28]),
    (90, 4, 1, 0.5, [43, 44, 45, 46]),
    (90, 1, 7, 0.5, [45]),
    (10, 4, 4, 0.9, [0, 4, 8, 9]),  # shorter than the clip: the last frame is held
    (10, 16, 4, 0.5, [0, 4, 8, *[9] * 13]),
    (3, 8, 1, 0.0, [0, 1, 2, 2, 2, 2, 2, 2]),
    (1, 4, 8, 1.0, [0, 0, 0, 0]),
]


@pytest.mark.parametrize(("n", "frames", "stride", "place", "expected"), STRIDE)
def test_stride(n, frames, stride, place, expected):
    assert sample_stride(n, frames=frames, stride=stride, place=place).tolist() == expected


STEADY = np.arange(90) / 30
MILLISECONDS = np.round(STEADY * 1000) / 1000  # as Matroska stores them
VARYING = np.array([0, 0.1, 0.2, 0.3, 0.4, 1.4, 2.4, 2.5, 2.6])

FPS = [  # times, frames, fps, place -> indices
    (STEADY, 8, 10, 0.0, [0, 3, 6, 9, 12, 15, 18, 21]),
    (MILLISECONDS, 8, 10, 0.0, [0, 3, 6, 9, 12, 15, 18, 21]),
    (MILLISECONDS, 8, 30, 0.0, [0, 1, 2, 3, 4, 5, 6, 7]),
    (STEADY, 4, 10, 1.0, [80, 83, 86, 89]),
    (STEADY, 3, 10, 0.5, [41, 44, 47]),
    (STEADY, 5, 60, 0.0, [0, 0, 1, 1, 2]),  # slower than asked for: frames repeat
    (VARYING, 6, 2, 0.0, [0, 4, 4, 5, 5, 7]),  # 0.0 0.5 1.0 1.5 2.0 2.5 s
    (VARYING, 3, 10, 1.0, [6, 7, 8]),
    (VARYING, 5, 1, 0.3, [0, 4, 5, 8, 8]),  # 0 1 2 3 4 s of a video of 2.6 s: the last frame is held
    (np.array([0.0]), 3, 25, 0.5, [0, 0, 0]),
]


@pytest.mark.parametrize(("times", "frames", "fps", "place", "expected"), FPS)
def test_fps(times, frames, fps, place, expected):
    assert sample_fps(times, frames=frames, fps=fps, place=place).tolist() == expected


UNIFORM = [  # frames of the video, of the clip, place -> indices
    (32, 8, 0.5, [2, 6, 10, 14, 18, 22, 26, 30]),
    (32, 8, 0.0, [0, 4, 8, 12, 16, 20, 24, 28]),
    (32, 8, 1.0, [4, 8, 12, 16, 20, 24, 28, 31]),
    (10, 4, 0.5, [1, 3, 6, 8]),
    (3, 6, 0.5, [0, 0, 1, 1, 2, 2]),  # fewer than the clip's: some are repeated
    (1, 3, 1.0, [0, 0, 0]),
]


@pytest.mark.parametrize(("n", "frames", "place", "expected"), UNIFORM)
def test_uniform(n, frames, place, expected):
    assert sample_uniform(n, frames=frames, place=place).tolist() == expected


BUDGET = [  # times, fps, most frames -> indices
    (STEADY, 1, 8, [0, 30, 60]),
    (MILLISECONDS, 1, 3, [0, 30, 60]),
    (STEADY, 1, 2, [22, 67]),
    (STEADY, 10, 8, [5, 16, 28, 39, 50, 61, 73, 84]),
    (VARYING, 1, 8, [0, 4, 5]),
    (np.array([0.0]), 2, 8, [0]),
    (np.array([5.0, 5.5, 6.0]), 1, 8, [0, 2]),
]


@pytest.mark.parametrize(("times", "fps", "most", "expected"), BUDGET)
def test_budget(times, fps, most, expected):
    assert sample_budget(times, fps=fps, max_frames=most).tolist() == expected


place = st.floats(0, 1)


@given(n=st.integers(1, 200), frames=st.integers(1, 40), place=place)
@settings(max_examples=200, deadline=None)
def test_uniform_takes_one_frame_of_each_stretch(n, frames, place):
    chosen = sample_uniform(n, frames=frames, place=place)
    stretch = np.arange(frames)
    assert (chosen >= np.floor(stretch * n / frames)).all()
    assert (chosen <= np.minimum((stretch + 1) * n / frames, n - 1)).all()
    assert frames < 3 or np.ptp(np.diff(chosen[:-1])) <= 1  # the last one is kept inside the video
    if n >= frames and place < 1:
        assert len(set(chosen)) == frames


@given(n=st.integers(1, 200), frames=st.integers(1, 40), stride=st.integers(1, 20), place=place)
@settings(max_examples=200, deadline=None)
def test_gaps_are_the_stride_wherever_the_video_is_long_enough(n, frames, stride, place):
    chosen = sample_stride(n, frames=frames, stride=stride, place=place)
    assert len(chosen) == frames
    assert chosen[0] >= 0
    assert chosen[-1] <= n - 1
    if n > (frames - 1) * stride:
        assert set(np.diff(chosen)) <= {stride}
    else:
        assert chosen[0] == 0


@given(gaps=st.lists(st.floats(0.002, 2), max_size=60), frames=st.integers(1, 30), fps=st.floats(0.1, 60), place=place)
@settings(max_examples=200, deadline=None)
def test_fps_takes_frames_in_order_and_never_one_whose_time_has_not_come(gaps, frames, fps, place):
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    chosen = sample_fps(times, frames=frames, fps=fps, place=place)
    assert len(chosen) == frames
    assert (np.diff(chosen) >= 0).all()
    room = max(times[-1] - (frames - 1) / fps, 0)
    moments = place * room + np.arange(frames) / fps
    assert (times[chosen] <= moments + 1.1e-3).all()
    later = np.minimum(chosen + 1, len(times) - 1)
    assert ((times[later] > moments) | (later == chosen)).all()


def test_every_start_is_as_likely_in_training():
    rng = np.random.default_rng(0)
    starts = [sample_stride(20, frames=4, stride=4, place=rng.random())[0] for _ in range(8000)]
    counts = np.bincount(starts, minlength=8)
    assert len(counts) == 8
    assert (abs(counts - 1000) < 150).all()


@pytest.mark.parametrize(
    "wrong", [{"n": 0}, {"frames": 0}, {"stride": 0}, {"stride": -4}, {"place": 1.5}, {"place": float("nan")}]
)
def test_numbers_out_of_range(wrong):
    settings = {"n": 10, "frames": 4, "stride": 2, "place": 0.5, **wrong}
    with pytest.raises(ValueError, match="got"):
        sample_stride(settings.pop("n"), **settings)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan")])
def test_fps_must_be_positive(fps):
    with pytest.raises(ValueError, match="sample_fps: fps must be > 0"):
        sample_fps(STEADY, frames=4, fps=fps, place=0.5)
    with pytest.raises(ValueError, match="sample_budget: fps must be > 0"):
        sample_budget(STEADY, fps=fps, max_frames=4)


def test_a_budget_of_no_frame_is_refused():
    with pytest.raises(ValueError, match="frames=0"):
        sample_budget(STEADY, fps=1, max_frames=0)
