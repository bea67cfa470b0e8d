"""A video to tokens: the model's own, clip by clip, in a file that is whole or not there."""

import gc
import os
import weakref

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ssmvid.data import VideoError, eval_transform, iter_frames
from ssmvid.encode import ClipTokens, iter_tokens, write_tokens
from ssmvid.registry import create_backbone
from tests.videos import write_video

CUT = eval_transform(size=16)


@pytest.fixture(scope="module")
def model():
    """Tokens of 2 frames, 8 x 8 pixels."""
    torch.manual_seed(0)
    return create_backbone(
        "videomamba_tiny", dim=16, depth=2, state_size=4, num_frames=4, img_size=16, tubelet=(2, 8, 8), num_classes=0
    ).eval()


def tokens_of(*sizes):
    for size in sizes:
        yield ClipTokens(torch.randn(size, 2, 3, 5), torch.arange(size, dtype=torch.float32))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("length", "clips"), [(1, [1]), (4, [2]), (9, [2, 2, 1]), (10, [2, 2, 1]), (12, [2, 2, 2])])
def test_tokens_are_the_model_s_on_the_same_frames(tmp_path, model, length, clips):
    path = write_video(tmp_path / "a.mp4", length)
    got = list(iter_tokens(model, path, fps=30, frames=4, transform=CUT))
    frames, times = zip(*iter_frames(path))
    frames, times = list(frames), list(times)
    if length % 2:  # half a tubelet is missing: the last frame is held
        frames, times = frames + frames[-1:], times + times[-1:]
    with torch.inference_mode():
        expected = [model.forward_tokens(CUT(torch.stack(frames[i : i + 4]))[None]) for i in range(0, length, 4)]
    assert [len(clip.tokens) for clip in got] == clips
    for clip, (tokens, grid) in zip(got, expected, strict=True):
        assert torch.equal(clip.tokens, tokens.view(*grid, 16))
    assert torch.equal(torch.cat([clip.times for clip in got]), torch.tensor(times[::2]))


def test_frames_are_taken_by_time(tmp_path, model):
    path = write_video(tmp_path / "a.mkv", 5, times_ms=[0, 33, 500, 1000, 1033])
    clips = list(iter_tokens(model, path, fps=2, frames=2, transform=CUT))
    assert torch.cat([clip.times for clip in clips]).tolist() == [0.0, 1.0]


def test_memory_is_bounded_by_the_clip(tmp_path, model):
    path = write_video(tmp_path / "a.mp4", 40)
    alive, most = weakref.WeakSet(), 0

    def watched(frames):
        nonlocal most
        clip = CUT(frames)
        alive.add(clip)
        most = max(most, len(alive))
        return clip

    clips = iter_tokens(model, path, fps=30, frames=4, transform=watched)
    assert most == 0
    next(clips)
    assert most == 4  # no frame is read ahead of its clip
    gc.disable()
    try:
        assert sum(1 for _ in clips) == 9
    finally:
        gc.enable()
    assert most <= 5


def test_a_writer_holds_one_clip(tmp_path):
    alive = weakref.WeakSet()

    def watched():
        for clip in tokens_of(*[2] * 20):
            alive.update(clip)
            assert len(alive) <= 4  # tokens and times of the clip that was written and of this one
            yield clip

    assert write_tokens(watched(), tmp_path / "a.safetensors", {}) == (40, 2, 3, 5)


def test_wrong_settings_are_refused_by_the_call_itself(model):
    for frames in (0, -2, 3):
        with pytest.raises(ValueError, match=rf"a multiple of the model's tubelet \(2 frames\), got {frames}"):
            iter_tokens(model, "nowhere.mp4", fps=1, frames=frames, transform=CUT)
    for fps in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="fps > 0"):
            iter_tokens(model, "nowhere.mp4", fps=fps, frames=2, transform=CUT)


