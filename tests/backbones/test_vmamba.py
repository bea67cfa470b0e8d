import re

import pytest
import torch

from ssmvid import create_model
from ssmvid.backbones import load_checkpoint
from tests.backbones.families import TINY


def make(name="vmamba_tiny_s1l8", **options):
    torch.manual_seed(0)
    return create_model(name, **TINY[name] | options)


def test_the_first_codes_names_load(tmp_path):
    """Checkpoints of the first release carry Swin's names, which its present code no longer writes."""
    model = make("vanilla_vmamba_tiny")
    released = {}
    for key, value in model.state_dict().items():
        key = key.replace("patch_embed.convs.0", "patch_embed.proj").replace("patch_embed.convs.1", "patch_embed.norm")
        key = key.replace("norm1", "ln_1").replace("mixer", "self_attention").replace("layers.1.down", "layers.0.down")
        released[key] = value.flatten(0, 1) if re.search("A_logs|Ds", key) else value
    torch.save({"model": released}, tmp_path / "weights.pth")
    other = create_model("vanilla_vmamba_tiny", **TINY["vanilla_vmamba_tiny"])
    load_checkpoint(other, tmp_path / "weights.pth")
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in other.state_dict().items())


def test_an_image_is_a_one_frame_clip_and_the_image_model_refuses_more():
    model, image = make().eval(), torch.randn(2, 3, 16, 16)
    assert torch.equal(model(image), model(image[:, :, None]))
    with pytest.raises(ValueError, match=r"must have T = 1 frame for this image model, got T = 2.*num_frames"):
        model(torch.randn(1, 3, 2, 16, 16))


def test_the_scans_run_through_all_frames():
    model, clip = make(num_frames=3).eval(), torch.randn(1, 3, 3, 16, 16)
    other = clip.clone()
    other[:, :, 2] += 1
    first = slice(0, 4)  # the first frame's tokens
    assert not torch.equal(model.forward_tokens(clip)[0][:, first], model.forward_tokens(other)[0][:, first])


@pytest.mark.parametrize("name", ["vmamba_tiny_s1l8", "vanilla_vmamba_tiny"])
def test_stages_round_up_where_they_halve(name):
    maps = make(name).forward_intermediates(torch.randn(1, 3, 12, 20), intermediates_only=True)
    assert [tuple(x.shape) for x in maps] == [(1, 8, 1, 3, 5), (1, 16, 1, 2, 3)]


def test_sizes_that_4_does_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"multiples of \(1, 4, 4\), got \(1, 3, 1, 16, 18\): resize"):
        make()(torch.randn(1, 3, 16, 18))
    with pytest.raises(ValueError, match="VMamba: num_frames and img_size must be multiples of"):
        make(img_size=18)


def test_layer_decay_counts_blocks_and_coarsely_stages():
    from timm.models._manipulate import group_parameters

    model = make(depths=[1, 2])
    fine, coarse = (group_parameters(model, model.group_matcher(coarse), reverse=True) for coarse in (False, True))
    key = "layers.{}.blocks.{}.mixer.Ds"
    assert fine["layers.1.downsample.0.weight"] == fine[key.format(1, 0)] == 2
    assert fine[key.format(0, 0)] == 1
    assert fine[key.format(1, 1)] == 3
    assert coarse[key.format(1, 0)] == coarse[key.format(1, 1)] == coarse["layers.1.downsample.0.weight"] == 2


def test_an_image_models_weights_start_a_video_model(tmp_path):
    image = make().eval()
    torch.save(image.state_dict(), tmp_path / "image.pth")
    video = make(num_frames=2).eval()
    load_checkpoint(video, tmp_path / "image.pth", from_image=True)
    picture = torch.randn(1, 3, 16, 16)
    assert torch.equal(video(picture), image(picture))
