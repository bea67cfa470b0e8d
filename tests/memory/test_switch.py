import pytest
import torch

from ssmvid import create_model
from ssmvid.memory import POLICIES, Memory, measure_costs
from ssmvid.tasks import Classify
from tests.backbones.families import TINY


def make(**options):
    torch.manual_seed(0)
    return create_model("multiscan_tiny", **TINY["multiscan_tiny"] | {"num_classes": 4} | options).double()


def trained(model, memory):
    """Loss, logits and gradients of a classification step."""
    model.zero_grad()
    frames = torch.randn(2, 3, 7, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    output = Classify(model, label_smoothing=0.1, memory=memory)(frames, torch.tensor([1, 3]))
    output["loss"].backward()
    return [output["logits"], *(parameter.grad for parameter in model.parameters())]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("offload", [False, True])
def test_a_training_step_is_the_same_under_every_policy(policy, offload):
    model = make(causal_frames=1, window=2)
    memory = Memory(policy=policy, offload=offload and policy != "off")
    for got, expected in zip(trained(model, memory), trained(model, None), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-7, rtol=1e-7)  # the loss is in fp32


def test_a_model_that_sees_all_of_time_is_refused_by_multi_axis_only():
    model = make()
    trained(model, Memory(policy="token_chunks"))
    with pytest.raises(ValueError, match=r"layers\.0: Mamba2: cannot stream.*use policy 'token_chunks'"):
        trained(model, Memory(policy="multi_axis"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "on"}, "policy must be one of off, every_layer, nested_sqrt, token_chunks, multi_axis, got 'on'"),
        ({"policy": "off", "budget_gb": 1.0}, "a budget is for policy 'multi_axis', got budget_gb=1.0 for 'off'"),
        ({"policy": "off", "offload": True}, "policy 'off' has no boundaries to offload"),
    ],
)
def test_settings_that_say_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Memory(**options)


def test_a_look_at_the_costs_draws_no_random_number():
    model = make(causal_frames=1, drop_path_rate=0.5)
    torch.manual_seed(1)
    measure_costs(model, (2, 7, 16, 16), streaming=True)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)


def test_another_model_is_refused():
    with pytest.raises(ValueError, match="expected a backbone of ssmvid, got Linear: use memory=null"):
        Memory(policy="off").logits(torch.nn.Linear(2, 2), torch.zeros(1, 3, 2, 16, 16))


def test_a_budget_too_small_is_refused_with_what_is_needed():
    with pytest.raises(ValueError, match="multi_axis keeps at least"):
        trained(make(causal_frames=1), Memory(policy="multi_axis", budget_gb=1e-6))
