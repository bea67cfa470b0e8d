"""To a folder or the hub and back: Hugging Face's mixin, and timm's own files."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

from ssmvid import create_model
from ssmvid.backbones import VideoMamba
from tests.backbones.families import NAMES, TINY

ONE_EACH = list({type(create_model(name, **TINY[name])): name for name in NAMES}.values())


def make(name="videomamba_tiny"):
    torch.manual_seed(0)
    return create_model(name, **TINY[name])


def same(model, other):
    weights = other.state_dict()
    return model.state_dict().keys() == weights.keys() and all(
        torch.equal(value, weights[key]) for key, value in model.state_dict().items()
    )


@pytest.mark.parametrize("name", ONE_EACH)
def test_a_folder_holds_options_and_weights(name, tmp_path):
    source = make(name)
    source.reset_classifier(3)
    source.save_pretrained(tmp_path)
    model = type(source).from_pretrained(tmp_path)
    assert same(model, source)
    assert not model.training
    assert model.num_classes == 3
    size = TINY[name]["img_size"]
    clip = torch.randn(1, 3, TINY[name].get("num_frames", 1), size, size)
    assert torch.equal(model(clip), source.eval()(clip))


def test_pushed_and_pulled_by_id(tmp_path, monkeypatch):
    """The hub's API replaced by a folder."""
    hub = tmp_path / "hub"

    class Api:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, **options):
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, *, repo_id, folder_path, **options):
            shutil.copytree(folder_path, hub / repo_id)
            return f"folder {repo_id}"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    monkeypatch.setattr(
        "huggingface_hub.hub_mixin.hf_hub_download", lambda repo_id, filename, **options: str(hub / repo_id / filename)
    )
    source = make()
    assert source.push_to_hub("me/model") == "folder me/model"
    assert {path.name for path in (hub / "me/model").iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert same(VideoMamba.from_pretrained("me/model"), source)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    make().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"shape       head\.weight: expected \(7, 16\), got \(5, 16\)"):
        VideoMamba.from_pretrained(tmp_path, num_classes=7)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["norm_f.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"missing     norm_f\.weight"):
        VideoMamba.from_pretrained(tmp_path)


def test_tables_are_resized_for_other_sizes(tmp_path):
    make().save_pretrained(tmp_path)
    model = VideoMamba.from_pretrained(tmp_path, img_size=32, num_frames=6)
    assert model.pos_embed.shape[1] == 1 + 16
    assert model.temporal_pos_embedding.shape[1] == 6


def test_timms_own_folder_loads_by_its_scheme(tmp_path):
    """What `timm.models.push_to_hf_hub` uploads."""
    source = make()
    save_for_hf(source, tmp_path, model_args=TINY["videomamba_tiny"])
    assert same(create_model(f"local-dir:{tmp_path}", pretrained=True), source)
