"""What an order is made of: axes, flips, direction, prefix; its name; its walk."""

from itertools import combinations, product

import pytest
import torch

from ssmvid.scan import AXES, CURVES, ORDERS, Grid, ScanOrder

GRIDS = [Grid(t, h, w) for t, h, w in product(range(1, 10), repeat=3)]
FLIPS = ["".join(flip) for count in range(4) for flip in combinations("thw", count)]
NAMES = [str(ScanOrder(axes, flip=flip)) for axes, flip in product(AXES, FLIPS)]


def places(order: ScanOrder, grid: Grid) -> torch.Tensor:
    """(t, h, w) at each step, (l, 3)."""
    rows = order.indices(grid)
    return torch.stack([rows // (grid.h * grid.w), rows // grid.w % grid.h, rows % grid.w], dim=1)


def test_orders_holds_every_axes_and_curve_both_ways():
    assert len(ORDERS) == 6 * (1 + len(CURVES)) * 2


@pytest.mark.parametrize("name", NAMES)
def test_every_grid_is_visited_once_with_an_exact_inverse(name):
    order = ScanOrder.parse(name)
    for grid in GRIDS:
        path, every = order.indices(grid), torch.arange(grid.length)
        assert path.dtype == torch.int64
        assert torch.equal(path.sort().values, every), grid
        assert torch.equal(path[order.inverse(grid)], every), grid


@pytest.mark.slow
@pytest.mark.parametrize("name", ORDERS)
def test_every_curve_over_every_axes_visits_every_grid_once(name):
    order = ScanOrder.parse(name)
    for grid in GRIDS:
        assert torch.equal(order.indices(grid)[order.inverse(grid)], torch.arange(grid.length)), grid


@pytest.mark.parametrize("name", ORDERS)
def test_the_walk_is_the_same_path(name):
    order = ScanOrder.parse(name)
    for grid in [Grid(3, 2, 5), Grid(1, 4, 3), Grid(2, 1, 1), Grid(0, 3, 2), Grid(2, 0, 0)]:
        assert order.walk(grid).rows().tolist() == order.indices(grid).tolist(), grid


@pytest.mark.parametrize("axes", AXES)
def test_axes_rename_the_axes_of_the_curve(axes):
    """`hwt+CURVE` moves along h, w, t as `thw+CURVE` moves along t, h, w of a grid of those sizes."""
    grid = Grid(3, 4, 5)
    sizes = Grid(*(getattr(grid, axis) for axis in axes))
    for curve in {order.curve for order in ORDERS.values()}:
        expected = places(ScanOrder("thw", curve), sizes)
        got = places(ScanOrder(axes, curve), grid)
        assert torch.equal(got[:, ["thw".index(axis) for axis in axes]], expected), curve


@pytest.mark.parametrize("flip", FLIPS)
def test_flips_mirror_the_grid(flip):
    grid = Grid(3, 4, 5)
    mirrored = torch.tensor([axis in flip for axis in "thw"])
    for order in ORDERS.values():
        plain = places(ScanOrder(order.axes, order.curve), grid)
        expected = torch.where(mirrored, torch.tensor(grid) - 1 - plain, plain)
        assert torch.equal(places(ScanOrder(order.axes, order.curve, flip), grid), expected), order


@pytest.mark.parametrize("name", [*ORDERS, "twh+window3+flip_t+flip_w+rev"])
def test_rev_is_the_same_path_backwards(name):
    forward = name.removesuffix("+rev")
    for grid in [Grid(2, 3, 5), Grid(1, 5, 4)]:
        backwards = ScanOrder.parse(f"{forward}+rev").indices(grid)
        assert torch.equal(backwards, ScanOrder.parse(forward).indices(grid).flip(0))


@pytest.mark.parametrize("name", ["thw", "hwt+rev", "wth+snake", "thw+hilbert+rev", "twh+flip_w", "thw+window2+rev"])
@pytest.mark.parametrize("prefix", [1, 3])
def test_prefix_rows_come_first_and_last_under_rev(name, prefix):
    grid, order = Grid(2, 3, 2), ScanOrder.parse(name)
    first = list(range(prefix))
    body = (order.indices(grid) + prefix).tolist()
    expected = body + first[::-1] if order.reverse else first + body
    assert order.walk(grid, prefix).rows().tolist() == expected


@pytest.mark.parametrize("name", ["hwt", "thw+rev", "twh+snake", "thw+hilbert+rev", "thw+flip_h"])
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


@pytest.mark.parametrize("name", ["thw", "thw+snake", "thw+random3"])
def test_a_walk_is_made_once(name):
    grid = Grid(4, 3, 2)
    assert ScanOrder.parse(name).walk(grid, 1) is ScanOrder(name[:3], curve=name[4:]).walk(grid, 1)


def test_only_curves_and_flips_need_a_table():
    for order in [*ORDERS.values(), ScanOrder("thw", flip="h")]:
        assert (order.walk(Grid(2, 3, 4), 1).table is None) == (not order.curve and not order.flip)


@pytest.mark.parametrize("name", [*ORDERS, *NAMES, "wht+atrous12+flip_t+flip_h+flip_w+rev", "thw+random999999999"])
def test_name_round_trips(name):
    assert str(ScanOrder.parse(name)) == name


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("thx", "wth"),
        ("THW", "thw"),
        ("thw+hilbret", "thw+hilbert"),
        ("thw+reverse", "thw+rev"),
        ("thw+rev+rev", "thw+rev"),
        ("hwt+rev+snake", "hwt+snake+rev"),
        ("twh+flip_w+flip_h", "twh+flip_h+flip_w"),
        ("thw+windw7+rev", "thw+window7+rev"),
        ("thw+window", "thw+window2"),
        ("thw+window03", "thw+window3"),
        ("thw+spiral3", "thw+spiral"),
    ],
)
def test_a_misspelt_order_is_told_the_nearest(name, meant):
    with pytest.raises(ValueError, match=r"unknown scan order .* expected AXES\[\+CURVE\]") as error:
        ScanOrder.parse(name)
    assert str(error.value).endswith(f"did you mean {meant!r}?")


@pytest.mark.parametrize("name", ["", "thw+snake+hilbert", "thw+window0", "thw+", "thw+random1234567890"])
def test_other_names_get_the_grammar(name):
    with pytest.raises(ValueError, match=r"AXES one of thw, .* CURVE one of snake, .* windowN, .* N from 1") as error:
        ScanOrder.parse(name)
    assert "did you mean" not in str(error.value)


@pytest.mark.parametrize("fields", [{"axes": "hw"}, {"axes": "thw", "curve": "window"}, {"axes": "thw", "flip": "ht"}])
def test_fields_are_held_to_the_same_grammar(fields):
    with pytest.raises(ValueError, match="unknown scan order"):
        ScanOrder(**fields)
