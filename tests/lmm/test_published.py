"""Each connector against its paper: how many parameters, and the property that defines it."""

import math

import pytest
import torch
import torch.nn.functional as F

from ssmvid.lmm import MambaMia
from ssmvid.lmm.bimba import query_places
from ssmvid.lmm.mambamia import GatedPatches, TimeAggregator, passing
from ssmvid.mixers import Mamba
from ssmvid.scan import Grid, ScanOrder, ScanPattern
from tests.lmm.connectors import DIM, GRID, LLM_DIM, SMALL, lively, make, tokens_for


def linear(into, out):
    return into * out + out


def mamba(d, k):
    """Parameters of a Mamba mixer of k paths."""
    inner, rank, n = 2 * d, math.ceil(d / 16), 16
    path = inner * 5 + (rank + 2 * n) * inner + linear(rank, inner) + inner + inner * n  # conv, x, dt, D, A
    return 3 * inner * d + k * path


MLP = linear(DIM, LLM_DIM) + linear(LLM_DIM, LLM_DIM)
ANCHORS, HEADS, STATES = 3, 4, 4
MAMBA2 = DIM * (4 * DIM + 4 * STATES + HEADS) + 5 * (2 * DIM + 4 * STATES) + 3 * HEADS + 2 * DIM + 2 * DIM * DIM
PARAMETERS = {
    "mlp": MLP,
    "video_ma2mba": MLP,
    "tome": MLP,
    "redundancy": MLP,
    "decimate": MLP + DIM + mamba(DIM, 1),
    "perceiver": 64 * DIM + 6 * (12 * DIM * DIM + 6 * DIM) + 2 * DIM + linear(DIM, LLM_DIM),
    "storm": linear(4 * DIM, LLM_DIM) + 2 * LLM_DIM + mamba(LLM_DIM, 2),
    "storm_causal": linear(4 * DIM, LLM_DIM) + 2 * LLM_DIM + mamba(LLM_DIM, 1),
    "bimba": MLP + LLM_DIM + mamba(LLM_DIM, 2),
    "mambamia": DIM + DIM + MAMBA2 + linear(DIM, 4) + DIM + ANCHORS * DIM + 2 + MLP,
    "vss": linear(DIM, LLM_DIM) + mamba(LLM_DIM, 1) + 2 * LLM_DIM + linear(LLM_DIM, LLM_DIM),
    "vss_cross": linear(DIM, LLM_DIM) + mamba(LLM_DIM, 1) + 2 * LLM_DIM + linear(LLM_DIM, LLM_DIM),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name):
    assert sum(p.numel() for p in make(name).parameters()) == PARAMETERS[name]


def test_a_fresh_bimba_is_exactly_an_mlp_and_pooling():
    connector, tokens = make("bimba", depth=2), tokens_for(GRID, 2)
    soft, _, rows = connector(tokens, GRID)
    pooled, _, pooled_rows = connector.pool(connector.projector(tokens), GRID)
    assert torch.equal(soft, pooled)
    assert torch.equal(rows, pooled_rows)


@pytest.mark.parametrize(("tokens", "queries"), [(60, 8), (60, 60), (1, 1), (36864, 2304)])
def test_queries_stand_where_the_released_code_has_them(tokens, queries):
    linspace = torch.linspace(0, tokens + queries - 1, queries + 1, dtype=torch.float64)[1:]
    places = query_places(tokens, queries, linspace.device)
    assert ((places - linspace).abs() < 1 + 1e-9).all()
    assert (places <= linspace + 1e-6).all()
    assert places[-1] == tokens + queries - 1
    assert (places.diff() > 0).all()


@pytest.mark.parametrize("name", ["bimba", "storm", "mambamia", "vss", "perceiver"])
@pytest.mark.parametrize("changed", [0, -1])
@torch.no_grad()
def test_every_soft_token_sees_the_first_and_the_last_token(name, changed):
    connector = lively(make(name, **({"threshold": None} if name == "mambamia" else {})), steps=None).double()
    tokens = tokens_for(GRID, dtype=torch.float64)
    other = tokens.clone()
    other[:, changed] += 1
    assert ((connector(tokens, GRID).tokens - connector(other, GRID).tokens).abs().amax(-1) > 0).all()


def test_storm_without_its_mamba_is_a_linear_layer_and_averages():
    connector, tokens = make("storm", downsample=1), tokens_for(GRID)
    torch.nn.init.zeros_(connector.mixers[0].out_proj.weight)
    expected = connector.proj(tokens).unflatten(1, GRID)
    expected = torch.stack([expected[:, :4].mean(1), expected[:, 4:].mean(1)], 1).flatten(1, 3)
    torch.testing.assert_close(connector(tokens, GRID).tokens, expected)


def test_storm_joins_tokens_side_by_side_with_zeros_beyond_the_edge():
    connector, tokens = make("storm", pool=[1, 1, 1]), tokens_for(Grid(1, 3, 2))
    torch.nn.init.zeros_(connector.mixers[0].out_proj.weight)
    (a, b, c, d, e, f), zero = tokens[0], torch.zeros(DIM)
    expected = connector.proj(torch.stack([torch.cat([a, b, c, d]), torch.cat([e, f, zero, zero])]))
    torch.testing.assert_close(connector(tokens, Grid(1, 3, 2)).tokens[0], expected)


