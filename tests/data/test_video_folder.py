"""Video folders: the right frames, the same clip in every process, errors as values."""

import numpy as np
import pytest
import torch

from ssmvid.data import Clip, VideoError, VideoFolder

PLAIN = {"size": 48, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@pytest.fixture(scope="module")
def root(tmp_path_factory, write_video):
    folder = tmp_path_factory.mktemp("videos")
    for split, name, frames in (
        ("train", "run/a.mp4", 40),
        ("train", "jump/b.mp4", 40),
        ("val", "run/c.mp4", 40),
        ("val", "jump/d.mkv", 5),
    ):
        path = folder / split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, frames)
    (folder / "val/run/broken.mp4").write_bytes((folder / "val/run/c.mp4").read_bytes()[:-900])
    return folder


def test_validation_takes_the_middle_of_time_and_space(root, numbers):
    videos = VideoFolder(root, split="val", frames=4, stride=2, **PLAIN)
    assert videos.class_names == ("jump", "run")
    short, _, clip = (videos[0, index] for index in range(3))
    assert isinstance(clip, Clip)
    assert (clip.id, clip.label) == ("val/run/c.mp4", 1)
    assert clip.frames.shape == videos.clip_shape == (3, 4, 48, 48)
    assert clip.frames.dtype == torch.float32
    assert clip.frames.is_contiguous()
    assert torch.equal(clip.frames, videos[5, 2].frames)
    # 64 x 48 pixels lose 8 columns on each side: two bars of 4
    full = torch.nn.functional.pad(clip.frames, (8, 8))
    assert [n >> 2 & 0xFFF for n in numbers(full.transpose(0, 1) * 255)] == [n >> 2 for n in (17, 19, 21, 23)]
    assert isinstance(short, Clip)
    assert torch.equal(short.frames[:, 2], short.frames[:, 3])  # 5 frames, stride 2: 0 2 4, and the last one held


def test_a_broken_video_is_its_error_and_no_other_video(root):
    videos = VideoFolder(root, split="val", frames=4, stride=2, **PLAIN)
    error = videos[0, 1]
    assert isinstance(error, VideoError)
    assert error.kind == "truncated"
    assert error.path.endswith("val/run/broken.mp4")


def test_training_varies_with_the_epoch_and_with_nothing_else(root):
    make = lambda **more: VideoFolder(root, split="train", frames=4, stride=2, **PLAIN, **more)
    videos = make()
    torch.manual_seed(1)
    clip = videos[2, 0]
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(clip.frames, make()[2, 0].frames)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)  # the caller's random numbers are left alone
    different = [videos[2, 0], videos[3, 0], videos[2, 1], make(seed=1)[2, 0]]
    assert len({clip.frames.numpy().tobytes() for clip in different}) == 4


def test_one_crop_for_the_whole_clip(root):
    videos = VideoFolder(root, split="train", frames=6, stride=1, flip=0.5, **PLAIN)
    still = torch.randint(256, (1, 3, 48, 64), dtype=torch.uint8).repeat(6, 1, 1, 1)
    clips = [videos.transform(still) for _ in range(8)]
    assert all(torch.equal(clip, clip[:, :1].expand_as(clip)) for clip in clips)
    assert not torch.equal(clips[0], clips[1])


def test_mirror_images_come_only_where_asked_for(root):
    def mirrored(flip):
        videos = VideoFolder(root, split="train", frames=1, stride=1, flip=flip, min_crop=1.0, **PLAIN)
        tops = [videos[epoch, 0].frames[0, 0, 2] for epoch in range(20)]
        return sum(bool(top[-4:].mean() > top[:4].mean()) for top in tops)

    assert mirrored(0.0) == 0
    assert mirrored(1.0) == 20
    assert 3 <= mirrored(0.5) <= 17


def test_fps_counts_time(root, numbers):
    videos = VideoFolder(root, split="val", frames=4, fps=10, **PLAIN)
    full = torch.nn.functional.pad(videos[0, 2].frames, (8, 8))
    assert [n >> 2 for n in numbers(full.transpose(0, 1) * 255)] == [n >> 2 for n in (15, 18, 21, 24)]


def test_normalised_as_told(root):
    plain = VideoFolder(root, split="val", frames=2, stride=1, **PLAIN)[0, 2].frames
    told = {"size": 48, "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.25, 0.2)}
    normal = VideoFolder(root, split="val", frames=2, stride=1, **told)[0, 2].frames
    mean, std = (torch.tensor(told[key]).view(3, 1, 1, 1) for key in ("mean", "std"))
    torch.testing.assert_close(normal, (plain - mean) / std)


def test_settings_out_of_range(root, tmp_path):
    for wrong in ({}, {"fps": 2.0, "stride": 2}):
        with pytest.raises(ValueError, match="give one of fps, stride and uniform"):
            VideoFolder(root, split="train", **wrong)
    for wrong in ({"frames": 0}, {"size": 0}, {"min_crop": 0.0}, {"flip": 1.5}):
        with pytest.raises(ValueError, match="are needed, got"):
            VideoFolder(root, split="train", stride=1, **wrong)
    (tmp_path / "train.csv").write_text("a.mp4 0\nb.mp4 zero\n")
    (tmp_path / "val.csv").write_text("")
    with pytest.raises(ValueError, match=r"1 broken entries under(.|\n)*train.csv:2: the label must be a whole number"):
        VideoFolder(tmp_path, split="train", stride=1)
    (tmp_path / "train.csv").write_text("a.mp4 0\n")
    with pytest.raises(ValueError, match="no video of split 'val'"):
        VideoFolder(tmp_path, split="val", stride=1)


def test_a_list_may_lead_to_videos_that_are_not_there(root, tmp_path):
    (tmp_path / "train.csv").write_text("gone.mp4 0\n")
    (tmp_path / "val.csv").write_text("also_gone.mp4 1\n")
    videos = VideoFolder(tmp_path, split="train", stride=1)
    assert (videos.num_classes, np.shape(videos.entries)) == (2, (1, 2))
    assert videos[0, 0].kind == "missing"


def test_another_length_is_the_same_videos_at_the_same_rate(root):
    videos = VideoFolder(root, split="val", frames=4, stride=2, **PLAIN)
    longer, expected = videos.at_length(8), VideoFolder(root, split="val", frames=8, stride=2, **PLAIN)
    assert longer[0, 2].frames.shape == longer.clip_shape == (3, 8, 48, 48)
    assert torch.equal(longer[0, 2].frames, expected[0, 2].frames)
    assert videos[0, 2].frames.shape == videos.clip_shape == (3, 4, 48, 48)
