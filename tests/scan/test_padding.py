from itertools import product

import pytest
import torch

from ssmvid.scan import Grid, ScanPattern, padded_walks, padded_windows

LOCAL = ScanPattern.parse(["thw", "twh+rev", "thw+window2", "twh+window7+rev"], place="middle")


def released(order: str, grid: Grid) -> list[int]:
    """The rows a path reads, -1 for padding, as LocalMamba's text has it: pad, cut into windows, then turn round."""
    axes, *rest = order.split("+")
    size = next((int(word.removeprefix("window")) for word in rest if word.startswith("window")), 1)
    path = padded_windows(grid, size, axes).tolist()
    return path[::-1] if rest and rest[-1] == "rev" else path


@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_windows_are_padded_and_what_is_left_comes_last(prefix):
    for grid in (Grid(*sizes) for sizes in product([1, 2], [1, 3, 4, 7], [2, 5, 7])):
        walks, padding = padded_walks(LOCAL, grid, prefix)
        rows, end, half = prefix + grid.length + padding, prefix + grid.length, grid.length // 2
        for walk, order in zip(walks, LOCAL.orders):
            path = walk.rows().tolist()
            assert sorted(path) == list(range(rows))
            assert path[half : half + prefix] == list(range(prefix))
            path = [row - prefix if row < end else -1 for row in path[:half] + path[half + prefix :]]
            expected = released(str(order), grid)
            assert path[: len(expected)] == expected
            assert set(path[len(expected) :]) <= {-1}


def test_without_windows_nothing_is_padded_and_no_table_made():
    pattern, grid = ScanPattern.parse(["thw", "twh+rev"]), Grid(1, 3, 5)
    walks, padding = padded_walks(pattern, grid)
    assert padding == 0
    assert walks == pattern.walks(grid)
    assert all(walk.table is None for walk in walks)


def test_windows_that_fit_need_no_padding():
    assert padded_walks(LOCAL, Grid(2, 14, 28))[1] == 0


@pytest.mark.parametrize("order", ["thw+window2+flip_h", "hwt+window2"])
def test_windows_with_no_released_meaning_are_refused(order):
    with pytest.raises(ValueError, match="padded_w"):
        padded_walks(ScanPattern.parse([order]), Grid(1, 4, 4))


def test_empty_grid():
    walks, padding = padded_walks(ScanPattern.parse(["thw", "thw+window2"]), Grid(0, 3, 3), 1)
    assert padding == 0
    assert [walk.rows().tolist() for walk in walks] == [[0], [0]]


def test_walks_hold_int32_tables():
    assert all(walk.rows().dtype == torch.int32 for walk in padded_walks(LOCAL, Grid(1, 3, 3))[0])
