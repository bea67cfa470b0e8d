"""What reducers and connectors give, and what each of them can be asked before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ssmvid.scan import Grid


class SoftTokens(NamedTuple):
    """`tokens` (b, m, d) on `grid`, whose length is m; (1, 1, m) where they lie on none.

    `rows` (b, m), int64: of the tokens that went in, the first that each stands for: where it lies in the clip.
    """

    tokens: Tensor
    grid: Grid
    rows: Tensor


class Reducer(nn.Module):
    """`reducer(tokens (b, l, d), grid) -> SoftTokens`: fewer tokens, how many of them known before.

    Where `stream_frames` is a number the reducer is causal in time: `init_state` and `step` take a stream so many
    token frames, or a multiple of them, at a time.
    """

    exact = True  # False: `num_tokens` is the most there can be, and b must be 1

    def out_grid(self, grid: Grid) -> Grid:
        """The grid of what comes out for tokens on `grid`."""
        raise NotImplementedError

    def num_tokens(self, grid: Grid) -> int:
        """m for tokens on `grid`."""
        return self.out_grid(grid).length

    def forward(self, tokens: Tensor, grid: Grid) -> SoftTokens:
        """Reduce tokens (b, grid.length, d), which lie in `thw` order and have no prefix."""
        raise NotImplementedError

    @property
    def stream_frames(self) -> int | None:
        """Token frames a step takes, or a multiple of them; None: it cannot stream."""
        return None

    def init_state(self, batch: int, grid: Grid) -> Any:
        """The state before the first step of `batch` streams of frames on `grid`.

        Raises:
            ValueError: it is not causal in time.
        """
        if self.stream_frames is None:
            raise cannot_stream(self)
        return ()

    def step(self, tokens: Tensor, grid: Grid, state: Any) -> tuple[SoftTokens, Any]:
        """`forward` on the next frames of a stream, on from `state`; only the stream's last step may be shorter."""
        return self(tokens, grid), state


class Connector(Reducer):
    """A reducer whose tokens have the width of a language model, `llm_dim`."""

    llm_dim: int


def cannot_stream(reducer: Reducer) -> ValueError:
    """The refusal of a reducer that is not causal in time."""
    return ValueError(
        f"{type(reducer).__name__}: cannot stream, as a token depends on later frames: take one that is causal in "
        "time, such as Storm with causal=True or an MLPConnector over Pool"
    )


def strided(grid: Grid, stride: Sequence[int]) -> Grid:
    """The bricks of `stride` tokens that cover a grid; the last along an axis may be smaller."""
    return Grid(*(-(-size // step) for size, step in zip(grid, stride)))


def brick_rows(grid: Grid, stride: Sequence[int], batch: int, device: torch.device) -> Tensor:
    """The first row of each of those bricks, (batch, m)."""
    rows = torch.arange(grid.length, device=device).view(grid)
    return rows[:: stride[0], :: stride[1], :: stride[2]].flatten().expand(batch, -1)


def take(tokens: Tensor, rows: Tensor) -> Tensor:
    """Tokens (b, l, d) at rows (b, m): (b, m, d)."""
    return tokens.gather(1, rows[..., None].expand(-1, -1, tokens.shape[-1]))
