import pytest
import torch

from ssmvid import create_model
from tests.backbones.families import TINY


def make(**options):
    torch.manual_seed(0)
    return create_model("plain_mamba_l1", **TINY["plain_mamba_l1"] | options)


def test_recomputing_counts_no_batch_twice():
    clip = torch.randn(4, 3, 1, 16, 16)
    models = [make().train(), make().train()]
    models[1].set_grad_checkpointing()
    for model in models:
        model(clip).sum().backward()
    for plain, recomputed in zip(*(model.buffers() for model in models)):
        assert torch.equal(plain, recomputed)


def test_a_classifier_of_the_released_files_is_known_by_its_own_name():
    model = make()
    official = {"backbone.layers.0.mamba.D": model.layers[0].mixer.D, "head.fc.bias": model.head.bias}
    assert model.from_official(official).keys() == {"layers.0.mixer.D", "head.bias"}


@pytest.mark.parametrize("tubelet", [(2, 8, 8), (1, 7, 8), (1, 8, 7)])
def test_a_tubelet_that_the_stem_cannot_cut_is_refused(tubelet):
    with pytest.raises(ValueError, match="tubelet must be one frame, even rows and even columns, got"):
        make(tubelet=tubelet)
