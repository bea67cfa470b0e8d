import pytest
import torch
import torch.nn.functional as F

from ssmvid.layers import TubeletEmbed
from ssmvid.scan import Grid


@pytest.mark.parametrize("tubelet", [(1, 4, 4), (2, 3, 5)])
def test_tokens_are_a_strided_convolution_in_thw_order(tubelet):
    embed = TubeletEmbed(7, tubelet)
    clip = torch.randn(2, 3, 4, 12, 20)
    tokens, grid = embed(clip)
    expected = F.conv3d(clip, embed.proj.weight, embed.proj.bias, stride=tubelet)
    assert grid == Grid(*expected.shape[2:])
    torch.testing.assert_close(tokens, expected.flatten(2).mT)


@pytest.mark.parametrize("image", [False, True])
def test_overlapping_tubelets_are_a_convolution_too(image):
    embed = TubeletEmbed(7, (1, 4, 6), stride=(1, 2, 3), image=image)
    clip = torch.randn(2, 3, 2, 8, 12)
    tokens, grid = embed(clip)
    expected = F.conv3d(clip, embed.proj.weight.view(7, 3, 1, 4, 6), embed.proj.bias, stride=(1, 2, 3))
    assert grid == embed.grid((2, 8, 12)) == Grid(2, 3, 3)
    torch.testing.assert_close(tokens, expected.flatten(2).mT)
    with pytest.raises(ValueError, match=r"T, H, W \(1, 4, 6\) plus multiples of \(1, 2, 3\), got .*: resize"):
        embed(torch.randn(1, 3, 1, 9, 12))


def test_an_image_weight_gives_the_tokens_of_the_video_weight():
    image, video = TubeletEmbed(7, (1, 4, 4), image=True), TubeletEmbed(7, (1, 4, 4))
    assert image.proj.weight.shape == (7, 3, 4, 4)
    video.load_state_dict({key: value.view_as(video.get_parameter(key)) for key, value in image.state_dict().items()})
    clip = torch.randn(2, 3, 1, 8, 12)
    assert torch.equal(image(clip)[0], video(clip)[0])


def test_a_clip_of_any_strides():
    embed, clip = TubeletEmbed(5, (1, 2, 2)), torch.randn(2, 4, 6, 8, 3).permute(0, 4, 1, 2, 3)
    assert torch.equal(embed(clip)[0], embed(clip.contiguous())[0])


@pytest.mark.parametrize("shape", [(3, 2, 8, 8), (2, 4, 2, 8, 8), (2, 3, 3, 8, 8), (2, 3, 2, 8, 9), (2, 3, 0, 8, 8)])
def test_a_wrong_shape_is_one_clear_error(shape):
    embed = TubeletEmbed(5, (2, 4, 4))
    with pytest.raises(
        ValueError, match=r"clip must be \(b, 3, T, H, W\) with T, H, W multiples of \(2, 4, 4\), got \("
    ):
        embed(torch.randn(shape))


def test_an_integer_clip_is_refused():
    with pytest.raises(TypeError, match=r"floating point, got torch\.uint8: scale and normalise"):
        TubeletEmbed(5, (1, 4, 4))(torch.zeros(1, 3, 1, 4, 4, dtype=torch.uint8))


def test_an_image_has_no_tubelet_of_two_frames():
    with pytest.raises(ValueError, match="one frame a tubelet"):
        TubeletEmbed(5, (2, 4, 4), image=True)
