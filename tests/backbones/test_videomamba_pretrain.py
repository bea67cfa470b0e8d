import pytest
import torch

from ssmvid import create_model
from ssmvid.backbones import load_checkpoint
from tests.backbones.families import TINY

SIZES = {key: value for key, value in TINY["videomamba_tiny"].items() if key != "num_classes"}


def make(**options):
    torch.manual_seed(0)
    return create_model("videomamba_middle_pretrain", **SIZES | {"out_dim": 6} | options)


def mask(hidden: list[int]) -> torch.Tensor:
    rows = torch.zeros(1, 8, dtype=torch.bool)
    rows[0, hidden] = True
    return rows


def test_one_unit_vector_a_visible_token():
    model, clip = make(), torch.randn(2, 3, 2, 16, 16)
    said = model(clip, mask([0, 2, 3, 6, 7]).expand(2, -1))
    assert said.shape == (2, 1 + 3, 6)
    torch.testing.assert_close(said.norm(dim=-1), torch.ones(2, 4))


def test_what_is_hidden_is_not_seen():
    model, clip, hidden = make().eval(), torch.randn(1, 3, 2, 16, 16), mask([0, 3, 5])
    other = clip.clone()
    other[:, :, 0, :8, :8] += 1  # token 0
    other[:, :, 0, 8:, 8:] += 1  # token 3
    assert torch.equal(model(clip, hidden), model(other, hidden))
    assert not torch.equal(model(clip, mask([])), model(other, mask([])))


def test_the_released_student_leaves_its_last_layer_untrained_the_normed_one_does_not():
    for aligned, untrained in (("stream", {"norm_f", "layers.1"}), ("normed", set())):
        model = make(aligned=aligned)
        model(torch.randn(1, 3, 2, 16, 16), mask([1, 4]))[..., 0].sum().backward()
        idle = {name for name, parameter in model.named_parameters() if parameter.grad is None}
        assert {".".join(name.split(".")[: 1 + name.startswith("layers")]) for name in idle} == untrained
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


def test_the_encoder_goes_on_as_a_videomamba(tmp_path, small):
    student = make()
    released = {key.replace("norm_f", "norm"): value for key, value in student.state_dict().items()}
    for name, weights in [("released", released), ("ours", student.state_dict())]:
        torch.save({"model": weights}, tmp_path / f"{name}.pth")
        model = small()
        load_checkpoint(model, tmp_path / f"{name}.pth", new_head=True)
        clip = torch.randn(1, 3, 2, 16, 16)
        assert torch.equal(model.forward_features(clip), student.forward_features(clip))
        again = make()
        load_checkpoint(again, tmp_path / f"{name}.pth")
        assert torch.equal(again(clip, mask([1])), student(clip, mask([1])))


def test_a_wrong_mask_or_option_is_refused():
    model, clip = make(), torch.randn(2, 3, 2, 16, 16)
    with pytest.raises(ValueError, match=r"mask must be bool \(2, 8\), one entry a token, got torch.bool \(1, 8\)"):
        model(clip, mask([1]))
    with pytest.raises(ValueError, match=r"hide as many tokens in each sample, got \[1, 2\]"):
        model(clip, torch.cat([mask([1]), mask([1, 2])]))
    with pytest.raises(ValueError, match="aligned must be 'stream' or 'normed', got 'both'"):
        make(aligned="both")
