"""The sweep over random calls: a slice of it, what it draws, and that it sees what is wrong."""

import json

import pytest
import torch

from benchmarks import exactness
from ssmvid_kernels.calls import find_ops
from ssmvid_kernels.conv import IMPLEMENTATIONS

OPS = find_ops()


@pytest.mark.parametrize("dtype", exactness.DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_a_slice_of_the_sweep(op, dtype):
    outcomes = exactness.sweep(op, dtype, seed=1, calls=13, triton=False)
    assert len(outcomes) == 2 * 13
    assert [outcome for outcome in outcomes if outcome.ratio > exactness.ALLOWED] == []


@pytest.mark.parametrize("name", OPS)
def test_calls_are_drawn_again_by_their_seed_and_differ_in_everything(name):
    op = OPS[name]
    drawn = [exactness.draw(op, "bfloat16", f"0.{i}") for i in range(60)]
    again = exactness.draw(op, "bfloat16", "0.7")
    assert again.words == drawn[7].words
    assert all(torch.equal(again.tensors[key], tensor) for key, tensor in drawn[7].tensors.items())
    other = exactness.draw(op, "bfloat16", "0.7", values=1)
    assert not torch.equal(other.tensors["x"], again.tensors["x"])
    assert {call.tensors["x"].requires_grad for call in drawn} == {True, False}
    assert {call.tensors["x"].is_contiguous() for call in drawn} == {True, False}
    assert {tensor.dtype for call in drawn for tensor in call.tensors.values()} == {torch.bfloat16, torch.float32}
    if op.step:
        walks = [walk for call in drawn for walk in call.options.get("walks", [])]
        assert {walk.reverse for walk in walks} == {True, False}
        assert {walk.prefix for walk in walks} == {0, 1, 2}
        assert {walk.table is None for walk in walks} == {True, False}
        assert {"cu_seqlens" in call.options for call in drawn} == {True, False}


def test_the_sweep_sees_what_is_wrong(monkeypatch):
    right = IMPLEMENTATIONS["torch"]

    def wrong(*args, **options):
        y, h = right(*args, **options)
        return y * (1 + 1e-5), h

    monkeypatch.setitem(IMPLEMENTATIONS, "torch", wrong)
    outcomes = exactness.sweep("conv", "float32", seed=0, calls=3, triton=False)
    assert all((outcome.ratio > exactness.ALLOWED) == (outcome.backend == "torch") for outcome in outcomes)
    row = exactness.as_row([outcome for outcome in outcomes if outcome.backend == "torch"], seed=0)
    assert (row["calls"], row["over"], row["seed"]) == (3, 3, 0)
    assert json.loads(json.dumps(row))["worst"] > exactness.ALLOWED
