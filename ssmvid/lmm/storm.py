"""STORM: a Mamba over the whole video first, so that averaging over time loses little."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ssmvid.blocks import NORM_EPS
from ssmvid.lmm.pooling import Pool
from ssmvid.lmm.soft import Connector, SoftTokens, brick_rows, strided
from ssmvid.mixers import Mamba, MambaState
from ssmvid.scan import Grid, ScanPattern


class Storm(Connector):
    """Patches side by side into one token, a linear layer, `x += mamba(norm(x))` a layer, then averages.

    The paper states neither depth nor sizes of its Mamba; the defaults here are Mamba's own.

    Args:
        dim: width of a token.
        llm_dim: width of a soft token, and of the Mamba layers.
        depth: Mamba layers.
        downsample: rows and columns of tokens joined into one, zeros where they do not fill it.
        pool: frames, rows and columns whose soft tokens are averaged.
        sample: outside training, of so many averaged frames one is kept.
        causal: scan forward in time alone; it then streams.
        state_size: n.
        expand: inner width over `llm_dim`.

    Source: Jiang et al. 2025 (STORM), arXiv:2503.04130, section 3; causal: its table 7.
    """

    def __init__(
        self,
        *,
        dim: int,
        llm_dim: int,
        depth: int = 1,
        downsample: int = 2,
        pool: Sequence[int] = (4, 1, 1),
        sample: int = 1,
        causal: bool = False,
        state_size: int = 16,
        expand: int = 2,
    ) -> None:
        super().__init__()
        if downsample < 1 or sample < 1:
            raise ValueError(f"Storm: downsample and sample must be at least 1, got {downsample} and {sample}")
        self.llm_dim = llm_dim
        self.downsample = downsample
        self.sample = sample
        self.causal = causal
        self.proj = nn.Linear(downsample**2 * dim, llm_dim)
        orders, segment = (["thw"], 1) if causal else (["thw", "thw+rev"], None)
        pattern = ScanPattern.parse(orders, causal_frames=segment)
        self.norms = nn.ModuleList(nn.LayerNorm(llm_dim, eps=NORM_EPS) for _ in range(depth))
        self.mixers = nn.ModuleList(
            Mamba(llm_dim, pattern=pattern, state_size=state_size, expand=expand) for _ in range(depth)
        )
        self.pool = Pool(stride=pool)

    def out_grid(self, grid: Grid) -> Grid:
        return strided(grid, self._stride)

    def forward(self, tokens: Tensor, grid: Grid) -> SoftTokens:
        x, joined = self._joined(tokens, grid)
        for norm, mixer in zip(self.norms, self.mixers):
            x = x + mixer(norm(x), joined)
        return self._pooled(x, joined, grid)

    @property
    def stream_frames(self) -> int | None:
        return self._stride[0] if self.causal else None

    def init_state(self, batch: int, grid: Grid) -> list[MambaState]:
        super().init_state(batch, grid)
        return [mixer.init_state(batch, grid) for mixer in self._mixers]

    def step(self, tokens: Tensor, grid: Grid, state: Sequence[MambaState]) -> tuple[SoftTokens, list[MambaState]]:
        x, joined = self._joined(tokens, grid)
        after = []
        for norm, mixer, before in zip(self.norms, self._mixers, state, strict=True):
            mixed, last = mixer.step(norm(x), joined, before)
            x = x + mixed
            after.append(last)
        return self._pooled(x, joined, grid), after

    @property
    def _mixers(self) -> list[Mamba]:
        return [mixer for mixer in self.mixers if isinstance(mixer, Mamba)]

    @property
    def _stride(self) -> tuple[int, int, int]:
        """Tokens that went in of one that comes out."""
        t, h, w = self.pool.stride
        return t * (1 if self.training else self.sample), h * self.downsample, w * self.downsample

    def _joined(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Soft tokens before they are mixed, and their grid."""
        side = self.downsample
        maps = tokens.unflatten(1, grid)
        maps = F.pad(maps, (0, 0, 0, -grid.w % side, 0, -grid.h % side))
        bricks = rearrange(maps, "b t (h i) (w j) d -> b (t h w) (i j d)", i=side, j=side)
        return self.proj(bricks), strided(grid, (1, side, side))

    def _pooled(self, x: Tensor, joined: Grid, grid: Grid) -> SoftTokens:
        pooled, small, _ = self.pool(x, joined)
        out, rows = self.out_grid(grid), brick_rows(grid, self._stride, len(x), x.device)
        if out.t < small.t:
            pooled = pooled.unflatten(1, small)[:, :: self.sample].flatten(1, 3)
        return SoftTokens(pooled, out, rows)
