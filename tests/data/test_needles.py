"""Needle clips: the answer is in the frames and nowhere else, where depth says, and the same in every process."""

from collections import Counter

import numpy as np
import pytest
import torch

from ssmvid.data import Needles, VideoError, make_loader
from ssmvid.data.clip import keyed_generator
from ssmvid.data.needles import COLOURS, MEAN, STD, VARIANTS, VOCABULARY
from tests.needles import answer, digits_in

CHANCE = {"single": 0.1, "several": 0.1, "distractors": 0.1, "order": 0.1, "counting": 0.2}


def make(variant="single", **settings):
    return Needles(**{"variant": variant, "split": "val", "frames": 24, "num_clips": 200, **settings})


@pytest.fixture(scope="module", params=[None, "real"])
def video(request, tmp_path_factory, write_video):
    return request.param and write_video(tmp_path_factory.mktemp("haystack") / "movie.mp4", 45)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_oracle_is_always_right(variant, video):
    for split in ("train", "val"):
        needles = make(variant, split=split, video=video, fps=10.0)
        assert needles.clip_shape == (3, 24, 32, 32)
        for index in range(40):
            clip = needles[2, index]
            assert answer(clip.frames, torch.tensor(clip.question)) == clip.label


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_question_alone_tells_nothing(variant):
    """The blind answerer that knows how often each answer goes with each question is at chance."""
    needles, seen = make(variant, num_clips=4000, size=12), Counter()
    needles.haystack = lambda rng, frames: np.zeros((3, frames, 12, 12), np.float32)
    for index in range(len(needles)):
        clip = needles[0, index]
        seen[clip.question, clip.label] += 1
    best = Counter()
    for (question, _), count in seen.items():
        best[question] = max(best[question], count)
    assert len(best) == len(COLOURS)
    assert sum(best.values()) / len(needles) == pytest.approx(CHANCE[variant], abs=0.03)


def test_without_its_needles_a_clip_is_haystack(monkeypatch):
    monkeypatch.setattr(Needles, "needle", lambda self, rng, digit, border: self.haystack(rng, 1)[:, 0])
    needles = make("several")
    for index in range(10):
        clip = needles[0, index]
        assert not any(digits_in(clip.frames, colour) for colour in COLOURS)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("depth", [0.0, 0.25, 0.5, 1.0])
def test_depth_says_where_the_first_asked_needle_lies(variant, depth):
    needles = make(variant, depth=depth)
    for index in range(20):
        clip = needles[0, index]
        colour = VOCABULARY[clip.question[1]]
        asked = [t for t in range(24) if digits_in(clip.frames[:, t : t + 1], colour)]
        assert asked[0] == int(depth * (24 - len(asked)))


def test_needles_lie_anywhere_where_no_depth_is_given():
    for variant, spec in VARIANTS.items():
        needles = make(variant, frames=12)
        drawn = [needles.places(keyed_generator(i), spec.needles, spec.frames) for i in range(600)]
        for places in drawn:
            assert len(set(places.tolist())) == spec.frames
            assert (np.diff(places[: spec.needles]) > 0).all()
        counts = np.bincount(np.concatenate([places[: spec.needles] for places in drawn]), minlength=12)
        assert abs(counts / counts.sum() - 1 / 12).max() < 0.04


def shown_frames(needles, epoch, index):
    clip = needles[epoch, index]
    assert answer(clip.frames, torch.tensor(clip.question)) == clip.label
    colour = VOCABULARY[clip.question[1]]
    return sum(bool(digits_in(clip.frames[:, t : t + 1], colour)) for t in range(24))


def test_a_needle_that_lasts_gets_shorter_by_half_each_epoch():
    needles = make(split="train", hold=20)
    assert [{shown_frames(needles, epoch, index) for index in range(10)} for epoch in range(6)] == [
        *({20}, {10}, {5}, {2}, {1}, {1}),
    ]
    assert {shown_frames(make(hold=20), 0, index) for index in range(10)} == {1}
    counting = make("counting", split="train", hold=20)
    assert all(shown_frames(counting, 0, index) == counting[0, index].label for index in range(10))


