import pytest
import torch

from ssmvid import create_model
from ssmvid.backbones import load_checkpoint
from tests.backbones.families import TINY


def make(name="mamba3d_small", **options):
    torch.manual_seed(0)
    return create_model(name, **TINY[name] | options)


def test_each_layer_goes_along_the_next_axis_there_or_back():
    with torch.device("meta"):
        video, image = create_model("mamba3d_small"), create_model("mamba2d_small")
    orders = [
        [str(order) for layer in model.layers for order in layer.mixer.pattern.orders] for model in (video, image)
    ]
    assert orders[0] == ["thw", "thw+rev", "twh", "twh+rev", "wht", "wht+rev"] * 6
    assert orders[1] == ["thw", "thw+rev", "twh", "twh+rev"] * 6


def test_the_residual_is_what_the_mixer_read():
    model, clip = make().eval(), torch.randn(1, 3, 2, 16, 16)
    with torch.no_grad():
        stream = model.embed(clip)
        tokens = stream.tokens
        for layer in model.layers:
            normed = layer.norm(tokens)
            tokens = normed + layer.mixer(normed, stream.grid)
        torch.testing.assert_close(model(clip), model.head(model.fc_norm(tokens.mean(1))))


def test_an_image_model_halves_each_side_once():
    model = make("mamba2d_small", features_only=True, out_indices=(0, 1), halve_after=1)
    maps = model(torch.randn(1, 3, 16, 16))
    assert [x.shape[-1] for x in maps] == [4, 2]
    assert model.feature_info.reduction() == [4, 8]
    with pytest.raises(ValueError, match="halve_after must be one of 2 blocks, or None, got 2"):
        make("mamba2d_small", halve_after=2)


def test_a_table_of_other_frames_is_refused(tmp_path):
    torch.save(make(num_frames=3).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"pos_embed holds 12 positions, not those of 5 squares"):
        load_checkpoint(make(num_frames=5), tmp_path / "weights.pth")


def test_another_number_of_frames_takes_the_table_between_them():
    """Linearly in time: a table that is the same in each frame stays so, whatever the number of frames."""
    model = make(num_frames=4).eval()
    with torch.no_grad():
        model.pos_embed.copy_(model.pos_embed[:, :4].repeat(1, 4, 1))
        table = model.positions(model.grid._replace(t=7))[1]
    assert table.shape == (1, 7, 4, 16)
    torch.testing.assert_close(table, model.pos_embed[:, :4].unsqueeze(1).expand_as(table))
