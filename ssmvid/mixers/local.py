"""LocalMamba's mixer: paths through windows beside those through rows and columns, each weighted channel by channel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmvid.mixers.mamba import Mamba
from ssmvid.mixers.merge import merge_paths
from ssmvid.mixers.state import MambaState
from ssmvid.scan import Grid, ScanPattern, padded_walks

REDUCTION = 8


class ChannelAttention(nn.Module):
    """A factor in (0, 1) for each channel, from the mean over all tokens.

    Args:
        dim: channels.

    Source: Huang et al. 2024 (LocalMamba), arXiv:2403.09338, its released code, which has no branch over positions.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.global_reduce = nn.Linear(dim, dim // REDUCTION)
        self.channel_select = nn.Linear(dim // REDUCTION, dim)
        for linear in (self.global_reduce, self.channel_select):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Factors (..., 1, dim) of tokens (..., l, dim)."""
        mean = self.norm(x).mean(-2, keepdim=True)
        return torch.sigmoid(self.channel_select(F.gelu(self.global_reduce(mean))))


class LocalMamba(Mamba):
    """`Mamba` with padded windows, a gate on each path, and channel attention over each before they are merged.

    Args:
        dim, pattern, state_size, expand: as of `Mamba`.
        search: merge normed paths by learnt weights, whose largest say which orders to keep.

    Raises:
        ValueError: the pattern holds no order, or is causal in time.

    Source: Huang et al. 2024 (LocalMamba), arXiv:2403.09338, and its released code (Apache-2.0).
    """

    def __init__(
        self, dim: int, *, pattern: ScanPattern, state_size: int = 16, expand: int = 2, search: bool = False
    ) -> None:
        if pattern.causal_frames is not None:
            raise ValueError(
                f"LocalMamba: its channel attention averages over all frames, so it is not causal in time: "
                f"causal_frames must be None, got {pattern.causal_frames}"
            )
        super().__init__(dim, pattern=pattern, state_size=state_size, expand=expand)
        self.attn = ChannelAttention(expand * dim)
        self.weights = nn.Parameter(1e-3 * torch.randn(len(self.paths), 1, 1, 1)) if search else None

    def _mix(self, tokens: Tensor, grid: Grid | Sequence[Grid], state: MambaState | None) -> tuple[Tensor, MambaState]:
        if not isinstance(grid, Grid):
            raise ValueError(f"LocalMamba: packed clips would share channel attention, got {len(grid)} grids: pass one")
        length = tokens.shape[1]
        walks, padding = padded_walks(self.pattern, grid, prefix=length - grid.length)
        x, z = self.in_proj(tokens).chunk(2, dim=-1)  # (b, l, inner) each
        x = F.pad(x, (0, 0, 0, padding)) if padding else x
        y, after = self._scan(x, walks, z=None, merge=None)  # (b, k, l + padding, inner)
        y = y[:, :, :length] * F.silu(z).unsqueeze(1)
        y = y * self.attn(y)
        if self.weights is not None:
            y = F.layer_norm(y, y.shape[-1:]) * self.weights.softmax(0).squeeze(-1)
        return self.out_proj(merge_paths(y, tokens, self.pattern.merge, self.path_gate)), after
