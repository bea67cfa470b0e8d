"""Block-causal in time: a path goes through segment after segment, each along its own order."""

from itertools import product

import pytest
import torch

from ssmvid.scan import Grid, Layout, ScanOrder, ScanPattern

GRIDS = [Grid(t, h, w) for t, h, w in product(range(1, 10), repeat=3)]


@pytest.mark.parametrize("name", ["thw", "hwt", "thw+rev", "wht+snake+rev", "thw+hilbert2d", "hwt+flip_t"])
def test_segments_are_walked_one_after_another(name):
    order = ScanOrder.parse(name)
    for grid in GRIDS:
        for frames in (1, 2, 4):
            expected, start = [], 0
            for first in range(0, grid.t, frames):
                segment = Grid(min(frames, grid.t - first), grid.h, grid.w)
                expected.append(order.indices(segment) + start)
                start += segment.length
            assert torch.equal(order.walk(grid, causal_frames=frames).rows().long(), torch.cat(expected)), grid


@pytest.mark.parametrize("place", ["head", "middle", "spread"])
@pytest.mark.parametrize("name", ["wht", "thw", "thw+rev"])
def test_each_segment_has_its_own_prefix(name, place):
    order = ScanOrder.parse(name)
    walk = order.walk(Grid(5, 2, 3), prefix=2, place=place, causal_frames=2)
    parts = [order.walk(Grid(t, 2, 3), 2, place).rows() for t in (2, 2, 1)]
    assert torch.equal(walk.rows(), torch.cat([part + start for part, start in zip(parts, (0, 14, 28))]))


@pytest.mark.parametrize("axes", ["thw", "twh"])
def test_what_reads_frame_by_frame_needs_no_table(axes):
    order = ScanOrder.parse(axes)
    assert order.walk(Grid(5, 2, 3), causal_frames=2) == order.walk(Grid(5, 2, 3))
    assert order.walk(Grid(5, 2, 3), causal_frames=2).table is None
    assert ScanOrder.parse("hwt").walk(Grid(5, 2, 3), causal_frames=5).table is None


def test_packed_grids_are_cut_each_for_itself():
    order, grids = ScanOrder.parse("thw+rev"), [Grid(3, 1, 2), Grid(1, 2, 2), Grid(2, 1, 1)]
    walk = order.walk(grids, prefix=1, causal_frames=2)
    assert walk.lengths == (8, 5, 3)
    alone = [order.walk(grid, 1, causal_frames=2).rows() for grid in grids]
    assert torch.equal(walk.rows(), torch.cat([alone[0], alone[1] + 8, alone[2] + 13]))


def test_layout_of_a_sequence_is_what_made_it():
    grids = (Grid(3, 1, 2), Grid(1, 2, 2), Grid(0, 2, 2))
    for prefix, frames in product((0, 1, 3), (None, 1, 2)):
        layout = Layout(grids, prefix, frames, packed=True)
        assert Layout.of(grids, sum(layout.lengths), frames) == layout
        assert layout.cu_seqlens(torch.device("cpu"))[-1] == sum(layout.lengths)
    assert Layout.of(Grid(4, 2, 2), 20, 2) == Layout((Grid(4, 2, 2),), 2, 2)
    assert Layout.of(Grid(4, 2, 2), 16).cu_seqlens(torch.device("cpu")) is None


@pytest.mark.parametrize("rows", [15, 17])
def test_rows_that_do_not_fit_are_refused(rows):
    with pytest.raises(ValueError, match=rf"tokens have l = {rows} rows, Grid.* fill 16: .* multiple of their 2 seg"):
        Layout.of(Grid(4, 2, 2), rows, 2)


def test_a_segment_has_at_least_one_frame():
    with pytest.raises(ValueError, match="causal_frames must be at least 1, or None, got 0"):
        ScanPattern.parse(["thw"], causal_frames=0)
