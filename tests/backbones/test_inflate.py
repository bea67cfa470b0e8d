import pytest
import torch

from ssmvid import create_model
from ssmvid.backbones import load_checkpoint
from tests.backbones.families import TINY


@pytest.mark.parametrize("name", ["videomamba_tiny", "vim_tiny", "mambareg_small", "local_vim_tiny"])
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_frame_among_grey_ones_is_the_image(name, frames, tmp_path):
    """One tubelet of `frames` frames whose middle one is the image: only that frame is read."""
    torch.manual_seed(0)
    image = create_model(name, **TINY[name] | {"num_frames": 1})
    torch.save(image.state_dict(), tmp_path / "image.pth")
    video = create_model(name, **TINY[name] | {"num_frames": 2 * frames, "tubelet": (frames, 8, 8)})
    load_checkpoint(video, tmp_path / "image.pth", from_image=True)
    picture, clip = torch.randn(1, 3, 16, 16), torch.randn(1, 3, frames, 16, 16)
    clip[:, :, frames // 2] = picture
    with torch.no_grad():
        torch.testing.assert_close(video.eval()(clip), image.eval()(picture))


def test_an_image_is_not_inflated_unasked(small, tmp_path):
    torch.save(small(num_frames=1).state_dict(), tmp_path / "image.pth")
    with pytest.raises(ValueError, match="missing     temporal_pos_embedding"):
        load_checkpoint(small(), tmp_path / "image.pth")


def test_a_video_models_weights_stay_as_they_are(small, tmp_path):
    source, model = small(), small()
    torch.nn.init.normal_(source.temporal_pos_embedding)
    torch.save(source.state_dict(), tmp_path / "video.pth")
    load_checkpoint(model, tmp_path / "video.pth", from_image=True)
    assert torch.equal(model.temporal_pos_embedding, source.temporal_pos_embedding)
