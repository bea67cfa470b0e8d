"""What every model can do: timm's methods, any size, gradients, checkpoints."""

import pytest
import torch

from ssmvid import create_model
from ssmvid.backbones import load_checkpoint
from tests.backbones.families import NAMES, TINY

MODELS = pytest.mark.parametrize("name", NAMES)


def make(name, **options):
    torch.manual_seed(0)
    return create_model(name, **TINY[name] | options)


def clip_for(name, batch=2):
    """A clip of the size the model was made for."""
    size = TINY[name]["img_size"]
    return torch.randn(batch, 3, TINY[name].get("num_frames", 1), size, size)


@MODELS
def test_another_resolution(name):
    model = make(name).eval()
    for sizes in ((24, 16), (8, 40)):
        clip = torch.randn(1, 3, TINY[name].get("num_frames", 1), *sizes)
        tokens, grid = model.forward_tokens(clip)
        assert tokens.shape == (1, grid.length, model.num_features)
        assert model(clip).shape == (1, 5)
        assert model(clip).isfinite().all()


@MODELS
def test_head_and_tokens_come_from_the_features(name):
    model, clip = make(name).eval(), clip_for(name)
    features = model.forward_features(clip)
    assert torch.equal(model.forward_tokens(clip)[0], features[:, model.num_prefix_tokens :])
    assert model.forward_head(features, pre_logits=True).shape == (2, model.head_hidden_size)
    assert torch.equal(model.forward_head(features), model(clip))
    assert features.shape[-1] == model.num_features


@MODELS
def test_every_parameter_gets_a_finite_gradient(name):
    model = make(name)
    with torch.no_grad():  # fresh dt is near zero, where A is hardly seen; a zero table hides what it multiplies
        for key, parameter in model.named_parameters():
            if "dt_proj" in key and key.endswith("bias"):
                parameter += 3
    model(clip_for(name)).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        # A class token at the head is the last layer's first step forward: no state precedes it.
        if not (name.startswith("videomamba") and key == f"layers.{len(model.layers) - 1}.mixer.A_log"):
            assert parameter.grad.abs().max() > 0, key


@MODELS
def test_checkpointing_gives_the_same_gradients(name):
    model, clip = make(name).eval(), clip_for(name)
    gradients = []
    for enable in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(enable)
        model(clip).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert all(torch.equal(plain, again) for plain, again in zip(*gradients))


@MODELS
def test_weights_round_trip_through_a_file(name, tmp_path):
    source, clip = make(name).eval(), clip_for(name)
    torch.save({"model": source.state_dict()}, tmp_path / "weights.pth")
    torch.manual_seed(1)
    model = create_model(name, **TINY[name]).eval()
    assert not torch.equal(model(clip), source(clip))
    load_checkpoint(model, tmp_path / "weights.pth")
    assert torch.equal(model(clip), source(clip))


@MODELS
def test_tables_are_resized_when_loaded_as_they_are_on_the_fly(name, tmp_path):
    sizes = (24, 16)
    source, model = make(name), make(name, img_size=sizes)
    for key in source.undecayed:
        if getattr(source, key) is not None:
            torch.nn.init.normal_(getattr(source, key))
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    load_checkpoint(model, tmp_path / "weights.pth")
    clip = torch.randn(1, 3, TINY[name].get("num_frames", 1), *sizes)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(clip), source.eval()(clip))


@MODELS
def test_reset_classifier(name):
    model, clip = make(name), clip_for(name)
    model.reset_classifier(3)
    assert model(clip).shape == (2, 3)
    assert model.get_classifier().out_features == model.num_classes == 3
    model.reset_classifier(0)
    assert model(clip).shape == (2, model.head_hidden_size)


@MODELS
def test_timms_optimizer_groups_and_layer_decay_read_the_model(name):
    from timm.optim import param_groups_layer_decay, param_groups_weight_decay

    model = make(name)
    parameters = dict(model.named_parameters())
    assert model.no_weight_decay() <= parameters.keys()
    assert {
        key for key in parameters if "A_log" in key or "_log" in key or "pos_embed" in key
    } <= model.no_weight_decay()
    names = {id(parameter): key for key, parameter in parameters.items()}
    decayed = param_groups_weight_decay(model, 0.1, no_weight_decay_list=model.no_weight_decay())[1]
    assert not model.no_weight_decay() & {names[id(p)] for p in decayed["params"]}
    groups = param_groups_layer_decay(model, 0.1, model.no_weight_decay(), layer_decay=0.5)
    scale = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    ladder = [
        {rate for key, rate in scale.items() if key.startswith(start)}
        for start in ("patch_embed", "layers.0", "layers.1", "head")
    ]
    assert all(len(rates) == 1 for rates in ladder)
    assert sorted(map(min, ladder)) == list(map(min, ladder))
    assert scale["head.weight"] == 1


@MODELS
def test_intermediates_end_in_the_features(name):
    model, clip = make(name).eval(), clip_for(name)
    features, streams = model.forward_intermediates(clip, output_fmt="NLC")
    assert [stream.shape[-1] for stream in streams] == [info["num_chs"] for info in model.feature_info]
    assert torch.equal(features, model.forward_features(clip))
    last = model.forward_intermediates(clip, indices=1, norm=True, output_fmt="NLC", intermediates_only=True)
    assert torch.equal(last[0], features[:, model.num_prefix_tokens :])
    maps = model.forward_intermediates(clip, indices=[0], stop_early=True, intermediates_only=True)
    torch.testing.assert_close(maps[0].flatten(2).mT, streams[0])


@MODELS
def test_features_only(name):
    model = make(name, features_only=True, out_indices=(0, 1))
    maps = model(clip_for(name))
    for x, info in zip(maps, model.feature_info.info[:2]):
        side = TINY[name]["img_size"] // info["reduction"]
        assert x.shape[1] == info["num_chs"]
        assert x.shape[-1] in (side, side - 1)  # overlapping tubelets leave one out
    assert len(model.model.layers) == 2


@pytest.mark.parametrize(("name", "reductions"), [("vim_tiny", [16] * 3), ("vmamba_tiny_s1l8", [4, 8, 16, 32])])
def test_features_only_gives_three_layers_or_every_stage_unless_told(name, reductions):
    with torch.device("meta"):
        model = create_model(name, features_only=True, feature_cls="getter")
    assert model.feature_info.reduction() == reductions


@MODELS
def test_a_misspelt_option_is_refused(name):
    with pytest.raises(TypeError, match="unknown option 'img_sizes': did you mean img_size"):
        make(name, img_sizes=32)


@MODELS
def test_stochastic_depth_acts_in_training_only(name):
    model, clip = make(name, drop_path_rate=0.8), clip_for(name, batch=16)
    model.train()
    assert not torch.equal(model(clip), model(clip))
    assert torch.equal(model.eval()(clip), model(clip))


@MODELS
def test_in_bf16(name):
    model, clip = make(name).eval(), clip_for(name)
    exact = model(clip)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(clip)
    pure = model.bfloat16()(clip.bfloat16())
    assert pure.dtype == torch.bfloat16
    for rounded in (mixed, pure):
        torch.testing.assert_close(rounded.float(), exact, atol=0.05 * exact.abs().max().item(), rtol=0)
