import pytest
import torch

from ssmvid.scan import Grid, ScanOrder, prefix_steps


@pytest.mark.parametrize(
    ("place", "prefix", "length", "steps"),
    [
        ("head", 2, 9, [0, 1]),
        ("middle", 1, 196, [98]),  # Vim at 224 x 224
        ("middle", 1, 9, [4]),
        ("spread", 4, 16, [3, 7, 11, 15]),
        ("spread", 12, 196, [15 + 16 * i for i in range(12)]),  # Mamba-Reg at 224 x 224
        ("spread", 0, 9, []),
    ],
)
def test_steps_that_read_the_prefix(place, prefix, length, steps):
    assert prefix_steps(place, prefix, length) == steps


@pytest.mark.parametrize("name", ["thw", "hwt", "thw+snake", "thw+flip_w"])
@pytest.mark.parametrize(
    ("place", "prefix"), [("head", 3), ("middle", 1), ("middle", 2), ("spread", 3), ("spread", 20)]
)
def test_a_walk_meets_the_prefix_there_and_backwards_from_its_end(name, place, prefix):
    grid, order = Grid(2, 3, 2), ScanOrder.parse(name)
    rows = order.walk(grid, prefix, place).rows().tolist()
    assert [rows.index(i) for i in range(prefix)] == prefix_steps(place, prefix, grid.length)
    assert [row - prefix for row in rows if row >= prefix] == order.indices(grid).tolist()
    back = ScanOrder.parse(f"{name}+rev").walk(grid, prefix, place)
    assert back.rows().tolist() == rows[::-1]


def test_packed_clips_keep_their_own_prefix():
    order, grids = ScanOrder.parse("thw"), [Grid(1, 2, 2), Grid(1, 1, 3)]
    walk = order.walk(grids, 1, "middle")
    assert walk.lengths == (5, 4)
    assert walk.rows().tolist() == [1, 2, 0, 3, 4, 6, 5, 7, 8]
    assert torch.equal(order.walk(grids[0], 1, "middle").rows(), walk.rows()[:5])


def test_an_unknown_place_is_refused():
    with pytest.raises(ValueError, match="unknown place of the prefix 'tail': expected one of head, middle, spread"):
        prefix_steps("tail", 1, 4)
