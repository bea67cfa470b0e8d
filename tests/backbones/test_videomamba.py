import pytest
import torch

from ssmvid.scan import Grid


@pytest.mark.parametrize("shape", [(2, 3, 2, 16, 16), (1, 3, 5, 24, 8), (1, 3, 1, 16, 40), (0, 3, 2, 16, 16)])
def test_clips_of_any_size_that_fits_the_tubelet(small, shape):
    model, clip = small().eval(), torch.randn(shape)
    tokens, grid = model.forward_tokens(clip)
    assert grid == Grid(shape[2], shape[3] // 8, shape[4] // 8)
    assert tokens.shape == (shape[0], grid.length, 16)
    assert model(clip).shape == (shape[0], 5)


def test_tubelets_of_several_frames(small):
    model = small(num_frames=4, tubelet=(2, 8, 8))
    assert model.temporal_pos_embedding.shape == (1, 2, 16)
    assert model.forward_tokens(torch.randn(1, 3, 6, 16, 16))[1] == Grid(3, 2, 2)


def test_tables_are_resized_to_the_clip(small):
    """A model at one size, its tables resized by hand, is the model at the other size."""
    from ssmvid.layers import resize_spatial, resize_temporal

    model = small()
    torch.nn.init.normal_(model.temporal_pos_embedding)
    state = model.state_dict()
    slot, spatial = state["pos_embed"].split([1, 4], dim=1)
    state["pos_embed"] = torch.cat([slot, resize_spatial(spatial, (2, 2), (3, 4))], dim=1)
    state["temporal_pos_embedding"] = resize_temporal(state["temporal_pos_embedding"], 5)
    other = small(num_frames=5, img_size=(24, 32))
    other.load_state_dict(state)
    clip = torch.randn(1, 3, 5, 24, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(clip), other(clip))


def test_an_image_is_a_one_frame_clip(small):
    image = torch.randn(2, 3, 16, 16)
    for model in (small(num_frames=1), small(num_frames=2)):
        assert torch.equal(model(image), model(image[:, :, None]))


def test_the_image_model_has_no_temporal_table_and_refuses_a_clip(small):
    model = small(num_frames=1)
    assert "temporal_pos_embedding" not in model.state_dict()
    with pytest.raises(ValueError, match=r"must have T = 1 frame for this image model, got T = 4.*num_frames"):
        model(torch.randn(1, 3, 4, 16, 16))


def test_a_wrong_clip_is_one_clear_error(small):
    with pytest.raises(ValueError, match=r"clip must be \(b, 3, T, H, W\).*, got \(1, 2, 3, 16, 16\): put the axes"):
        small()(torch.randn(1, 2, 3, 16, 16))
    with pytest.raises(ValueError, match=r"multiples of \(1, 8, 8\), got \(1, 3, 2, 16, 15\): resize"):
        small()(torch.randn(1, 3, 2, 16, 15))


@pytest.mark.parametrize("sizes", [{"img_size": 20}, {"num_frames": 3, "tubelet": (2, 8, 8)}, {"num_frames": 0}])
def test_sizes_that_do_not_fit_the_tubelet_are_refused(small, sizes):
    with pytest.raises(ValueError, match="num_frames and img_size must be multiples of "):
        small(**sizes)


def test_tokens_are_the_features_behind_the_class_token(small):
    model, clip = small().eval(), torch.randn(2, 3, 2, 16, 16)
    features = model.forward_features(clip)
    assert torch.equal(model.forward_tokens(clip)[0], features[:, 1:])
    assert torch.equal(model.forward_head(features, pre_logits=True), features[:, 0])
    assert torch.equal(model.forward_head(features), model(clip))
    assert model.num_features == features.shape[-1]


def test_every_parameter_gets_a_finite_gradient(small):
    torch.manual_seed(0)
    model = small(depth=3)
    with torch.no_grad():  # fresh dt is near zero, where A is hardly seen
        for layer in model.layers:
            layer.mixer.dt_proj.bias += 3
            layer.mixer.dt_proj_b.bias += 3
    model(torch.randn(2, 3, 2, 16, 16)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # The class token is the first step of the last layer's forward path: no state precedes it.
        if name != "layers.2.mixer.A_log":
            assert parameter.grad.abs().max() > 0, name


def test_checkpointing_gives_the_same_gradients(small):
    model, clip = small(), torch.randn(1, 3, 2, 16, 16)
    gradients = []
    for enable in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(enable)
        model(clip).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert all(torch.equal(plain, again) for plain, again in zip(*gradients))


def test_stochastic_depth_grows_to_the_last_block(small):
    model = small(depth=3, drop_path_rate=0.8)
    assert [layer.drop_path.drop_prob for layer in model.layers] == [0, 0, 0.4]
    assert model.drop_path.drop_prob == 0.8
    clip = torch.randn(32, 3, 2, 16, 16)
    assert not torch.equal(model(clip), model(clip))
    assert torch.equal(model.eval()(clip), model(clip))


def test_under_autocast_and_in_bf16(small):
    model, clip = small(), torch.randn(1, 3, 2, 16, 16)
    exact = model(clip)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(clip)
    mixed.float().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    pure = model.bfloat16()(clip.bfloat16())
    assert pure.dtype == mixed.dtype == torch.bfloat16
    for rounded in (mixed, pure):
        torch.testing.assert_close(rounded.float(), exact, atol=0.05 * exact.abs().max().item(), rtol=0)


def test_reset_classifier(small):
    model, clip = small(), torch.randn(1, 3, 2, 16, 16)
    model.reset_classifier(3)
    assert model(clip).shape == (1, 3)
    assert model.get_classifier().out_features == model.num_classes == 3
    model.reset_classifier(0)
    assert model(clip).shape == (1, model.num_features)


def test_what_is_not_decayed_exists_and_holds_no_matrix_but_A(small):
    model = small()
    parameters = dict(model.named_parameters())
    assert model.no_weight_decay() <= parameters.keys()
    assert {name for name in parameters if name.endswith("_log")} <= model.no_weight_decay()
    assert "temporal_pos_embedding" not in small(num_frames=1).no_weight_decay()


def test_timms_optimizer_groups_and_layer_decay_read_the_model(small):
    from timm.optim import param_groups_layer_decay, param_groups_weight_decay

    model = small()
    decayed = param_groups_weight_decay(model, 0.1, no_weight_decay_list=model.no_weight_decay())[1]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert not any("A_" in names[id(p)] or "pos" in names[id(p)] for p in decayed["params"])
    groups = param_groups_layer_decay(model, 0.1, model.no_weight_decay(), layer_decay=0.5)
    scale = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    assert scale["temporal_pos_embedding"] == scale["patch_embed.proj.weight"] < scale["layers.0.norm.weight"]
    assert scale["layers.0.norm.weight"] < scale["layers.1.mixer.A_log"] == scale["norm_f.weight"]
    assert scale["norm_f.weight"] < scale["head.weight"] == 1


def test_intermediates_end_in_the_features(small):
    model, clip = small(depth=3).eval(), torch.randn(2, 3, 2, 16, 24)
    features, streams = model.forward_intermediates(clip, norm=True, output_fmt="NLC")
    assert len(streams) == 3
    assert torch.equal(features, model.forward_features(clip))
    assert torch.equal(streams[-1], features[:, 1:])
    (maps,) = model.forward_intermediates(clip, indices=[1], stop_early=True, intermediates_only=True)
    assert maps.shape == (2, 16, 2, 2, 3)
    raw = model.forward_intermediates(clip, indices=[1], output_fmt="NLC", intermediates_only=True)[0]
    torch.testing.assert_close(maps.flatten(2).mT, raw)


def test_features_only(small):
    model = small(depth=3, features_only=True, out_indices=(0, 1))
    maps = model(torch.randn(1, 3, 2, 16, 16))
    assert [tuple(x.shape) for x in maps] == [(1, 16, 2, 2, 2)] * 2
    assert model.feature_info.channels() == [16, 16]
    assert len(model.model.layers) == 2


def test_an_unknown_format_is_refused(small):
    with pytest.raises(ValueError, match="output_fmt must be 'NCHW' or 'NLC', got 'NHWC'"):
        small().forward_intermediates(torch.randn(1, 3, 2, 16, 16), output_fmt="NHWC")


def test_fresh_values_are_the_papers(small):
    torch.manual_seed(0)
    model = small(dim=128, depth=4)
    assert model.cls_token.abs().max() == model.temporal_pos_embedding.abs().max() == model.head.bias.abs().max() == 0
    for table in (model.pos_embed, model.patch_embed.proj.weight, model.head.weight):
        assert 0.015 < table.std() < 0.025
    # Kaiming-uniform with a = sqrt(5) is U(+-1/sqrt(inner)); the residual stream adds `depth` of them.
    bound = 256**-0.5 / 4**0.5
    for layer in model.layers:
        assert 0.95 * bound < layer.mixer.out_proj.weight.abs().max() <= bound
