"""The control: reduce tokens, then change their width by an MLP."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ssmvid.lmm.soft import Connector, Reducer, SoftTokens
from ssmvid.scan import Grid


def projector(dim: int, llm_dim: int) -> nn.Sequential:
    """Two linear layers, GELU between them.

    Source: Liu et al. 2023 (LLaVA-1.5), arXiv:2310.03744, section 3.2.
    """
    return nn.Sequential(nn.Linear(dim, llm_dim), nn.GELU(), nn.Linear(llm_dim, llm_dim))


class MLPConnector(Connector):
    """Any reducer and the usual MLP: the control of every other connector.

    Args:
        dim: width of a token.
        llm_dim: width of a soft token.
        reducer: makes the tokens fewer.
    """

    def __init__(self, *, dim: int, llm_dim: int, reducer: Reducer) -> None:
        super().__init__()
        self.llm_dim = llm_dim
        self.reducer = reducer
        self.exact = reducer.exact
        self.projector = projector(dim, llm_dim)

    def out_grid(self, grid: Grid) -> Grid:
        return self.reducer.out_grid(grid)

    def forward(self, tokens: Tensor, grid: Grid) -> SoftTokens:
        reduced = self.reducer(tokens, grid)
        return reduced._replace(tokens=self.projector(reduced.tokens))

    @property
    def stream_frames(self) -> int | None:
        return self.reducer.stream_frames

    def init_state(self, batch: int, grid: Grid) -> Any:
        return self.reducer.init_state(batch, grid)

    def step(self, tokens: Tensor, grid: Grid, state: Any) -> tuple[SoftTokens, Any]:
        reduced, state = self.reducer.step(tokens, grid, state)
        return reduced._replace(tokens=self.projector(reduced.tokens)), state
