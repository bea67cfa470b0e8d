import torch

from ssmvid.layers import to_maps, to_tokens
from ssmvid.scan import Grid

GRID = Grid(2, 3, 5)


def test_a_map_a_frame_and_back():
    tokens = torch.randn(4, GRID.length, 7)
    maps = to_maps(tokens, GRID)
    assert maps.shape == (8, 7, 3, 5)
    assert torch.equal(maps[2 * 1 + 1, :, 2, 4], tokens[1, (1 * 3 + 2) * 5 + 4])
    assert torch.equal(to_tokens(maps, GRID.t), tokens)
    assert to_maps(tokens[:0], GRID).shape == (0, 7, 3, 5)


def test_no_copy_is_made():
    tokens = torch.randn(4, GRID.length, 14)
    half = tokens.chunk(2, dim=-1)[1]
    for part in (tokens, half):
        maps = to_maps(part, GRID)
        assert maps.data_ptr() == part.data_ptr()
        assert to_tokens(maps, GRID.t).data_ptr() == part.data_ptr()