@pytest.mark.parametrize("metadata", [{}, {"model": "é", "path": 'a "b"\\' * 3000}, {"x": ""}])
@pytest.mark.parametrize("sizes", [(1,), (2, 2, 1), (3,) * 40])
def test_the_file_is_what_safetensors_reads(tmp_path, sizes, metadata):
    clips = list(tokens_of(*sizes))
    out = tmp_path / "a.safetensors"
    assert write_tokens(clips, out, metadata) == (sum(sizes), 2, 3, 5)
    read = load_file(out)
    assert set(read) == {"tokens", "times"}
    assert torch.equal(read["tokens"], torch.cat([clip.tokens for clip in clips]))
    assert torch.equal(read["times"], torch.cat([clip.times for clip in clips]))
    with safe_open(out, "pt") as file:
        assert (file.metadata() or {}) == metadata
    assert files(tmp_path) == ["a.safetensors"]


def test_half_precision_is_written_as_float32(tmp_path):
    tokens = torch.randn(2, 3, 3, 4).bfloat16().transpose(1, 2)
    write_tokens([ClipTokens(tokens, torch.zeros(2))], tmp_path / "a.safetensors", {})
    read = load_file(tmp_path / "a.safetensors")["tokens"]
    assert read.dtype == torch.float32
    assert torch.equal(read, tokens.float())


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), SystemExit(143), MemoryError()])
@pytest.mark.parametrize("before", [None, b"an older file"])
def test_a_failure_in_the_middle_leaves_nothing_and_harms_nothing(tmp_path, error, before):
    out = tmp_path / "a.safetensors"
    if before is not None:
        out.write_bytes(before)

    def failing():
        yield from tokens_of(2, 2)
        assert len(files(tmp_path)) == (1 if before is None else 2)  # what is half done has another name
        assert (out.read_bytes() if out.exists() else None) == before
        raise error

    with pytest.raises(type(error)):
        write_tokens(failing(), out, {})
    assert (out.read_bytes() if out.exists() else None) == before
    assert files(tmp_path) == ([] if before is None else ["a.safetensors"])


def test_a_video_that_breaks_off_leaves_no_file(tmp_path, model):
    path = write_video(tmp_path / "a.mp4", 30)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat")
    end = start - 4 + int.from_bytes(data[start - 4 : start], "big")
    middle = (start + end) // 2
    data[middle:end] = bytes(end - middle)
    path.write_bytes(data)
    with pytest.raises(VideoError, match="corrupt"):
        write_tokens(iter_tokens(model, path, fps=30, frames=2, transform=CUT), tmp_path / "out.safetensors", {})
    assert files(tmp_path) == ["a.mp4"]


def test_an_older_file_is_replaced(tmp_path):
    out = tmp_path / "a.safetensors"
    out.write_bytes(b"an older file")
    write_tokens(tokens_of(1), out, {})
    assert load_file(out)["tokens"].shape == (1, 2, 3, 5)


def test_clips_that_do_not_fit_together_are_refused(tmp_path):
    clips = [ClipTokens(torch.zeros(1, 2, 3, 5), torch.zeros(1)), ClipTokens(torch.zeros(1, 2, 4, 5), torch.zeros(1))]
    with pytest.raises(ValueError, match=r"a clip has tokens \(1, 2, 4, 5\), those before it \(1, 2, 3, 5\)"):
        write_tokens(clips, tmp_path / "a.safetensors", {})
    with pytest.raises(ValueError, match="no clip"):
        write_tokens([], tmp_path / "a.safetensors", {})
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("a.pt", ValueError, r"must end in \.safetensors, got '.*a\.pt'"),
        ("safetensors", ValueError, r"must end in \.safetensors"),
        ("no/a.safetensors", FileNotFoundError, "no folder '.*no' to write a.safetensors into: make it"),
        ("folder.safetensors", IsADirectoryError, "is a folder: give the name of a file"),
        ("x" * 300 + ".safetensors", OSError, "too long"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path, name, error, message):
    (tmp_path / "folder.safetensors").mkdir()

    def read():
        pytest.fail("read")
        yield

    with pytest.raises(error, match=message):
        write_tokens(read(), tmp_path / name, {})
    assert os.listdir(tmp_path) == ["folder.safetensors"]
