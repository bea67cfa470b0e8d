"""The encoder as a model of transformers: what is saved comes back, in a new process, bit by bit."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from ssmvid.lmm import VisualTokenEncoder
from ssmvid.lmm.hf import VisualTokenEncoderConfig, VisualTokenEncoderModel
from tests.lmm.hf.tiny import ENCODER, WIDTH, make_encoder

ROOT = Path(__file__).parents[3]
IN_A_NEW_PROCESS = """
import sys, torch, ssmvid.lmm.hf
from transformers import AutoModel
folder = sys.argv[1]
model = AutoModel.from_pretrained(folder)
videos = torch.load(f"{folder}/videos.pt")
with torch.no_grad():
    torch.save((model.state_dict(), model.training, *model(videos).to_tuple()), f"{folder}/got.pt")
"""


@torch.no_grad()
def test_a_model_comes_back_in_a_new_process(tmp_path):
    model, videos = make_encoder(clip_frames=4), [torch.randn(T, 3, 16, 24) for T in (4, 10)]
    model.save_pretrained(tmp_path)
    torch.save(videos, tmp_path / "videos.pt")
    subprocess.run([sys.executable, "-W", "error", "-c", IN_A_NEW_PROCESS, tmp_path], check=True, cwd=ROOT)
    state, training, *outputs = torch.load(tmp_path / "got.pt")
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(state[key], own) for key, own in model.state_dict().items())
    assert all(torch.equal(got, own) for got, own in zip(outputs, model(videos).to_tuple(), strict=True))
    assert not training
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["model.safetensors"]


def test_a_config_comes_back(tmp_path):
    make_encoder(clip_frames=4).config.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, VisualTokenEncoderConfig)
    assert config.backbone_options["tubelet"] == [2, 8, 8]
    assert (config.backbone, config.clip_frames) == ("multiscan_tiny", 4)
    assert isinstance(AutoModel.from_config(config), VisualTokenEncoderModel)


@torch.no_grad()
def test_it_is_the_encoder():
    model, videos, times = make_encoder(), torch.randn(2, 10, 3, 16, 24), torch.rand(2, 10)
    tokens, positions, mask = model.encoder(videos.transpose(1, 2), times)
    got = model(videos, times)
    assert torch.equal(got.last_hidden_state, tokens)
    assert torch.equal(got.positions, positions)
    assert torch.equal(got.mask, mask)
    assert tokens.shape == (2, model.num_tokens(10, 16, 24), WIDTH)
    assert model.soft_grid(10, 16, 24).length == model.num_tokens(10, 16, 24)


def test_weights_are_those_the_constructors_made():
    """transformers fills in its own where a class does not say otherwise, and Mamba's steps and zeros would be lost."""
    model = make_encoder()
    torch.manual_seed(1)
    encoder = model.config.build()
    assert isinstance(encoder, VisualTokenEncoder)
    assert all(torch.equal(model.encoder.state_dict()[key], own) for key, own in encoder.state_dict().items())


@pytest.mark.parametrize("change", ["missing", "unexpected", "mismatched"])
def test_a_checkpoint_that_does_not_fit_is_refused(change, tmp_path):
    make_encoder().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state, key = load_file(path), "encoder.connector.projector.0.weight"
    if change == "missing":
        del state[key]
    elif change == "unexpected":
        state[key := "encoder.more"] = torch.zeros(1)
    else:
        state[key] = torch.zeros(1, 1)
    save_file(state, path, {"format": "pt"})
    with pytest.raises(ValueError, match=f"does not fit the model its config describes: {change} keys: .*{key}"):
        VisualTokenEncoderModel.from_pretrained(tmp_path, ignore_mismatched_sizes=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "multiscan_tinny"}, "unknown model 'multiscan_tinny': did you mean multiscan_tiny"),
        ({"backbone_options": {"pretrained": True}}, "must not have 'pretrained', as weights come with the model's"),
        ({"connector": {"_target_": "os.system", "command": "true"}}, "_target_ must be one of .* got 'os.system'"),
        ({"connector": {"_target_": "ssmvid.lmm.encoder.torch.load"}}, "_target_ must be one of ssmvid.lmm.Bimba"),
        (
            {"connector": {"_target_": "ssmvid.lmm.Pool", "stride": [1, 1, 1]}},
            "got an unexpected|must name a Connector",
        ),
        ({"connector": {}}, "_target_ must be one of .* got None"),
    ],
)
def test_a_config_names_only_what_is_ssmvids(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        VisualTokenEncoderConfig(**ENCODER | changes).build()


def test_wrong_videos_are_refused():
    with pytest.raises(ValueError, match=r"a video must be \(T, c, H, W\), an image \(c, H, W\), got \(16, 16\)"):
        make_encoder()(torch.zeros(3, 16, 16))
