"""How clips are shared out over ranks, and what is refused."""

import pytest

from ssmvid.parallel import Piece, split_frames
from tests.parallel.cases import check_refusals
from tests.parallel.ranks import run


def test_frames_are_shared_out_evenly():
    assert split_frames([7], 2) == [[Piece(0, 0, 3)], [Piece(0, 3, 7)]]
    assert split_frames([3, 4, 1], 2) == [[Piece(0, 0, 3), Piece(1, 0, 1)], [Piece(1, 1, 4), Piece(2, 0, 1)]]


def test_segments_stay_whole():
    assert split_frames([7, 2], 3, unit=2) == [[Piece(0, 0, 2)], [Piece(0, 2, 6)], [Piece(0, 6, 7), Piece(1, 0, 2)]]


def test_fewer_segments_than_ranks_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 1\) frames hold 3 segments of 2, fewer than the 4 ranks"):
        split_frames([3, 1], 4, unit=2)


def test_what_is_not_covered_is_refused():
    run(2, check_refusals)
