"""A scan along a walk is: permute the tokens, scan, permute back. Bit for bit."""

from itertools import product

import pytest
import torch

from ssmvid.scan import ORDERS, Grid, ScanOrder
from ssmvid_kernels.s6 import selective_scan

FLIPPED = ["thw+flip_t", "twh+flip_w", "hwt+flip_h+flip_w+rev", "twh+snake2d+flip_h", "thw+hilbert2d+flip_t+rev"]
GRIDS = [Grid(2, 3, 5), Grid(3, 1, 7), Grid(1, 5, 3)]
EVERY_GRID = [Grid(t, h, w) for t, h, w in product(range(1, 10), repeat=3)]
D, N = 5, 3


@pytest.fixture(scope="module")
def inputs():
    """x, dt, B, C for the longest grid and two prefix tokens; A and D."""
    torch.manual_seed(0)
    longest = 2 + max(grid.length for grid in EVERY_GRID)
    x, dt = torch.randn(2, longest, D), torch.rand(2, longest, D)
    return x, dt, -torch.rand(D, N) - 0.5, torch.randn(2, longest, N), torch.randn(2, longest, N), torch.randn(D)


def assert_fused_is_permuted(order, grid, prefix, inputs):
    x, dt, A, B, C, D = inputs
    walk = order.walk(grid, prefix)
    rows, l = walk.rows().long(), prefix + grid.length
    fused = selective_scan(
        x[:, :l],
        dt[:, None, :l],
        A[None],
        B[:, None, :l],
        C[:, None, :l],
        D[None],
        walks=[walk],
        backend="cpu",
    ).y
    permuted = selective_scan(x[:, rows], dt[:, rows], A, B[:, rows], C[:, rows], D, backend="cpu").y
    assert torch.equal(fused[:, rows], permuted), (grid, prefix)


@pytest.mark.parametrize("name", [*ORDERS, *FLIPPED])
def test_fused_scan_is_permute_scan_unpermute(name, inputs):
    for grid, prefix in product(GRIDS, (0, 2)):
        assert_fused_is_permuted(ScanOrder.parse(name), grid, prefix, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ORDERS)
def test_fused_scan_is_permute_scan_unpermute_on_every_grid(name, inputs):
    for grid in EVERY_GRID:
        assert_fused_is_permuted(ScanOrder.parse(name), grid, 0, inputs)
