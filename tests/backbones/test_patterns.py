"""Orders, schedule and merge of a trained checkpoint changed: what loads, what starts the same, what is refused."""

import pytest
import torch

from ssmvid import create_model
from ssmvid.backbones import load_checkpoint
from tests.backbones.families import TINY

SCANNING = ["videomamba_tiny", "vim_tiny", "mambareg_tiny", "local_vim_tiny", "mamba3d_small", "plain_mamba_l1"]
FAMILIES = pytest.mark.parametrize("name", [*SCANNING, "vmamba_tiny_s1l8"])
OTHER = {
    "orders": [["hwt", "thw+hilbert"], ["twh+rev", "thw+snake"]],
    "schedule": "alternate",
}  # two orders a layer, as PAIR
PAIR = ["thw", "thw+rev"]


def make(name, **options):
    model = create_model(name, **TINY[name] | {"orders": PAIR, "schedule": "same"} | options).eval()
    return model.double()


@pytest.fixture
def saved(tmp_path):
    """`saved(name, **options)`: a model whose paths differ, as if trained, and its file."""

    def save(name, **options):
        torch.manual_seed(0)
        model = make(name, **options)
        for key, parameter in model.named_parameters():
            if "dt" in key:
                torch.nn.init.uniform_(parameter, -0.5, 1)
            elif "proj" in key:
                torch.nn.init.normal_(parameter, std=0.3)
        torch.save(model.state_dict(), tmp_path / "weights.pth")
        return model, tmp_path / "weights.pth"

    return save


def clip_for(name):
    torch.manual_seed(1)
    size = TINY[name]["img_size"]
    return torch.randn(2, 3, TINY[name].get("num_frames", 1), size, size, dtype=torch.float64)


@FAMILIES
def test_orders_and_schedule_of_a_checkpoint_can_be_changed(name, saved):
    source, path = saved(name)
    changed, clip = make(name, **OTHER), clip_for(name)
    load_checkpoint(changed, path)
    assert changed(clip).isfinite().all()
    assert not torch.allclose(changed(clip), source(clip))


@FAMILIES
@pytest.mark.parametrize("merged", ["sum", "mean"])
@pytest.mark.parametrize("merge", ["sum", "mean", "concat", "gated"])
def test_a_merge_changed_on_a_checkpoint_starts_with_the_same_outputs(name, merged, merge, saved):
    source, path = saved(name, merge=merged)
    changed, clip = make(name, merge=merge), clip_for(name)
    if name.startswith("vmamba") and merge == "concat":
        with pytest.raises(ValueError, match=r"layers\.0\.blocks\.0\.\w+ norms its paths side by side"):
            load_checkpoint(changed, path, merged=merged)
        return
    load_checkpoint(changed, path, merged=merged)
    tolerance = {"atol": 1e-4, "rtol": 1e-3} if name.startswith("vmamba") else {}  # but for the norm's epsilon
    torch.testing.assert_close(changed(clip), source(clip), **tolerance)


def test_what_does_not_fit_is_listed(saved):
    source, path = saved("videomamba_tiny")
    with pytest.raises(ValueError, match=r"missing     layers\.0\.mixer\.path_gate\.weight \(2, 16\)"):
        load_checkpoint(make("videomamba_tiny", merge="gated"), path)
    wider = r"shape       layers\.1\.mixer\.out_proj\.weight: expected \(16, 64\), got \(16, 32\)"
    with pytest.raises(ValueError, match=wider):
        load_checkpoint(make("videomamba_tiny", merge="concat"), path)
    with pytest.raises(ValueError, match=r"unexpected  layers\.0\.mixer\.A_b_log"):
        load_checkpoint(make("videomamba_tiny", orders=["thw"]), path)
    assert source is not None


def test_what_gates_learnt_has_no_place_in_a_sum(saved):
    _, path = saved("videomamba_tiny", merge="gated")
    with pytest.raises(ValueError, match="merged must be 'sum' or 'mean', got 'gated'"):
        load_checkpoint(make("videomamba_tiny"), path, merged="gated")
