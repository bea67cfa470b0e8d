"""One clip of one file, and the cut that makes it a model's input."""

import pickle

import pytest
import torch

from ssmvid.data import VideoError, VideoFolder, eval_transform, frame_times, read_clip

HOW = {"size": 32, "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.25, 0.2)}
PLAIN = {"size": 48, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_video):
    root = tmp_path_factory.mktemp("videos")
    for split in ("train", "val"):
        (root / split / "run").mkdir(parents=True)
        write_video(root / split / "run" / "a.mp4", 40)
    return root


@pytest.mark.parametrize("rate", [{"fps": 10.0}, {"stride": 3}])
def test_a_clip_is_the_validation_clip_of_a_folder(folder, rate):
    clip = read_clip(folder / "val/run/a.mp4", frames=5, **rate, **HOW)
    assert (clip.shape, clip.dtype, clip.is_contiguous()) == ((3, 5, 32, 32), torch.float32, True)
    assert torch.equal(clip, VideoFolder(folder, split="val", frames=5, **rate, **HOW)[0, 0].frames)


def test_the_defaults_are_imagenet_s(folder):
    path = folder / "val/run/a.mp4"
    mean, std = (torch.tensor(v).view(3, 1, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    plain = read_clip(path, frames=2, stride=1, **PLAIN)
    torch.testing.assert_close(read_clip(path, frames=2, stride=1, size=48), (plain - mean) / std)


@pytest.mark.parametrize(("place", "expected"), [(0.0, [0, 4]), (0.5, [18, 22]), (1.0, [35, 39])])
def test_place_says_where_in_time(folder, numbers, place, expected):
    clip = read_clip(folder / "val/run/a.mp4", frames=2, stride=4, place=place, **PLAIN)
    full = torch.nn.functional.pad(clip, (8, 8))  # the cut takes two bars of 4 pixels on each side
    assert [n >> 2 & 0xFFF for n in numbers(full.transpose(0, 1) * 255)] == [n >> 2 for n in expected]


def test_a_clip_spread_over_the_whole_video(folder):
    path = folder / "val/run/a.mp4"
    n = len(frame_times(path))
    whole = read_clip(path, frames=n, stride=1, **HOW)
    spread = read_clip(path, frames=3, uniform=True, **HOW)
    assert torch.equal(spread, whole[:, [int((i + 0.5) * n / 3) for i in range(3)]])


def test_refusals(folder, tmp_path):
    path = folder / "val/run/a.mp4"
    for rate in ({}, {"fps": 2.0, "stride": 2}, {"stride": 2, "uniform": True}):
        with pytest.raises(ValueError, match="give one of fps, stride and uniform"):
            read_clip(path, frames=2, **rate, **HOW)
    for wrong in ({"size": 0}, {"std": (1.0, 0.0, 1.0)}, {"mean": (0.5,)}):
        with pytest.raises(ValueError, match="are needed, got"):
            read_clip(path, frames=2, stride=1, **HOW | wrong)
    for wrong in ({"frames": 0}, {"place": 1.5}):
        with pytest.raises(ValueError, match="are needed, got"):
            read_clip(path, **{"frames": 2, "stride": 1, **HOW, **wrong})
    with pytest.raises(ValueError, match="decoder must be one of"):
        read_clip(path, frames=2, stride=1, decoder="vlc", **HOW)
    (tmp_path / "cut.mp4").write_bytes(path.read_bytes()[:-500])
    with pytest.raises(VideoError, match="truncated"):
        read_clip(tmp_path / "cut.mp4", frames=2, stride=1, **HOW)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (61, 37), (16, 16), (31, 200)])
def test_the_square_in_the_middle_is_cut_from_any_picture(height, width):
    frames = torch.zeros(2, 3, height, width, dtype=torch.uint8)
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    frames[:, :, top : top + short, left : left + short] = 255
    clip = eval_transform(size=24, mean=(0, 0, 0), std=(1, 1, 1))(frames)
    assert (clip.shape, clip.dtype, clip.is_contiguous()) == ((3, 2, 24, 24), torch.float32, True)
    assert clip[:, :, 4:-4, 4:-4].min() == 1


def test_each_frame_is_cut_by_itself():
    frames = torch.randint(256, (5, 3, 37, 53), dtype=torch.uint8)
    cut = eval_transform(size=16)
    assert torch.equal(torch.cat([cut(frame[None]) for frame in frames], dim=1), cut(frames))


def test_a_loader_s_process_can_be_given_it():
    cut = eval_transform(size=16)
    frames = torch.randint(256, (2, 3, 20, 20), dtype=torch.uint8)
    assert torch.equal(pickle.loads(pickle.dumps(cut))(frames), cut(frames))
