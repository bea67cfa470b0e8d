"""Positions: with delta 1 the language model's own; V2PE's by its recurrence; what turning by them keeps."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ssmvid.layers import sincos_table
from ssmvid.lmm import V2PE_DELTAS, absolute_positions, rotary_table, token_positions

VISUAL = torch.tensor([[0, 1, 1, 1, 0, 0, 1, 1, 0], [1, 0, 0, 0, 1, 1, 1, 1, 1]], dtype=torch.bool)


def test_delta_1_is_rope():
    assert torch.equal(token_positions(VISUAL), torch.arange(9.0).double().expand(2, -1))
    plain, turned = rotary_table(torch.arange(9)[None], 8), rotary_table(token_positions(VISUAL, 1.0)[:1], 8)
    assert all(torch.equal(a, b) for a, b in zip(plain, turned))


@pytest.mark.parametrize("delta", V2PE_DELTAS)
def test_v2pe_is_its_recurrence(delta):
    for row, got in zip(VISUAL.tolist(), token_positions(VISUAL, delta).tolist()):
        expected = [0.0]
        for visual in row[1:]:
            expected.append(expected[-1] + (delta if visual else 1))
        assert got == expected


def test_each_row_may_have_its_own_delta():
    both = token_positions(VISUAL, torch.tensor([0.25, 0.5]))
    assert torch.equal(both[:1], token_positions(VISUAL[:1], 0.25))
    assert torch.equal(both[1:], token_positions(VISUAL[1:], 0.5))


def test_a_million_soft_tokens_keep_their_places_apart():
    positions = token_positions(torch.ones(1, 2**20, dtype=torch.bool), 1 / 256)
    assert (positions.diff() == 1 / 256).all()


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan")])
def test_a_delta_that_is_not_positive_is_refused(delta):
    with pytest.raises(ValueError, match="delta must be > 0, got"):
        token_positions(VISUAL, delta)


def test_a_turn_depends_on_the_distance_alone():
    q, k = torch.randn(2, 8, dtype=torch.float64)

    def turned(x, place):
        cos, sin = (t[0, 0].double() for t in rotary_table(torch.tensor([[place]]), 8))
        return x * cos + torch.cat([-x[4:], x[:4]]) * sin

    near, far = (turned(q, start + 1.25) @ turned(k, start) for start in (0.0, 100.5))
    torch.testing.assert_close(near, far, atol=1e-5, rtol=1e-5)
    assert abs(near - turned(q, 2.25) @ turned(k, 0.0)) > 1e-3


def llama(theta=10000.0):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    rope = {"rope_type": "default", "rope_theta": theta}
    return LlamaForCausalLM(LlamaConfig(vocab_size=30, rope_parameters=rope, **sizes)).eval()


@torch.no_grad()
def test_a_language_model_takes_them():
    model, ids = llama(), torch.arange(18).view(2, 9)
    plain = model(ids).logits
    assert torch.equal(model(ids, position_ids=token_positions(VISUAL)).logits, plain)
    assert not torch.allclose(model(ids, position_ids=token_positions(VISUAL, 1 / 16)).logits, plain)


@torch.no_grad()
def test_the_table_is_a_language_models_own():
    for theta in (10000.0, 1e6):
        model, positions = llama(theta), token_positions(VISUAL, 0.25)
        own = model.model.rotary_emb(torch.zeros(1), positions)
        for a, b in zip(rotary_table(positions, 8, base=theta), own):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_absolute_positions_are_a_sine_table_an_axis():
    positions = torch.tensor([[[0.0, 2.0, 5.0], [7.0, 1.0, 0.0]]])
    got = absolute_positions(positions, 26)
    assert got.shape == (1, 2, 26)
    table = sincos_table(8, 8)[0]
    for i, (t, h, w) in enumerate(positions[0].long().tolist()):
        expected = torch.cat([table[t], table[h], table[w], torch.zeros(2)])
        torch.testing.assert_close(got[0, i], expected, atol=1e-6, rtol=1e-6)
    between = absolute_positions(torch.tensor([[[0.5, 0.0, 0.0]]]), 24)
    assert abs(between[0, 0, 0] - torch.tensor(0.5).sin()) < 1e-6
