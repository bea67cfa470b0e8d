"""Two and four ranks give the outputs and gradients of one, along every order that goes on over ranks."""

from functools import partial

import pytest
import torch

from ssmvid.mixers import Mamba
from tests.parallel.cases import Case, attending, check, check_bytes, check_stream, mamba2, scanning
from tests.parallel.ranks import run

mamba = partial(scanning, Mamba)
BOTH, MIRRORED, TURNED = ("thw", "thw+rev"), ("twh+flip_t", "thw+snake2d+flip_t+rev"), ("hwt", "thw+rev")


def one_clip(frames):
    """Cases of one clip, so many segments of two frames on each rank; the last may be cut short."""
    odd = (*frames[:-1], 2 * frames[-1] - 1)
    even = [2 * count for count in frames[:-1]]
    cut = [*even, odd[-1]]
    return {
        "mamba both ways": Case(partial(mamba, BOTH), odd),
        "mamba, mirrored": Case(partial(mamba, MIRRORED), odd),
        "mamba, shared": Case(partial(mamba, BOTH, shared=True), odd),
        "mamba2": Case(partial(mamba2, ["thw"]), odd),
        "mamba2 both ways": Case(partial(mamba2, BOTH), odd),
        "mamba block-causal": Case(partial(mamba, TURNED, 2), cut, 1, 2),
        "mamba2 block-causal": Case(partial(mamba2, TURNED, 2), cut, 3, 2),
        "attention": Case(attending, odd),
        "attention in windows": Case(partial(attending, window=2), cut),
        "attention, block-causal": Case(partial(attending, causal_frames=2), cut, 1, 2),
        "attention, own segment": Case(partial(attending, causal_frames=2, window=2), cut, 1, 2),
        "attention, two segments": Case(partial(attending, causal_frames=2, window=4), cut, 1, 2),
        "attention, five segments": Case(partial(attending, causal_frames=2, window=10), cut, 1, 2),
        "one token a frame": Case(partial(mamba2, BOTH), (1, *[4] * (len(frames) - 2), 1), size=(1, 1)),
    }


def packed(pieces):
    """Cases of clips packed in a row; pieces are whole segments of two frames but at the end of a clip."""
    return {
        "mamba": Case(partial(mamba, BOTH), pieces),
        "mamba2": Case(partial(mamba2, BOTH), pieces),
        "mamba block-causal": Case(partial(mamba, TURNED, 2), pieces, 1, 2),
        "mamba2 block-causal": Case(partial(mamba2, TURNED, 2), pieces, 1, 2),
        "attention": Case(attending, pieces),
        "attention in windows": Case(partial(attending, window=2), pieces),
        "attention, block-causal": Case(partial(attending, causal_frames=2), pieces, 1, 2),
        "attention, three segments": Case(partial(attending, causal_frames=2, window=6), pieces, 1, 2),
    }


TWO = [[(0, 0, 3), (1, 0, 4)], [(1, 4, 7), (2, 0, 1)]]
WHOLE = [[(0, 0, 3), (1, 0, 1)], [(2, 0, 5)]]
THREE = [[(0, 0, 4)], [(0, 4, 7), (1, 0, 2)], [(1, 2, 3), (2, 0, 3)]]
FOUR = [[(0, 0, 3), (1, 0, 2)], [(1, 2, 4)], [(1, 4, 9), (2, 0, 4)], [(2, 4, 6)]]
CASES = {
    "two ranks": one_clip((1, 3)),
    "two ranks, packed": packed(TWO),
    "two ranks, packed, no clip cut": packed(WHOLE),
    "three ranks": one_clip((1, 2, 2)),  # the first number whose decays count
    "three ranks, packed": packed(THREE),
    "four ranks": one_clip((2, 1, 3, 1)),
    "four ranks, packed": packed(FOUR),
}


def ranks(cases):
    return len(next(iter(cases.values())).frames)


PARAMETERS = [
    pytest.param(cases, id=name, marks=[pytest.mark.slow] if ranks(cases) > 3 else []) for name, cases in CASES.items()
]


@pytest.mark.parametrize("cases", PARAMETERS)
def test_ranks_equal_one(cases):
    run(ranks(cases), check, cases, {torch.float32: 1e-5, torch.float64: 1e-10})


@pytest.mark.parametrize(
    "make",
    [
        partial(mamba, TURNED, 2),
        partial(mamba2, TURNED, 2),
        partial(mamba, BOTH),
        partial(attending, causal_frames=2, window=6),
    ],
    ids=["mamba block-causal", "mamba2 block-causal", "mamba both ways", "attention"],
)
def test_bytes_sent_do_not_grow_with_the_length(make):
    run(2, check_bytes, Case(make, (4, 6)), Case(make, (32, 48)))


def test_a_stream_goes_on_from_its_state():
    run(2, check_stream)
