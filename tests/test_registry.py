import pytest
import timm
import torch

import ssmvid
from ssmvid import create_model, list_models

OURS = ["videomamba_base", "videomamba_middle", "videomamba_small", "videomamba_tiny"]


def test_only_our_models_are_listed():
    assert set(OURS) <= set(list_models())
    assert "vit_tiny_patch16_224" not in list_models()
    assert list_models("videomamba_t*") == ["videomamba_tiny"]
    assert list_models("nothing*") == []


def test_timm_knows_our_models_too():
    with torch.device("meta"):
        model = timm.create_model("videomamba_tiny", num_classes=3)
    assert type(model) is ssmvid.backbones.VideoMamba
    assert model.num_classes == 3


def test_unknown_model_suggests_the_nearest():
    with pytest.raises(ValueError, match="unknown model 'videomamba_tini': did you mean videomamba_tiny"):
        create_model("videomamba_tini")
    with pytest.raises(ValueError, match=r"did you mean .*resnet50"):
        create_model("resnet_50")
    with pytest.raises(ValueError, match=r"see ssmvid\.list_models\(\)"):
        create_model("zzzzzzzzzzz")


@pytest.mark.parametrize("create", [create_model, timm.create_model])
@pytest.mark.parametrize("name", list_models())
def test_unknown_option_is_refused_with_a_suggestion(create, name):
    with pytest.raises(TypeError, match=f"{name}: unknown option 'num_frame': did you mean num_frames"):
        create(name, num_frame=4)
    with pytest.raises(TypeError, match=r"unknown option 'zzz': expected one of .*num_frames"):
        create(name, zzz=4)


@pytest.mark.parametrize("name", list_models())
def test_every_model_says_where_its_weights_come_from(name):
    cfg = timm.get_pretrained_cfg(name)
    assert cfg.license
    assert not cfg.has_weights or cfg.origin_url.startswith("https://github.com/")
    assert cfg.paper_ids.startswith("arXiv:")
    assert (cfg.mean, cfg.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.device("meta"):
        model = create_model(name)
    frames = f"{model.num_frames} frames" if model.num_frames > 1 else "images"
    assert not cfg.has_weights or frames in (cfg.description or "images")
    assert not cfg.classifier or f"{cfg.classifier}.weight" in model.state_dict()
    for conv in (cfg.first_conv,) if isinstance(cfg.first_conv, str) else cfg.first_conv or ():
        assert f"{conv}.weight" in model.state_dict()


@pytest.mark.parametrize(
    ("tag", "file", "frames", "classes"),
    [
        ("", "videomamba_t16_k400_f8_res224.pth", 8, 400),
        (".k400_f64", "videomamba_t16_k400_f64_res224.pth", 64, 400),
        (".in1k", "videomamba_t16_in1k_res224.pth", 1, 1000),
    ],
)
def test_a_tag_names_the_weights_and_their_clip_length(tag, file, frames, classes):
    with torch.device("meta"):
        model = create_model(f"videomamba_tiny{tag}")
    assert model.pretrained_cfg["hf_hub_filename"] == file
    assert (model.num_frames, model.num_classes) == (frames, classes)


def test_an_unknown_tag_is_refused():
    with pytest.raises(RuntimeError, match="k400_f9"):
        create_model("videomamba_tiny.k400_f9")


def test_options_win_over_the_tag():
    with torch.device("meta"):
        model = create_model("videomamba_tiny.k400_f8", num_frames=12, num_classes=7, dim=32, depth=1)
    assert (model.num_frames, model.num_classes, model.num_features, len(model.layers)) == (12, 7, 32, 1)
