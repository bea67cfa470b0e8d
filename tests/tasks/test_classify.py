import pytest
import torch
from torch import nn

from ssmvid.tasks import Classify


def make(smoothing):
    torch.manual_seed(0)
    return Classify(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), label_smoothing=smoothing)


FRAMES, LABELS = torch.randn(7, 3, 1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.arange(7) % 5


def test_the_loss_is_the_mean_cross_entropy_of_the_logits():
    output = make(0.0)(FRAMES, LABELS)
    assert output["logits"].shape == (7, 5)
    by_hand = -output["logits"].log_softmax(-1)[torch.arange(7), LABELS].mean()
    torch.testing.assert_close(output["loss"], by_hand)


def test_labels_are_smoothed_in_training_only():
    task = make(0.3)
    plain = make(0.0)(FRAMES, LABELS)["loss"]
    assert task.train()(FRAMES, LABELS)["loss"] != plain
    assert task.eval()(FRAMES, LABELS)["loss"] == plain


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_loss_of_half_precision_logits_is_fp32(dtype):
    assert make(0.0).to(dtype)(FRAMES.to(dtype), LABELS)["loss"].dtype == torch.float32


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_an_impossible_smoothing_is_refused(smoothing):
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\)"):
        make(smoothing)
