"""`ssmvid encode`: a video to a file of tokens, or one message and no file."""

import os
import signal

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ssmvid.cli import encode
from ssmvid.data import eval_transform
from ssmvid.encode import iter_tokens
from ssmvid.registry import create_backbone
from tests.videos import write_video

SMALL = ("--frames", 2, "--size", 32, "--fps", 10)  # the model's tables are resized to it


@pytest.fixture
def video(tmp_path):
    return write_video(tmp_path / "video.mp4", 15)  # 5 frames at 10 a second


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A checkpoint of another number of classes: tokens do not depend on it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(create_backbone("videomamba_tiny", num_classes=3).state_dict(), path)
    return path


def only_the_video(folder):
    return [path.name for path in folder.iterdir()] == ["video.mp4"]


def test_tokens_are_the_checkpoint_s(ssmvid, video, weights, tmp_path):
    out = tmp_path / "tokens.safetensors"
    done = ssmvid("encode", video, "--model", "videomamba_tiny", "--out", out, "--checkpoint", weights, *SMALL)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{out}: tokens (5, 2, 2, 192) (t, h, w, d), times (5,), float32\n"
    model = create_backbone("videomamba_tiny", num_classes=3).eval()
    model.load_state_dict(load_file(weights))
    clips = list(iter_tokens(model, video, fps=10, frames=2, transform=eval_transform(size=32)))
    read = load_file(out)
    assert torch.equal(read["tokens"], torch.cat([clip.tokens for clip in clips]))
    torch.testing.assert_close(read["times"], torch.tensor([0, 0.1, 0.2, 0.3, 0.4]))
    with safe_open(out, "pt") as file:
        assert file.metadata() == {
            "model": "videomamba_tiny",
            "weights": str(weights),
            "video": "video.mp4",
            "fps": "10.0",
            "frames": "2",
            "size": "32",
        }


def test_frames_and_pixels_are_the_model_s_own_unless_given(ssmvid, video, tmp_path):
    out = tmp_path / "tokens.safetensors"
    done = ssmvid("encode", video, "--model", "videomamba_tiny.in1k", "--out", out, "--fps", 1)
    assert done.code == 0
    assert load_file(out)["tokens"].shape == (1, 14, 14, 192)


def test_random_weights_are_said_to_be_random(ssmvid, video, tmp_path):
    done = ssmvid("encode", video, "--model", "videomamba_tiny", "--out", tmp_path / "a.safetensors", *SMALL)
    assert (done.code, done.err) == (0, "ssmvid: the weights are random: give --pretrained or --checkpoint FILE\n")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--out": "tokens.pt"}, "must end in .safetensors, got "),
        ({"--out": "no/tokens.safetensors"}, "there is no folder "),
        ({"video": "gone.mp4"}, "gone.mp4: missing: cannot be opened"),
        ({"video": "https://host/a.mp4"}, "https:/host/a.mp4: "),
        ({"--model": "videomamba_tini"}, "unknown model 'videomamba_tini': did you mean videomamba_tiny"),
        ({"--model": "resnet18"}, "'resnet18' is no video backbone"),
        ({"--model": "videomamba_tiny.k400_f9"}, "k400_f9"),
        ({"--checkpoint": "gone.pth"}, "no checkpoint at "),
        ({"--device": "banana"}, "device 'banana' cannot be used here (Expected one of cpu"),
        ({"--device": "meta"}, "device 'meta' cannot be used here (Cannot copy out of meta tensor"),
        ({"--fps": "0"}, "fps > 0"),
        ({"--fps": "nan"}, "fps > 0"),
        ({"--frames": "0"}, "frames must be a multiple of the model's tubelet (1 frames), got 0"),
        ({"--size": "0"}, "size >= 1"),
        ({"--size": "40"}, "multiples of (1, 16, 16), got (1, 3, 2, 40, 40)"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_one_message_and_no_file(ssmvid, video, tmp_path, monkeypatch, changed, message):
    monkeypatch.chdir(tmp_path)
    given = {"video": video, "--model": "videomamba_tiny", "--out": "tokens.safetensors"}
    given |= dict(zip(SMALL[::2], SMALL[1::2])) | changed
    path = given.pop("video")
    done = ssmvid("encode", path, *(word for option in given.items() for word in option))
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1].startswith("ssmvid: ")
    assert message in done.err
    assert only_the_video(tmp_path)


@pytest.mark.parametrize("name", ["tokens.pt", "no/tokens.safetensors"])
def test_the_out_file_is_looked_at_first(ssmvid, tmp_path, name):
    done = ssmvid("encode", tmp_path / "gone.mp4", "--model", "no_model", "--out", tmp_path / name)
    assert (done.code, "gone.mp4" in done.err, "no_model" in done.err) == (2, False, False)


def test_a_gpu_that_is_not_there_is_refused(ssmvid, video, tmp_path):
    count = torch.cuda.device_count()
    out = tmp_path / "tokens.safetensors"
    done = ssmvid("encode", video, "--model", "videomamba_tiny", "--out", out, "--device", f"cuda:{count}")
    assert done.code == 2
    assert done.err.startswith(f"ssmvid: device 'cuda:{count}' cannot be used here (")
    assert done.err.endswith("): see `ssmvid doctor`\n")
    assert only_the_video(tmp_path)


def test_weights_that_cannot_be_fetched_are_one_message(ssmvid, video, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path.parent / "no_cache"))
    out = tmp_path / "tokens.safetensors"
    done = ssmvid("encode", video, "--model", "videomamba_tiny", "--out", out, "--pretrained")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("ssmvid: the weights of videomamba_tiny (OpenGVLab/VideoMamba, videomamba_t16_k400_f8")
    assert "--checkpoint" in done.err
    assert only_the_video(tmp_path)


def test_weights_come_from_one_place(ssmvid, video, weights, tmp_path):
    both = ("--pretrained", "--checkpoint", weights)
    done = ssmvid("encode", video, "--model", "videomamba_tiny", "--out", tmp_path / "a.safetensors", *both)
    assert done.code == 2
    assert "not allowed with argument" in done.err


@pytest.fixture
def interruptible():
    """Ctrl-C interrupts, also where the tests were started in the background and it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_the_middle_leaves_no_file(ssmvid, video, tmp_path, monkeypatch, number, code):
    def signalled(*args, **options):
        clips = iter_tokens(*args, **options)
        yield next(clips)
        os.kill(os.getpid(), number)
        yield from clips

    monkeypatch.setattr(encode, "iter_tokens", signalled)
    before = signal.getsignal(signal.SIGTERM)
    done = ssmvid("encode", video, "--model", "videomamba_tiny", "--out", tmp_path / "tokens.safetensors", *SMALL)
    assert done.code == code
    assert only_the_video(tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before
