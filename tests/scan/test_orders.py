from itertools import product

import pytest
import torch

from ssmvid.scan import ORDERS, Grid, ScanOrder

GRIDS = [Grid(t, h, w) for t, h, w in product(range(1, 6), repeat=3)]


def coordinates(rows: torch.Tensor, grid: Grid) -> torch.Tensor:
    return torch.stack([rows // (grid.h * grid.w), rows // grid.w % grid.h, rows % grid.w], dim=1)


def test_there_are_six_axes_snaking_or_not_both_ways():
    assert len(ORDERS) == 24


@pytest.mark.parametrize("name", ORDERS)
def test_every_grid_is_visited_once_and_the_walk_is_the_same_path(name):
    order = ScanOrder.parse(name)
    for grid in GRIDS:
        path = order.indices(grid)
        assert path.dtype == torch.int64
        assert path.sort().values.tolist() == list(range(grid.length)), grid
        assert order.walk(grid).rows().tolist() == path.tolist(), grid
        inverse = torch.empty_like(path)
        inverse[path] = torch.arange(grid.length)
        tokens = torch.randn(grid.length)
        assert torch.equal(tokens[path][inverse], tokens), grid


@pytest.mark.parametrize("name", [name for name in ORDERS if "snake" in name])
def test_every_step_of_a_snake_goes_to_a_neighbour(name):
    for grid in GRIDS:
        places = coordinates(ScanOrder.parse(name).indices(grid), grid)
        assert (places.diff(dim=0).abs().sum(dim=1) == 1).all(), grid


@pytest.mark.parametrize("name", [name for name in ORDERS if "snake" not in name])
def test_the_last_axis_named_moves_fastest(name):
    grid = Grid(2, 3, 4)
    order = ScanOrder.parse(name)
    path = order.indices(grid).flip(0) if order.reverse else order.indices(grid)
    step = coordinates(path, grid).diff(dim=0)[0]
    assert step.tolist() == [int(axis == order.axes[-1]) for axis in "thw"]


@pytest.mark.parametrize("name", [name for name in ORDERS if name.endswith("+rev")])
def test_rev_is_the_same_path_backwards(name):
    forward = ScanOrder.parse(name.removesuffix("+rev")).indices(Grid(2, 3, 5))
    assert ScanOrder.parse(name).indices(Grid(2, 3, 5)).tolist() == forward.flip(0).tolist()


@pytest.mark.parametrize("name", ORDERS)
def test_name_round_trips(name):
    assert str(ScanOrder.parse(name)) == name


def test_hwt_follows_a_pixel_through_time():
    assert ScanOrder.parse("hwt").indices(Grid(3, 1, 2)).tolist() == [0, 2, 4, 1, 3, 5]


def test_snake_turns_back_at_rows_and_at_frames():
    rows = ScanOrder.parse("thw+snake").indices(Grid(2, 2, 3))
    assert rows.tolist() == [0, 1, 2, 5, 4, 3, 9, 10, 11, 8, 7, 6]


@pytest.mark.parametrize("name", ["thw", "hwt+rev", "wth+snake", "thw+snake+rev"])
@pytest.mark.parametrize("prefix", [1, 3])
def test_prefix_rows_come_first_and_last_under_rev(name, prefix):
    grid, order = Grid(2, 3, 2), ScanOrder.parse(name)
    first = list(range(prefix))
    body = (order.indices(grid) + prefix).tolist()
    expected = body + first[::-1] if order.reverse else first + body
    assert order.walk(grid, prefix).rows().tolist() == expected


@pytest.mark.parametrize("name", ["hwt", "thw+rev", "twh+snake", "thw+snake+rev"])
@pytest.mark.parametrize("prefix", [0, 2])
def test_packed_clips_keep_their_own_stretch(name, prefix):
    grids, order = [Grid(2, 2, 3), Grid(1, 1, 1), Grid(3, 1, 2)], ScanOrder.parse(name)
    walk = order.walk(grids, prefix)
    assert walk.lengths == tuple(prefix + grid.length for grid in grids)
    start, rows = 0, walk.rows().tolist()
    for grid, length in zip(grids, walk.lengths):
        alone = order.walk(grid, prefix).rows() + start
        assert rows[start : start + length] == alone.tolist()
        start += length


@pytest.mark.parametrize("name", ["thw", "thw+snake"])
def test_a_walk_is_made_once(name):
    grid = Grid(4, 3, 2)
    assert ScanOrder.parse(name).walk(grid, 1) is ScanOrder(name[:3], snake="snake" in name).walk(grid, 1)


def test_plain_orders_need_no_table():
    assert all(order.walk(Grid(2, 3, 4), 1).table is None for name, order in ORDERS.items() if "snake" not in name)


@pytest.mark.parametrize("name", ["thx", "thw+reverse", "thw+rev+rev", "", "THW"])
def test_unknown_order_lists_the_known_ones(name):
    with pytest.raises(ValueError, match=r"unknown scan order .*: expected one of thw, thw\+rev, thw\+snake"):
        ScanOrder.parse(name)
