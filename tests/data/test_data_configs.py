"""Every choice of the data group builds, with nothing but what it asks for."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from ssmvid.data import MovingDigits, Needles, VideoFolder, write_videos
from ssmvid.data.needles import VARIANTS

CONFIGS = Path(__file__).parents[2] / "hydra_configs"


def build(choice, *overrides):
    with initialize_config_dir(str(CONFIGS), version_base=None):
        config = compose(f"data/{choice}", overrides=["+seed=0", *overrides])
    return config.data, instantiate(config.data.train), instantiate(config.data.val)


@pytest.mark.parametrize(("choice", "shuffled"), [("moving_digits", False), ("moving_digits_shuffled", True)])
def test_moving_digits(choice, shuffled):
    config, train, val = build(choice)
    for dataset in (train, val):
        assert isinstance(dataset, MovingDigits)
        assert dataset.shuffle_frames is shuffled
        assert dataset.num_classes == config.num_classes
        assert dataset.clip_shape == (3, config.frames, config.size, config.size)


def test_a_root_is_all_a_video_folder_needs(tmp_path):
    write_videos(tmp_path / "digits", train_clips=4, val_clips=4)
    config, train, val = build("video_folder", f"data.root={tmp_path / 'digits'}")
    for dataset in (train, val):
        assert isinstance(dataset, VideoFolder)
        assert dataset.num_classes == 4
        assert dataset[0, 0].frames.shape == (3, config.frames, config.size, config.size)
    assert (train.split, val.split) == ("train", "val")
    rates = ("data.stride=null", "data.fps=null", "data.uniform=true")
    assert all(dataset.uniform for dataset in build("video_folder", f"data.root={tmp_path / 'digits'}", *rates)[1:])


@pytest.mark.parametrize("variant", VARIANTS)
def test_needles(variant):
    config, train, val = build("needles", f"data.variant={variant}")
    for dataset in (train, val):
        assert isinstance(dataset, Needles)
        assert dataset.variant is VARIANTS[variant]
        assert dataset.num_classes == config.num_classes
        assert dataset.clip_shape == (3, config.frames, config.size, config.size)
    assert (train.split, val.split) == ("train", "val")


def test_every_choice_is_built_here():
    assert {path.stem for path in (CONFIGS / "data").glob("*.yaml")} == {
        *("moving_digits", "moving_digits_shuffled", "needles", "video_folder"),
    }
