"""A sequence cut into segments gives what one program gives; where to cut follows from shape and GPU alone."""

import pytest
import torch

from ssmvid_kernels import selective_scan
from ssmvid_kernels.calls import Call, arguments, find_ops
from ssmvid_kernels.s6 import triton_scan
from ssmvid_kernels.s6.cases import Case
from ssmvid_kernels.s6.segments import BACKWARD, FORWARD, MOST, segment_steps
from ssmvid_kernels.s6.triton_scan import CHUNK
from ssmvid_kernels.testing import assert_op_as_exact, device_of, outputs_and_gradients, poisoned_empty

S6 = find_ops()["s6"]
CUT = {
    "ragged": Case(1, 2 * CHUNK + 9, 5, 3),
    "whole": Case(2, 2 * CHUNK, 3, 2),
    "walks": Case(1, 140, 3, 2, k=2),
    "packed": Case(1, 3 * CHUNK, 3, 2, clips=(CHUNK + 3, 0, 1, CHUNK, CHUNK - 4)),
    "packed_walks": Case(1, 140, 3, 2, k=2, clips=(9, 131)),
}
H100 = 132


@pytest.fixture
def cut_at_every_chunk(monkeypatch):
    monkeypatch.setattr(triton_scan, "segment_steps", lambda *sizes: CHUNK)


def assert_cut_as_exact(case, call=None, run=selective_scan, **how):
    tensors, options = arguments(S6, case, call, device=device_of("triton"), **how)
    with poisoned_empty():
        assert_op_as_exact(run, tensors, "triton", **options)


@pytest.mark.parametrize("case", CUT.values(), ids=CUT)
def test_as_exact_as_the_reference(case, cut_at_every_chunk):
    assert_cut_as_exact(case)


def test_bf16(cut_at_every_chunk):
    assert_cut_as_exact(CUT["ragged"], dtype=torch.bfloat16)


def test_bare(cut_at_every_chunk):
    assert_cut_as_exact(CUT["ragged"], Call({}, without=("D", "z", "dt_bias", "h0"), positive=("dt",)))


def test_the_gradient_of_h_alone(cut_at_every_chunk):
    assert_cut_as_exact(CUT["ragged"], run=lambda **given: selective_scan(**given)[1:])


def test_segments_of_many_chunks(monkeypatch):
    monkeypatch.setattr(triton_scan, "segment_steps", lambda *sizes: 2 * CHUNK)
    assert_cut_as_exact(Case(1, 3 * CHUNK + 5, 2, 2))


def test_repeats_bit_for_bit(cut_at_every_chunk):
    tensors, options = arguments(S6, CUT["ragged"], device=device_of("triton"))
    first, second = (outputs_and_gradients(selective_scan, tensors, backend="triton", **options) for _ in range(2))
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.parametrize("step", [FORWARD, BACKWARD])
@pytest.mark.parametrize("l", [0, 1, CHUNK, 1568, 1 << 20])
def test_a_full_gpu_is_not_cut(l, step):
    assert segment_steps(l, 4 * H100, 1, H100, CHUNK, step) == l


@pytest.mark.parametrize("step", [FORWARD, BACKWARD])
@pytest.mark.parametrize("l", [1568, 12544, 1 << 20])
@pytest.mark.parametrize("multiprocessors", [H100, 20])
def test_one_long_video_is_cut_until_the_gpu_is_full(multiprocessors, l, step):
    programs = 384 // 32
    steps = segment_steps(l, programs, 1, multiprocessors, CHUNK, step)
    segments = -(-l // steps)
    assert steps % CHUNK == 0
    assert 1 < segments <= MOST
    assert segments > 2 * multiprocessors // programs  # over half of the schedulers have work


def test_a_short_sequence_is_not_worth_another_kernel():
    assert segment_steps(2 * CHUNK, 1, 1, H100, CHUNK, FORWARD) == 2 * CHUNK