def test_storm_samples_averaged_frames_outside_training_only():
    grid = Grid(11, 3, 4)
    sampled, full, tokens = lively(make("storm", sample=2)), lively(make("storm")), tokens_for(grid)
    sampled.load_state_dict(full.state_dict())
    all_soft, soft = full(tokens, grid), sampled(tokens, grid)
    assert all_soft.grid == Grid(3, 2, 2)
    assert soft.grid == sampled.out_grid(grid) == Grid(2, 2, 2)
    assert torch.equal(soft.tokens, torch.cat([all_soft.tokens[:, :4], all_soft.tokens[:, 8:]], 1))
    assert torch.equal(soft.rows, torch.cat([all_soft.rows[:, :4], all_soft.rows[:, 8:]], 1))
    assert torch.equal(sampled.train()(tokens, grid).tokens, all_soft.tokens)


@pytest.mark.parametrize("name", ["vss", "vss_cross"])
def test_vss_sums_one_mamba_along_each_order(name):
    connector, tokens = lively(make(name)), tokens_for(GRID)
    one = Mamba(LLM_DIM, pattern=ScanPattern.parse(["thw"]))
    one.load_state_dict(connector.mixer.state_dict())
    x = connector.in_proj(tokens)
    total = x
    for order in ("thw", "thw+rev", "twh", "twh+rev")[: 2 if name == "vss" else 4]:
        order = ScanOrder.parse(order)
        total = total + one(F.gelu(x)[:, order.indices(GRID)], GRID)[:, order.inverse(GRID)]
    expected = connector.out_proj(connector.norm(total))
    torch.testing.assert_close(connector(tokens, GRID).tokens, expected, atol=1e-5, rtol=1e-5)


def test_an_anchor_moves_towards_a_weighted_mean_of_its_patches():
    gate, q, x = GatedPatches(4, 3), torch.randn(4), torch.randn(3, 4)
    alpha = torch.softmax(gate.alpha.weight @ q + gate.alpha.bias, 0)
    g = torch.sigmoid(gate.gate.weight @ q)
    torch.testing.assert_close(gate(q, x), (1 - g) * q + g * sum(a * own for a, own in zip(alpha, x)))


def test_the_time_aggregator_is_its_recurrence():
    time, frames = TimeAggregator(2 * 3), torch.randn(1, 7, 2, 3)
    torch.nn.init.normal_(time.dt_proj.weight)
    torch.nn.init.constant_(time.A_log, 0.3)
    y, dt = time(frames)
    h, expected = torch.zeros(2, 3), []
    for f in frames[0]:
        step = F.softplus(time.dt_proj(f.flatten()) + time.dt_bias)
        h = torch.exp(-step * time.A_log.exp()) * h + step * f
        expected.append((h + f, step))
    torch.testing.assert_close(y[0], torch.stack([own for own, _ in expected]))
    torch.testing.assert_close(dt[0], torch.cat([step for _, step in expected]))


def test_frames_pass_when_steps_have_summed_up():
    assert passing([0.25, 0.25, 0.25, 1.0, 0.25, 0.25], 0.5) == [1, 3, 5]
    assert passing([0.25, 0.25, 0.25], 0.5) == [1, 2]  # the last always
    assert passing([0.1] * 5, 9.0) == [4]
    assert passing([1.0] * 3, 0.5) == [0, 1, 2]


@torch.no_grad()
def test_the_frames_of_mambamia_are_those_that_pass():
    connector, tokens = lively(make("mambamia")), tokens_for(GRID)
    whole = lively(make("mambamia", threshold=None))
    whole.load_state_dict(connector.state_dict())
    dt = connector.time(connector._anchors(tokens, GRID))[1][0]
    connector.threshold = float(dt.sum()) / 3
    kept = passing(dt.tolist(), connector.threshold)
    assert 1 < len(kept) < GRID.t
    soft, full = connector(tokens, GRID), whole(tokens, GRID)
    torch.testing.assert_close(soft.tokens, full.tokens.unflatten(1, (GRID.t, -1))[:, kept].flatten(1, 2))
    assert soft.rows[0].tolist() == [12 * t + 4 * i for t in kept for i in range(ANCHORS)]
    short = Grid(3, 3, 4)  # of min_frames frames: all pass
    assert connector(tokens_for(short), short).grid == connector.out_grid(short)


def test_mambamia_refuses_what_it_cannot_do():
    connector = make("mambamia")
    with pytest.raises(ValueError, match=r"frames must have 12 tokens, got 6"):
        connector(tokens_for(Grid(2, 2, 3)), Grid(2, 2, 3))
    with pytest.raises(ValueError, match=r"its own number of frames, got b = 2: give them one by one"):
        connector(tokens_for(GRID, 2), GRID)
    with pytest.raises(ValueError, match=r"patches must divide the 12 tokens of a frame, got 5"):
        MambaMia(dim=DIM, llm_dim=LLM_DIM, **SMALL["mambamia"] | {"patches": 5})


@torch.no_grad()
def test_the_perceiver_tells_time_from_space():
    connector, tokens = lively(make("perceiver")), tokens_for(GRID)
    maps = tokens.unflatten(1, GRID)
    soft = connector(tokens, GRID).tokens
    mirrored, reversed_ = (connector(maps.flip(axis).flatten(1, 3), GRID).tokens for axis in (3, 1))
    torch.testing.assert_close(soft, mirrored, atol=1e-4, rtol=1e-4)
    assert (soft - reversed_).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["vss", "vss_cross"])
@torch.no_grad()
def test_vss_of_a_clip_backwards_is_vss_backwards(name):
    connector, tokens = lively(make(name)), tokens_for(GRID)
    backwards = connector(tokens.flip(1), GRID).tokens.flip(1)
    torch.testing.assert_close(backwards, connector(tokens, GRID).tokens, atol=1e-5, rtol=1e-5)