@pytest.mark.parametrize("variant", ["several", "distractors", "order"])
def test_where_needles_that_last_meet_the_answer_is_seen(variant):
    needles = make(variant, split="train", hold=12)
    assert all(shown_frames(needles, 0, index) >= 12 for index in range(40))


@pytest.mark.parametrize("variant", VARIANTS)
def test_digits_of_other_frames_are_wrong_answers(variant):
    needles, spec = make(variant), VARIANTS[variant]
    for index in range(30):
        clip = needles[0, index]
        shown = {colour: digits_in(clip.frames, colour) for colour in COLOURS}
        asked = shown.pop(VOCABULARY[clip.question[1]])
        assert len(asked) == (clip.label if spec.asks == "count" else spec.needles)
        assert sum(map(len, shown.values())) == spec.others
        if spec.asks != "count":
            assert clip.label not in [digit for digits in shown.values() for digit in digits] + asked[1:]
        black = (clip.frames * STD + MEAN)[:, :, [0, -1]].abs().amax((0, 2, 3)) < 1e-5
        assert int(black.sum()) == spec.plain


def test_clips_depend_on_split_epoch_index_and_seed_alone():
    train, val = (make(split=split) for split in ("train", "val"))
    assert torch.equal(train[3, 7].frames, make(split="train", num_clips=9000)[3, 7].frames)
    different = [train[3, 7], train[4, 7], train[3, 17], val[3, 7], make(split="train", seed=1)[3, 7]]
    assert len({clip.frames.numpy().tobytes() for clip in different}) == 5
    assert torch.equal(val[0, 7].frames, val[9, 7].frames)
    assert [val[0, index].label for index in range(20)] == [*range(10)] * 2
    assert sorted({make("counting")[0, index].label for index in range(20)}) == [1, 2, 3, 4, 5]


def test_a_batch_has_its_questions():
    loader = make_loader(make(num_clips=5), batch_size=4, epoch=0, shuffle=False, seed=0)
    full, rest = loader
    assert full.questions.shape == (4, 2)
    assert VOCABULARY[full.questions[0, 0]] == "which"
    assert VOCABULARY[rest.questions[0, 1]] in COLOURS


def test_an_empty_batch_has_the_shape_of_its_questions():
    settings = {"batch_size": 4, "epoch": 0, "shuffle": False, "seed": 0, "world_size": 2}
    ranks = [make_loader(make(num_clips=1), rank=rank, **settings) for rank in (0, 1)]
    assert [next(iter(loader)).questions.shape for loader in ranks] == [(1, 2), (0, 2)]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"variant": "two"}, {"split": "test"}, {"frames": 0}, {"size": 11}, {"num_clips": 0}),
        *({"depth": 1.5}, {"depth": -0.1}, {"hold": 0}, {"hold": 25}),
    ],
)
def test_settings_out_of_range(wrong):
    with pytest.raises(ValueError, match="got"):
        make(**wrong)
    with pytest.raises(ValueError, match=r"'distractors' needs frames >= 9, got 8"):
        make("distractors", frames=8)
    with pytest.raises(IndexError, match=r"must be in 0\.\.9"):
        make(num_clips=10)[0, 10]


def test_a_broken_video_is_named(tmp_path):
    (tmp_path / "movie.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"movie\.mp4: not_media"):
        make(video=tmp_path / "movie.mp4")


def test_another_length_keeps_the_settings():
    short, expected = make("distractors", frames=20).at_length(9), make("distractors", frames=9)
    assert torch.equal(short[0, 3].frames, expected[0, 3].frames)
    with pytest.raises(ValueError, match=r"'distractors' needs frames >= 9, got 8"):
        short.at_length(8)
