import itertools

import pytest
import torch

from ssmvid import create_model
from ssmvid.memory import POLICIES, Cells, Costs, SavedBytes, measure_costs, plan, run

SMALL = {
    "dim": 64,
    "depth": 4,
    "num_classes": 0,
    "img_size": 32,
    "tubelet": (1, 8, 8),
    "state_size": 16,
    "head_dim": 32,
}


def make(hybrid, **options):
    torch.manual_seed(0)
    return create_model("multiscan_tiny", **SMALL | {"hybrid": hybrid} | options)


def saved(model, clip, cells):
    with SavedBytes([clip, *model.parameters()]) as counted:
        run(model, clip, lambda x, at: x.sum(), cells=cells)
    return counted.total


@pytest.mark.parametrize("hybrid", ["M", "S", "MW", "MWSF", "F"])
@pytest.mark.parametrize(("causal_frames", "window", "batch"), [(1, 2, 1), (2, 4, 2), (None, None, 1)])
def test_the_plan_is_what_is_saved(hybrid, causal_frames, window, batch):
    model = make(hybrid, causal_frames=causal_frames, window=window)
    clip = torch.randn(batch, 3, 151, 32, 32)
    rows = plan(model, (batch, 151, 32, 32)).rows
    causal = causal_frames is not None or hybrid == "F"
    assert [row.policy for row in rows if row.cells] == list(POLICIES if causal else POLICIES[:-1])
    for row in rows[: len(POLICIES) - (not causal)]:
        assert row.total == pytest.approx(saved(model, clip, row.cells), rel=0.1), row


def test_policies_keep_less_and_less():
    rows = plan(make("MMMW", causal_frames=1, window=2, depth=12), (1, 400, 32, 32)).rows
    totals = [row.total for row in rows]
    assert totals == sorted(totals, reverse=True)
    assert totals[4] < 0.5 * totals[3]


@pytest.mark.parametrize(("hybrid", "share"), [("M", 0.75), ("F", 0.3)])
def test_a_layer_that_sees_all_of_time_keeps_less_in_chunks_of_tokens(hybrid, share):
    """Of an MLP what enters it, 3 of 11 widths; of Mamba-2 that and what its scan and its gate read."""
    model, size = make(hybrid, depth=1), (1, 151, 32, 32)
    (whole,), (in_chunks,) = measure_costs(model, size).inside, measure_costs(model, size, tokens=1024).inside
    assert in_chunks < share * whole


def test_what_is_saved_counts_a_storage_once_and_no_parameter():
    x, weight = torch.randn(8, 8, requires_grad=True), torch.nn.Parameter(torch.randn(8, 8))
    with SavedBytes([weight]) as counted:
        y = (x @ weight).exp()  # saves x, and its result
        y.T * y[:4].sum()  # saves the result again, and a number
    assert counted.total == 2 * 8 * 8 * 4 + 4


def costs(segments=1000, layers=24, **other):
    options = dict(boundary=500.0, state=7000.0 * layers, inside=(3000.0,) * layers, fixed=(0.0,) * layers)
    return Costs(**options | dict(segments=segments, embed=0.0, finish=0.0) | other)


@pytest.mark.parametrize("segments", [1, 7, 300])
@pytest.mark.parametrize("layers", [1, 5, 24])
@pytest.mark.parametrize("state", [0.0, 500.0, 100_000.0])
def test_the_closed_form_is_as_good_as_a_search(segments, layers, state):
    at = costs(segments, layers, state=state * layers)
    cuts = [Cells(l, s) for l, s in itertools.product(range(1, layers + 1), range(1, segments + 1))]
    best = min(cut.bytes(at) for cut in cuts)
    assert Cells.multi_axis(at).bytes(at) <= 1.001 * best
    for budget in (1.5 * best, 4 * best, 100 * best):
        cut = Cells.multi_axis(at, budget)
        assert cut.bytes(at) <= budget
        assert cut.count(at) <= min(cut.count(at) for cut in cuts if cut.bytes(at) <= budget)


def test_a_budget_too_small_names_what_is_needed():
    with pytest.raises(ValueError, match=r"multi_axis keeps at least [\d,]+ bytes here, the budget is 1,000"):
        Cells.multi_axis(costs(), 1000)


def test_a_policy_that_is_none_is_refused():
    with pytest.raises(ValueError, match="must be one of off, every_layer, nested_sqrt, token_chunks, got 'sometimes'"):
        Cells.of("sometimes", 4)


def test_a_printed_plan_has_a_row_a_policy_and_the_reason_of_a_refusal():
    lines = str(plan(make("M", causal_frames=1), (1, 20, 32, 32))).splitlines()
    assert [line.split()[0] for line in lines[2:]] == list(POLICIES)
    assert "use policy 'token_chunks'" in str(plan(make("M"), (1, 20, 32, 32)))
    assert "the budget is 10" in str(plan(make("M", causal_frames=1), (1, 20, 32, 32), budget=10))


def test_costs_of_a_batch_are_those_of_its_clips():
    model = make("MW", causal_frames=1)
    one, two = (measure_costs(model, (batch, 20, 32, 32), streaming=True) for batch in (1, 2))
    assert two.inside == tuple(2 * number for number in one.inside)
    assert (two.state, two.boundary, two.fixed) == (2 * one.state, 2 * one.boundary, one.fixed)
