import torch
from torch import nn

from ssmvid.blocks import Block, add_and_norm
from ssmvid.scan import Grid

GRID = Grid(1, 2, 2)


class Double(nn.Module):
    def forward(self, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        return 2 * tokens


def rms(x: torch.Tensor) -> torch.Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def test_the_stream_grows_by_the_tokens_and_the_mixer_reads_its_norm():
    block, tokens, residual = Block(Double(), norm=nn.RMSNorm(6, eps=1e-5)), torch.randn(2, 4, 6), torch.randn(2, 4, 6)
    mixed, stream = block(tokens, residual, GRID)
    torch.testing.assert_close(stream, residual + tokens)
    torch.testing.assert_close(mixed, 2 * rms(residual + tokens))


def test_the_first_block_starts_the_stream():
    tokens = torch.randn(2, 4, 6)
    mixed, stream = Block(Double(), norm=nn.RMSNorm(6, eps=1e-5))(tokens, None, GRID)
    torch.testing.assert_close(stream, tokens)
    torch.testing.assert_close(mixed, 2 * rms(tokens))


def test_the_stream_is_fp32_whatever_the_tokens_are():
    block, tokens = Block(Double(), norm=nn.RMSNorm(6, eps=1e-5)).bfloat16(), torch.randn(2, 4, 6, dtype=torch.bfloat16)
    mixed, stream = block(tokens, None, GRID)
    mixed, stream = block(mixed, stream, GRID)
    assert (mixed.dtype, stream.dtype) == (torch.bfloat16, torch.float32)
    assert add_and_norm(tokens.double(), None, nn.RMSNorm(6).double())[1].dtype == torch.float64


def test_a_dropped_sample_leaves_its_stream_as_it_was():
    block, tokens, residual = (
        Block(Double(), norm=nn.RMSNorm(6, eps=1e-5), drop_path=0.5),
        torch.ones(64, 4, 6),
        torch.zeros(64, 4, 6),
    )
    torch.manual_seed(0)
    kept = block(tokens, residual, GRID)[1][:, 0, 0]
    assert set(kept.tolist()) == {0.0, 2.0}  # what is kept is scaled by 1 / (1 - rate)
    assert torch.equal(block.eval()(tokens, residual, GRID)[1], tokens)


def test_the_normed_stream_may_be_the_one_handed_on():
    block, tokens, residual = (
        Block(Double(), norm=nn.LayerNorm(6), carry="normed"),
        torch.ones(1, 4, 6),
        torch.randn(1, 4, 6),
    )
    mixed, stream = block(tokens, residual, GRID)
    torch.testing.assert_close(stream, nn.functional.layer_norm(residual + 1, (6,)))
    torch.testing.assert_close(mixed, 2 * stream)
