import pytest
import torch
from torch import nn

from ssmvid import create_model
from ssmvid.backbones.mambavision import WindowStage
from ssmvid.mixers import MambaVisionAttention, MambaVisionMixer
from ssmvid.scan import Grid
from tests.backbones.families import TINY


def make(**options):
    torch.manual_seed(0)
    return create_model("mambavision_tiny", **TINY["mambavision_tiny"] | options)


class Neighbours(nn.Module):
    """Adds to each token the sum of all it is shown, and says what grid that was."""

    def forward(self, tokens, grid):
        self.grid = grid
        return tokens + tokens.sum(1, keepdim=True)


def run(block, *inputs):
    return block(*inputs)


def test_a_window_runs_through_all_frames_and_sees_no_other():
    grid, spy = Grid(2, 4, 6), Neighbours()
    stage = WindowStage([spy], downsample=nn.Identity(), window=2)
    tokens = torch.randn(3, grid.length, 5)
    after, same = stage(tokens, grid, run)
    assert (same, spy.grid) == (grid, Grid(2, 2, 2))
    maps, out = (x.unflatten(1, tuple(grid)) for x in (tokens, after))
    for h, w in [(0, 0), (2, 4)]:
        window = maps[:, :, h : h + 2, w : w + 2]
        expected = window + window.sum((1, 2, 3), keepdim=True)
        torch.testing.assert_close(out[:, :, h : h + 2, w : w + 2], expected)


def test_windows_at_the_border_are_filled_with_zeros_that_blocks_see():
    """One more at the far side of each axis, and those the blocks may change: not what a crop would give."""
    grid = Grid(1, 3, 5)
    tokens = torch.randn(2, grid.length, 4)
    padded = torch.zeros(2, 4, 6, 4)
    padded[:, :3, :5] = tokens.unflatten(1, (3, 5))
    stage = WindowStage([Neighbours(), Neighbours()], downsample=nn.Identity(), window=2)
    whole = stage.mix(padded.flatten(1, 2), Grid(1, 4, 6), run).unflatten(1, (4, 6))
    torch.testing.assert_close(stage.mix(tokens, grid, run).unflatten(1, (3, 5)), whole[:, :3, :5])


def test_the_first_half_of_a_stage_scans_the_second_attends():
    with torch.device("meta"):
        model = create_model("mambavision_small")
    for stage, (scanning, attending) in zip(model.layers[2:], [(4, 3), (3, 2)]):
        kinds = [type(block.mixer) for block in stage.blocks]
        assert kinds == [MambaVisionMixer] * scanning + [MambaVisionAttention] * attending


def test_recomputing_counts_no_batch_twice():
    clip = torch.randn(4, 3, 2, 32, 32)
    models = [make().train(), make().train()]
    models[1].set_grad_checkpointing()
    for model in models:
        model(clip).sum().backward()
    for plain, recomputed in zip(*(model.buffers() for model in models)):
        assert torch.equal(plain, recomputed)


def test_sizes_of_an_unreleased_kind_are_refused():
    with pytest.raises(ValueError, match=r"expected depths of four stages.*got \[1, 1\], \[2, 4\] and \[3, 2\]"):
        make(depths=[1, 1])
