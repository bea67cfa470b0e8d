"""Every model, at a small size, trains under bf16 autocast: gradients stay finite and the loss falls."""

import pytest
import torch
import torch.nn.functional as F

from ssmvid import create_model
from tests.backbones.families import NAMES, TINY

CLIPS = 4
# One of each class of model: quick enough for every run. All of them for longer are slow.
ONE_EACH = ["videomamba_tiny", "vim_tiny", "vmamba_tiny_s1l8", "mambavision_tiny"]


def train(model, loss_of, steps):
    """The loss of each step."""
    optimizer, losses = torch.optim.AdamW(model.train().parameters(), lr=1e-3), []
    for _ in range(steps):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model)
        optimizer.zero_grad()
        loss.backward()
        for key, parameter in model.named_parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all(), key
        optimizer.step()
        losses.append(loss.item())
    assert torch.tensor(losses).isfinite().all()
    return losses


def train_by_name(name, steps):
    """The mean loss of the first and of the last tenth of the steps, of telling a few clips of noise apart."""
    torch.manual_seed(0)
    model, size = create_model(name, **TINY[name]), TINY[name]["img_size"]
    clips = torch.randn(CLIPS, 3, TINY[name].get("num_frames", 1), size, size)
    losses = train(model, lambda model: F.cross_entropy(model(clips).float(), torch.arange(CLIPS)), steps)
    tenth = steps // 10
    return sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth


@pytest.mark.parametrize("name", ONE_EACH)
def test_twenty_steps(name):
    first, last = train_by_name(name, 20)
    assert last < first


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_five_hundred_steps(name):
    first, last = train_by_name(name, 500)
    print(f"{name}: {first:.3f} -> {last:.3f}")
    assert last < 0.2 * first


@pytest.mark.slow
def test_five_hundred_steps_of_masked_pretraining():
    """Of telling a teacher's features, of noise, from the visible tokens."""
    torch.manual_seed(0)
    options = {key: value for key, value in TINY["videomamba_tiny"].items() if key != "num_classes"}
    model = create_model("videomamba_middle_pretrain", **options, out_dim=8)
    clips = torch.randn(CLIPS, 3, 2, 16, 16)
    mask = torch.tensor([True, False, False, True] * 2).expand(CLIPS, -1)
    teacher = F.normalize(torch.randn(CLIPS, 1 + 4, 8), dim=-1)
    losses = train(model, lambda model: (1 - (model(clips, mask).float() * teacher).sum(-1)).mean(), 500)
    print(f"{losses[0]:.3f} -> {losses[-1]:.3f}")
    assert losses[-1] < 0.2 * losses[0]
