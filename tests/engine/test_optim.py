import pytest
import torch

import ssmvid
from ssmvid.engine import Optim, Schedule
from tests.engine.fakes import Net

ADAMW = {"name": "adamw", "lr": 1e-3, "weight_decay": 0.05}


def groups(model, **options):
    """(weight decay, learning rate) of each parameter by name."""
    optimizer = Optim(**ADAMW, **options).build(model)
    schedule = Schedule(name="cosine", warmup=0.0, warmup_lr=0.0, min_lr=0.0).build(optimizer, 10)
    schedule.step_update(0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["weight_decay"], group["lr"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


@pytest.fixture(scope="module")
def model():
    return ssmvid.create_model("videomamba_tiny", dim=16, depth=3, num_classes=4, img_size=32, num_frames=4)


def test_every_parameter_is_decayed_but_tables_vectors_and_the_scans_dynamics(model):
    found = groups(model, layer_decay=None)
    kept = model.no_weight_decay()
    assert len(found) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert found[name] == (0.0 if name in kept or parameter.ndim <= 1 else 0.05, 1e-3), name
    dynamics = [name for name in found if name.rpartition(".")[2] in ("A_log", "A_b_log", "D", "D_b")]
    assert len(dynamics) == 12
    assert all(found[name][0] == 0 for name in dynamics)


def test_layer_decay_lowers_the_rate_layer_by_layer_from_the_head(model):
    rates = {name: lr for name, (_, lr) in groups(model, layer_decay=0.5).items()}
    assert rates["head.weight"] == pytest.approx(1e-3)
    ladder = [rates[f"layers.{i}.norm.weight"] for i in range(3)]
    assert ladder[1] / ladder[0] == pytest.approx(2)
    assert ladder[2] / ladder[1] == pytest.approx(2)
    assert rates["patch_embed.proj.weight"] == rates["pos_embed"] == pytest.approx(ladder[0] / 2)


def test_layer_decay_needs_a_model_that_knows_its_layers():
    with pytest.raises(ValueError, match=r"optim\.layer_decay=0\.5 needs a model with group_matcher\(\); Net has none"):
        Optim(**ADAMW, layer_decay=0.5).build(Net())


def test_the_schedule_warms_up_and_falls_as_a_function_of_the_step():
    optimizer = torch.optim.SGD(Net().parameters(), lr=1.0)
    schedule = Schedule(name="cosine", warmup=0.2, warmup_lr=0.0, min_lr=0.1).build(optimizer, 100)

    def rate(step):
        schedule.step_update(step)
        return optimizer.param_groups[0]["lr"]

    assert [rate(0), rate(10), rate(20)] == pytest.approx([0.0, 0.5, 0.914], abs=1e-3)
    assert rate(99) == pytest.approx(0.1, abs=1e-3)
    assert rate(10) == pytest.approx(0.5)  # going back, as a resumed run does


def test_a_schedule_that_follows_the_metric_is_refused():
    with pytest.raises(ValueError, match="plateau follows the validation"):
        Schedule(name="plateau", warmup=0.0, warmup_lr=0.0, min_lr=0.0).build(
            torch.optim.SGD(Net().parameters(), lr=1.0), 10
        )
