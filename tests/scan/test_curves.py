"""Each curve by hand on a tiny grid, and what it promises on every small one."""

from itertools import product

import pytest
import torch

from ssmvid.scan import AXES, CURVES, Grid, ScanOrder, padded_windows
from ssmvid.scan.naming import split_number

GRIDS = [Grid(t, h, w) for t, h, w in product(range(1, 10), repeat=3)]
NUMBERS = {"window": (1, 2, 3, 7), "atrous": (1, 2, 3, 7), "slices": (1, 2, 5, 8), "random": (0, 7)} | {
    "brick": ("1x1x1", "2x3x4", "9x1x2")
}
NAMES = [f"{name}{number}" for name in CURVES for number in NUMBERS.get(name, ("",))]

#  0  1  2  3
#  4  5  6  7
#  8  9 10 11
ROWS_3_COLUMNS_4 = {
    "thw": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    "twh": [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11],
    "thw+rev": [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
    "thw+flip_h": [8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3],
    "thw+flip_w": [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8],
    "twh+flip_w": [3, 7, 11, 2, 6, 10, 1, 5, 9, 0, 4, 8],
    "twh+flip_h+rev": [3, 7, 11, 2, 6, 10, 1, 5, 9, 0, 4, 8],
    "thw+snake2d": [0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11],
    "twh+snake2d": [0, 4, 8, 9, 5, 1, 2, 6, 10, 11, 7, 3],
    "thw+snake2d+flip_h+flip_w": [11, 10, 9, 8, 4, 5, 6, 7, 3, 2, 1, 0],
    "thw+spiral": [0, 1, 2, 3, 7, 11, 10, 9, 8, 4, 5, 6],
    "thw+antidiagonal": [0, 1, 4, 2, 5, 8, 3, 6, 9, 7, 10, 11],
    "thw+jpeg": [0, 1, 4, 8, 5, 2, 3, 6, 9, 10, 7, 11],
    "thw+wrap_diagonal": [0, 5, 10, 1, 6, 11, 2, 7, 8, 3, 4, 9],
    "thw+wrap_antidiagonal": [0, 7, 10, 1, 4, 11, 2, 5, 8, 3, 6, 9],
    "thw+window2": [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 10, 11],
    "thw+window3": [0, 1, 2, 4, 5, 6, 8, 9, 10, 3, 7, 11],
    "twh+window2": [0, 4, 1, 5, 8, 9, 2, 6, 3, 7, 10, 11],
    "thw+brick9x2x2": [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 10, 11],
    "thw+atrous2": [0, 2, 8, 10, 4, 6, 1, 3, 9, 11, 5, 7],
    "thw+slices4": [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11],
    "thw+morton2d": [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 10, 11],
    "thw+hilbert2d": [0, 1, 5, 4, 8, 9, 10, 11, 7, 6, 2, 3],
    "thw+random7": [7, 10, 2, 5, 0, 1, 11, 8, 3, 6, 9, 4],
}
ROWS_4_COLUMNS_4 = {
    "thw+hilbert2d": [0, 1, 5, 4, 8, 12, 13, 9, 10, 14, 15, 11, 7, 6, 2, 3],
    "thw+morton2d": [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15],
    "thw+atrous2": [0, 2, 8, 10, 4, 12, 6, 14, 1, 3, 9, 11, 5, 13, 7, 15],
}
FRAMES_2_ROWS_2_COLUMNS_3 = {
    "thw+snake": [0, 1, 2, 5, 4, 3, 9, 10, 11, 8, 7, 6],
    "thw+snake2d": [0, 1, 2, 5, 4, 3, 6, 7, 8, 11, 10, 9],
    "thw+morton": [0, 1, 3, 4, 6, 7, 9, 10, 2, 5, 8, 11],
    "thw+brick2x1x2": [0, 1, 6, 7, 2, 8, 3, 4, 9, 10, 5, 11],
    "wht+brick2x1x2": [0, 6, 1, 7, 3, 9, 4, 10, 2, 8, 5, 11],
    "thw+brick2x1x2+rev": [11, 5, 10, 9, 4, 3, 8, 2, 7, 6, 1, 0],
    "thw+slices5": [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11],
    "thw+flip_t": [6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5],
}
FRAMES_2_ROWS_2_COLUMNS_2 = {
    "thw": [0, 1, 2, 3, 4, 5, 6, 7],
    "twh": [0, 2, 1, 3, 4, 6, 5, 7],
    "htw": [0, 1, 4, 5, 2, 3, 6, 7],
    "hwt": [0, 4, 1, 5, 2, 6, 3, 7],
    "wth": [0, 2, 4, 6, 1, 3, 5, 7],
    "wht": [0, 4, 2, 6, 1, 5, 3, 7],
    "thw+hilbert": [0, 2, 6, 4, 5, 7, 3, 1],
}
BY_HAND = [
    (grid, name, path)
    for grid, paths in [
        (Grid(1, 3, 4), ROWS_3_COLUMNS_4),
        (Grid(1, 4, 4), ROWS_4_COLUMNS_4),
        (Grid(2, 2, 3), FRAMES_2_ROWS_2_COLUMNS_3),
        (Grid(2, 2, 2), FRAMES_2_ROWS_2_COLUMNS_2),
    ]
    for name, path in paths.items()
]


def coordinates(rows: torch.Tensor, grid: Grid) -> torch.Tensor:
    return torch.stack([rows // (grid.h * grid.w), rows // grid.w % grid.h, rows % grid.w], dim=1)


@pytest.mark.parametrize(("grid", "name", "path"), BY_HAND)
def test_by_hand(grid, name, path):
    assert ScanOrder.parse(name).indices(grid).tolist() == path


def test_every_curve_is_checked_by_hand():
    assert {split_number(order.curve)[0] for order in map(ScanOrder.parse, (name for _, name, _ in BY_HAND))} == {
        "",
        *CURVES,
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_grid_is_visited_once_with_an_exact_inverse(name):
    order = ScanOrder.parse(f"thw+{name}")
    for grid in GRIDS:
        path, every = order.indices(grid), torch.arange(grid.length)
        assert path.dtype == torch.int64
        assert torch.equal(path.sort().values, every), grid
        inverse = order.inverse(grid)
        assert torch.equal(path[inverse], every), grid
        assert torch.equal(inverse[path], every), grid


@pytest.mark.parametrize("name", [name for name, curve in CURVES.items() if curve.unit_steps])
def test_every_step_goes_to_a_neighbour(name):
    order = ScanOrder.parse(f"thw+{name}")
    for grid in GRIDS:
        steps = coordinates(order.indices(grid), grid).diff(dim=0).abs().sum(dim=1)
        between_frames = torch.arange(1, grid.length) % (grid.h * grid.w) == 0
        if CURVES[name].axes == 2:
            steps = steps[~between_frames]
        assert (steps == 1).all(), grid


@pytest.mark.parametrize("grid", [Grid(1, 63, 2), Grid(1, 2, 99), Grid(31, 97, 2), Grid(16, 14, 14), Grid(25, 25, 3)])
def test_hilbert_has_unit_steps_and_stays_near_on_large_and_lopsided_grids(grid):
    """Tokens 64 steps apart lie nearer than on a snake, wherever the grid is wide enough for that to differ."""
    far = {}
    for name in ("hilbert", "snake"):
        places = coordinates(ScanOrder.parse(f"thw+{name}").indices(grid), grid)
        assert (places.diff(dim=0).abs().sum(dim=1) == 1).all()
        far[name] = (places[64:] - places[:-64]).double().norm(dim=1).mean()
    if min(grid[1:]) > 2:
        assert far["hilbert"] < 0.75 * far["snake"]


@pytest.mark.parametrize("name", [name for name in NAMES if CURVES[split_number(name)[0]].axes == 2])
def test_curves_over_two_axes_run_frame_by_frame(name):
    order, frame = ScanOrder.parse(f"thw+{name}"), Grid(1, 5, 3)
    one = order.indices(frame)
    expected = torch.cat([one + t * frame.length for t in range(4)])
    assert torch.equal(order.indices(Grid(4, 5, 3)), expected)


@pytest.mark.parametrize("name", ["snake", "hilbert", "morton"])
def test_in_one_frame_a_curve_over_three_axes_is_its_2d_form(name):
    for h, w in product(range(1, 10), repeat=2):
        grid = Grid(1, h, w)
        three, two = (ScanOrder.parse(f"thw+{name}{suffix}").indices(grid) for suffix in ("", "2d"))
        assert torch.equal(three, two), grid


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2, 2), (2, 3, 4), (9, 1, 2)])
def test_every_order_over_bricks_reads_the_same_bricks(sizes):
    names = [f"{axes}+brick{'x'.join(map(str, sizes))}{rev}" for axes in AXES for rev in ("", "+rev")]
    for grid in [Grid(3, 5, 4), Grid(1, 4, 9), Grid(4, 1, 2), Grid(0, 2, 2)]:
        t, h, w = (torch.arange(axis) // size for axis, size in zip(grid, sizes))
        brick_of = (t[:, None, None] * 100 + h[:, None] * 10 + w).flatten()
        for order in map(ScanOrder.parse, names):
            lengths = order.bricks(grid)
            met = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths, dtype=torch.int64))
            brick_met = brick_of[order.indices(grid)]
            assert len(met) == grid.length
            assert len(set(zip(met.tolist(), brick_met.tolist()))) == len(lengths) == len(set(brick_of.tolist()))


