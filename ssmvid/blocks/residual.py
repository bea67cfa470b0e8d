"""The pre-norm block of Mamba: the residual stream is kept apart, in fp32."""

from __future__ import annotations

from typing import Literal, cast

from timm.layers import DropPath
from torch import Tensor, nn

from ssmvid.layers import at_least_fp32
from ssmvid.mixers import State, StreamingMixer
from ssmvid.scan import Grid

NORM_EPS = 1e-5
Norm = nn.RMSNorm | nn.LayerNorm | nn.Identity


def add_and_norm(tokens: Tensor, residual: Tensor | None, norm: Norm) -> tuple[Tensor, Tensor]:
    """Add a mixer's output to the residual stream and norm the sum.

    Args:
        tokens: (b, l, d), in any floating dtype.
        residual: the stream so far (b, l, d), fp32 at least; None before the first block.
        norm: its weight's dtype is the one the normed tokens come in; that of the tokens where it has none.

    Returns:
        normed tokens (b, l, d) and the stream (b, l, d).
    """
    stream = at_least_fp32(tokens) if residual is None else residual + tokens
    dtype = tokens.dtype if isinstance(norm, nn.Identity) else norm.weight.dtype
    return norm(stream.to(dtype)), stream


class Block(nn.Module):
    """`residual += DropPath(tokens); tokens = mixer(norm(residual))`.

    Args:
        mixer: `mixer(tokens, grid) -> tokens`.
        norm: of width d.
        drop_path: rate at which a sample's *incoming* tokens are dropped: the output of the block before.
        carry: the residual handed on: the 'stream' as it was summed, or 'normed', what the mixer read.

    Source: Gu & Dao 2023 (Mamba's released block); Zhu et al. 2024 (Vim), arXiv:2401.09417; carrying what is
        normed: Li et al. 2024 (Mamba-ND), arXiv:2402.05892.
    """

    def __init__(
        self,
        mixer: nn.Module,
        *,
        norm: nn.RMSNorm | nn.LayerNorm,
        drop_path: float = 0.0,
        carry: Literal["stream", "normed"] = "stream",
    ) -> None:
        super().__init__()
        self.mixer = mixer
        self.norm = norm
        self.drop_path = DropPath(drop_path)
        self.carry = carry

    def forward(self, tokens: Tensor, residual: Tensor | None, grid: Grid) -> tuple[Tensor, Tensor]:
        """Tokens and residual (b, l, d) in, tokens and residual out."""
        normed, stream = add_and_norm(self.drop_path(tokens), residual, self.norm)
        return self.mixer(normed, grid), stream if self.carry == "stream" else at_least_fp32(normed)

    def init_state(self, batch: int, grid: Grid, prefix: int = 0) -> State:
        """The mixer's state before the first segment of `batch` streams; see `StreamingMixer`."""
        return cast(StreamingMixer, self.mixer).init_state(batch, grid, prefix)

    def step(self, tokens: Tensor, residual: Tensor | None, grid: Grid, state: State) -> tuple[Tensor, Tensor, State]:
        """`forward` on the next segments of a stream, on from the mixer's state; the state after them comes last."""
        normed, stream = add_and_norm(self.drop_path(tokens), residual, self.norm)
        tokens, state = cast(StreamingMixer, self.mixer).step(normed, grid, state)
        return tokens, stream if self.carry == "stream" else at_least_fp32(normed), state
