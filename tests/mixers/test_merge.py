"""Sum, mean, concat and gated in every mixer that takes them, held to each other."""

from itertools import pairwise

import pytest
import torch

from ssmvid.mixers import SS2D, LocalMamba, Mamba, MambaVisionMixer, PlainMambaMixer, TiedMamba
from ssmvid.mixers.merge import merge_paths
from ssmvid.scan import MERGES, Grid, ScanPattern
from tests.mixers.weights import enliven

DIM, GRID = 8, Grid(2, 3, 4)
ORDERS = ("thw", "twh+rev", "hwt+snake")
MIXERS = {
    "Mamba": Mamba,
    "PlainMambaMixer": PlainMambaMixer,
    "LocalMamba": LocalMamba,
    "SS2D": SS2D,
    "SS2D, gate branch": lambda *args, **options: SS2D(*args, gated=True, **options),
}
EACH = pytest.mark.parametrize("name", MIXERS)


def make(name, merge):
    torch.manual_seed(0)
    return enliven(MIXERS[name](DIM, pattern=ScanPattern.parse(ORDERS, merge), state_size=3), "proj")


def with_weights_of(mixer, source, **changed):
    mixer.load_state_dict({**mixer.state_dict(), **source.state_dict(), **changed})
    return mixer


@pytest.fixture
def tokens():
    torch.manual_seed(1)
    return torch.randn(2, GRID.length, DIM, dtype=torch.float64)


def test_the_four_merges():
    y, tokens = torch.randn(2, 3, 5, 4), torch.randn(2, 5, DIM)
    gate = torch.nn.Linear(DIM, 3)
    assert torch.equal(merge_paths(y, tokens, "sum", None), y[:, 0] + y[:, 1] + y[:, 2])
    assert torch.equal(merge_paths(y, tokens, "mean", None), y.mean(1))
    assert torch.equal(merge_paths(y, tokens, "concat", None), torch.cat([y[:, 0], y[:, 1], y[:, 2]], dim=-1))
    factors = 2 * gate(tokens).sigmoid()
    expected = sum(y[:, i] * factors[..., i, None] for i in range(3))
    torch.testing.assert_close(merge_paths(y, tokens, "gated", gate), expected)


@EACH
def test_fresh_gates_give_the_sum(name, tokens):
    summed = make(name, "sum")
    gated = with_weights_of(make(name, "gated"), summed)
    torch.testing.assert_close(gated(tokens, GRID), summed(tokens, GRID))


@pytest.mark.parametrize("name", ["Mamba", "PlainMambaMixer", "LocalMamba"])
def test_side_by_side_with_the_projection_repeated_is_the_sum(name, tokens):
    summed = make(name, "sum")
    repeated = summed.out_proj.weight.detach().repeat(1, len(ORDERS))
    concat = with_weights_of(make(name, "concat"), summed, **{"out_proj.weight": repeated})
    torch.testing.assert_close(concat(tokens, GRID), summed(tokens, GRID))


@EACH
@pytest.mark.parametrize("merge", ["concat", "gated"])
def test_every_path_is_weighed_apart(name, merge, tokens):
    """What a path is weighed by is moved: the output moves, and each path in another way."""
    mixer = make(name, merge)
    before, outputs = mixer(tokens, GRID), []
    weight = mixer.path_gate.bias if merge == "gated" else mixer.out_proj.weight
    for part in weight.detach().chunk(len(ORDERS), dim=-1):
        part += 1
        outputs.append(mixer(tokens, GRID) - before)
        part -= 1
    assert all(moved.abs().max() > 1e-3 * before.abs().max() for moved in outputs)
    assert not any(torch.allclose(one, other) for one, other in pairwise(outputs))


@EACH
def test_only_gates_and_the_projection_differ_in_shape(name):
    shapes = {
        merge: {key: tuple(value.shape) for key, value in make(name, merge).state_dict().items()} for merge in MERGES
    }
    gate = {"path_gate.weight": (3, DIM), "path_gate.bias": (3,)}
    assert shapes["mean"] == shapes["sum"]
    assert shapes["gated"] == shapes["sum"] | gate
    wider = {key for key in shapes["sum"] if shapes["concat"][key] != shapes["sum"][key]}
    assert wider == {"out_proj.weight"} | ({"out_norm.weight", "out_norm.bias"} if name.startswith("SS2D") else set())


def test_what_merges_in_the_scan_takes_no_weights():
    for mixer in (TiedMamba, MambaVisionMixer):
        for merge in ("concat", "gated"):
            with pytest.raises(ValueError, match=f"{mixer.__name__}: merge must be 'sum' or 'mean', got '{merge}'"):
                mixer(DIM, pattern=ScanPattern.parse(ORDERS, merge))


def test_an_unknown_merge_is_refused():
    with pytest.raises(ValueError, match="merge must be one of sum, mean, concat, gated, got 'max'"):
        ScanPattern.parse(ORDERS, "max")
