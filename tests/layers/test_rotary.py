import torch

from ssmvid.layers import rotate_grid
from ssmvid.scan import Grid

GRID = Grid(2, 3, 5)


def test_the_angles_are_the_formulas():
    """Pair j of a half turns by position * 10000^(-2 j / half): rows in the first half, columns in the second."""
    tokens = torch.randn(1, GRID.length, 8, dtype=torch.float64)
    turned = rotate_grid(tokens, GRID, side=14).unflatten(1, tuple(GRID))
    pairs = torch.view_as_complex(tokens.view(1, *GRID, 4, 2))
    for t, h, w, j in [(0, 0, 0, 0), (1, 2, 0, 1), (0, 1, 4, 3), (1, 2, 3, 2)]:
        position = h / 3 * 14 if j < 2 else w / 5 * 14
        angle = torch.tensor(position * 10000 ** (-2 * (j % 2) / 4), dtype=torch.float64)
        expected = pairs[0, t, h, w, j] * torch.polar(torch.ones_like(angle), angle)
        got = torch.view_as_complex(turned.reshape(1, *GRID, 4, 2))[0, t, h, w, j]
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_lengths_and_prefix_tokens_stay():
    tokens = torch.randn(2, 1 + GRID.length, 12)
    turned = rotate_grid(tokens, GRID, side=14)
    assert torch.equal(turned[:, :1], tokens[:, :1])
    torch.testing.assert_close(turned.norm(dim=-1), tokens.norm(dim=-1))
    torch.testing.assert_close(turned[:, 1:], rotate_grid(tokens[:, 1:], GRID, side=14))


def test_the_dtype_stays():
    assert rotate_grid(torch.randn(1, GRID.length, 8).bfloat16(), GRID, side=14).dtype == torch.bfloat16
