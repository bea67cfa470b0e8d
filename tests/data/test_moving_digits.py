"""Moving digits: the label is in the order of the frames and nowhere else, and every process makes the same clips."""

import numpy as np
import pytest
import torch

from ssmvid.data import MovingDigits, VideoFolder, read_frames, write_videos
from ssmvid.data.clip import keyed_generator
from ssmvid.data.moving_digits import digits_of

FRAMES = [4, 8, 16, 32]


@pytest.mark.parametrize("frames", FRAMES)
def test_frames_of_a_clip_are_the_same_set_whatever_the_label(frames):
    digits = MovingDigits(split="train", frames=frames)
    for seed in range(5):
        sets, orders = [], set()
        for label in range(digits.num_classes):
            rng = keyed_generator(seed)  # the same digit, jitter, noise and start for every label
            clip = digits.ring(rng)[digits.path(rng, label)]
            sets.append(sorted(picture.tobytes() for picture in clip))
            orders.add(clip.tobytes())
        assert all(pictures == sets[0] for pictures in sets)
        assert len(set(sets[0])) == frames  # all places differ
        assert len(orders) == digits.num_classes  # and so do the clips


@pytest.mark.parametrize("frames", FRAMES)
def test_every_frame_is_at_a_uniform_place_whatever_the_label(frames):
    """Over all starts, each (label, frame) is at each place exactly once: p(place | label, frame) is uniform."""

    class Start:
        def __init__(self, start):
            self.start = start

        def integers(self, high):
            assert high == frames
            return self.start

    digits = MovingDigits(split="train", frames=frames)
    for label in range(digits.num_classes):
        places = np.array([digits.path(Start(start), label) for start in range(frames)])
        assert (np.sort(places, axis=0) == np.arange(frames)[:, None]).all()


def test_two_frames_tell_the_label():
    digits = MovingDigits(split="val", frames=16)
    for index in range(32):
        places = digits.path(keyed_generator(index), index % 8)
        assert (places[1] - places[0]) % 16 == 2 * (index % 8) + 1


def test_shuffled_frames_are_the_same_frames_in_an_order_without_the_label():
    plain, shuffled = (MovingDigits(split="val", shuffle_frames=s, num_clips=64) for s in (False, True))
    for index in range(8):
        pictures = [sorted(p.numpy().tobytes() for p in d[0, index].frames[0]) for d in (plain, shuffled)]
        assert pictures[0] == pictures[1]
    paths = [shuffled.path(keyed_generator(7), label) for label in range(4)]
    assert all((path == paths[0]).all() for path in paths)


def test_clips_depend_on_split_epoch_index_and_seed_alone():
    train, val = (MovingDigits(split=split, num_clips=100) for split in ("train", "val"))
    assert torch.equal(train[3, 7].frames, MovingDigits(split="train", num_clips=9000)[3, 7].frames)
    different = [train[3, 7], train[4, 7], train[3, 11], val[3, 7], MovingDigits(split="train", seed=1)[3, 7]]
    assert len({clip.frames.numpy().tobytes() for clip in different}) == 5
    assert torch.equal(val[0, 7].frames, val[9, 7].frames)
    assert len({clip.id for clip in different[:4]}) == 4


def test_splits_share_no_digit():
    (train, train_labels), (val, val_labels) = map(digits_of, ("train", "val"))
    assert (len(train), len(val)) == (1437, 360)
    assert (len(train_labels), len(val_labels)) == (1437, 360)
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in val}


def test_each_split_draws_its_own_digits(monkeypatch):
    of = lambda split: (np.full((10, 8, 8), float(split == "val"), np.float32), np.arange(10))
    monkeypatch.setattr("ssmvid.data.moving_digits.digits_of", of)
    for split, bright in (("train", False), ("val", True)):
        digits = MovingDigits(split=split)
        means = [digits.ring(keyed_generator(index)).mean() for index in range(200)]
        assert all((mean > 0.1) == bright for mean in means)


def test_shape_range_and_balance():
    digits = MovingDigits(split="train", frames=16, size=48, num_clips=400)
    clips = [digits[0, index] for index in range(400)]
    assert digits.num_classes == len(digits.class_names) == 8
    assert list(digits.class_names) == sorted(digits.class_names)
    assert clips[0].frames.shape == digits.clip_shape == (3, 16, 48, 48)
    assert clips[0].frames.dtype == torch.float32
    assert np.bincount([clip.label for clip in clips]).tolist() == [50] * 8
    pixels = torch.stack([clip.frames for clip in clips])
    assert abs(pixels.mean()) < 0.2
    assert 0.8 < pixels.std() < 1.2
    assert torch.equal(pixels[:, 0], pixels[:, 2])


@pytest.mark.parametrize(
    "wrong", [{"split": "test"}, {"frames": 6}, {"frames": 2}, {"frames": 0}, {"size": 8}, {"num_clips": 0}]
)
def test_settings_out_of_range(wrong):
    with pytest.raises(ValueError, match="got"):
        MovingDigits(**{"split": "train", **wrong})
    with pytest.raises(IndexError, match=r"must be in 0\.\.9"):
        MovingDigits(split="train", num_clips=10)[0, 10]


def test_written_videos_read_back_as_they_were(tmp_path):
    write_videos(tmp_path / "digits", train_clips=8, val_clips=4, seed=3)
    folder = VideoFolder(
        tmp_path / "digits", split="train", frames=8, stride=1, size=32, mean=(0.0,) * 3, std=(1.0,) * 3
    )
    digits = MovingDigits(split="train", num_clips=8, seed=3)
    assert (len(folder), folder.class_names) == (8, digits.class_names)
    for name, label in folder.entries:
        original = digits[0, int(name[-9:-4])]
        assert original.label == label
        frames = read_frames(tmp_path / "digits" / name, range(8)).float().permute(1, 0, 2, 3) / 255
        difference = (frames - (original.frames * 0.17 + 0.08)).abs()
        assert difference.mean() < 0.02
    with pytest.raises(FileExistsError, match="not empty"):
        write_videos(tmp_path / "digits")


def test_another_length_keeps_settings_and_the_meaning_of_labels():
    digits = MovingDigits(split="train", frames=8, size=16, num_clips=5, seed=3, shuffle_frames=True)
    short = digits.at_length(4)
    other = MovingDigits(split="train", frames=4, size=16, num_clips=5, seed=3, shuffle_frames=True)
    assert vars(short) == vars(other)
    assert short.class_names == digits.class_names[:2]
