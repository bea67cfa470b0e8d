"""Haystacks: drawn scenes, and real frames that go round."""

import numpy as np
import pytest

from ssmvid.data.clip import keyed_generator
from ssmvid.data.haystack import SCENE, MovingShapes, VideoHaystack


def test_shapes_move_and_scenes_cut():
    clip = MovingShapes(size=24)(keyed_generator(0), 5 * SCENE)
    assert clip.shape == (3, 5 * SCENE, 24, 24)
    assert clip.dtype == np.float32
    assert 0 <= clip.min() < clip.max() <= 1
    steps = np.abs(np.diff(clip, axis=1)).mean((0, 2, 3))
    cuts = steps[SCENE - 1 :: SCENE]
    assert cuts.min() > np.delete(steps, np.arange(SCENE - 1, 5 * SCENE - 1, SCENE)).max()
    assert steps.min() > 0.01
    assert (clip == MovingShapes(size=24)(keyed_generator(0), 5 * SCENE)).all()


def test_a_video_is_cut_and_goes_round(tmp_path, write_video):
    haystack = VideoHaystack(write_video(tmp_path / "movie.mp4", 30), fps=30, size=48)
    assert haystack.frames.shape == (3, 30, 48, 48)
    for seed in range(3):
        clip = haystack(keyed_generator(seed), 70)
        start = next(i for i in range(30) if (clip[:, 0] == haystack.frames[:, i]).all())
        assert (clip == haystack.frames[:, (start + np.arange(70)) % 30]).all()
    assert not (haystack(keyed_generator(0), 4) == haystack(keyed_generator(1), 4)).all()
    haystack(keyed_generator(0), 4)[:] = 0
    assert haystack.frames.any()


def test_fps_thins_the_frames_out_and_long_files_are_read_in_parts(tmp_path, write_video):
    path = write_video(tmp_path / "movie.mp4", 150)
    assert VideoHaystack(path, fps=30, size=16).frames.shape[1] == 150
    assert VideoHaystack(path, fps=6, size=16).frames.shape[1] == 30
    with pytest.raises(ValueError, match="fps > 0"):
        VideoHaystack(path, fps=0, size=16)