def test_random_orders_differ_by_seed():
    grid = Grid(2, 4, 4)
    paths = {tuple(ScanOrder.parse(f"thw+random{seed}").indices(grid).tolist()) for seed in range(8)}
    assert len(paths) == 8


def test_padded_windows_are_the_windows_with_padding_between():
    assert padded_windows(Grid(1, 3, 4), 2).tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, -1, -1, 10, 11, -1, -1]
    assert padded_windows(Grid(1, 1, 3), 2, "twh").tolist() == [0, -1, 1, -1, 2, -1, -1, -1]
    for axes, size, grid in product(["thw", "twh"], [1, 2, 3, 7], [Grid(2, 5, 3), Grid(3, 4, 6), Grid(1, 1, 1)]):
        padded = padded_windows(grid, size, axes)
        assert padded.numel() == grid.t * (-grid.h // size) * (-grid.w // size) * size**2
        assert torch.equal(padded[padded >= 0], ScanOrder.parse(f"{axes}+window{size}").indices(grid))


@pytest.mark.parametrize(("size", "axes"), [(0, "thw"), (2, "hwt")])
def test_padded_windows_refuse_what_has_no_meaning(size, axes):
    with pytest.raises(ValueError, match=f"expected size >= 1 and axes 'thw' or 'twh', got {size} and '{axes}'"):
        padded_windows(Grid(1, 2, 2), size, axes)
