"""MambaMia: anchors that gather the patches before them, then frames that are let through by accumulated step sizes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ssmvid.blocks import NORM_EPS
from ssmvid.layers import at_least_fp32
from ssmvid.lmm.mlp import projector
from ssmvid.lmm.soft import Connector, SoftTokens
from ssmvid.mixers import Mamba2
from ssmvid.mixers.initial import fresh_dt_bias_
from ssmvid.scan import Grid, ScanPattern
from ssmvid_kernels.ssd import ssd_scan


class GatedPatches(nn.Module):
    """Anchor q becomes (1 - g) q + g sum_i alpha_i x_i over its patches x; alpha = softmax(W q + b), g = sigmoid(V q).

    Args:
        dim: width of a token.
        patches: of an anchor.
    """

    def __init__(self, dim: int, patches: int) -> None:
        super().__init__()
        self.alpha = nn.Linear(dim, patches)
        self.gate = nn.Linear(dim, 1, bias=False)

    def forward(self, anchors: Tensor, patches: Tensor) -> Tensor:
        """Anchors (..., dim) and their patches (..., patches, dim) to anchors."""
        gathered = torch.einsum("...i,...id->...d", self.alpha(anchors).softmax(-1), patches)
        return torch.lerp(anchors, gathered, torch.sigmoid(self.gate(anchors)))


class TimeAggregator(nn.Module):
    """A scan over frames with one step size dt a frame; a frame passes when dt has summed up to a threshold.

    Args:
        width: of a frame: all its anchors side by side.

    Source: Kim & Seo 2025 (MambaMia), arXiv:2506.13564, "time axis aggregator". Its own scan has sizes that the
        sources at hand do not state; here it is SSD's with B = C = D = 1, one A, and dt = softplus(W f + b).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dt_proj = nn.Linear(width, 1, bias=False)
        self.dt_bias = nn.Parameter(torch.empty(1))
        self.A_log = nn.Parameter(torch.zeros(1))
        nn.init.trunc_normal_(self.dt_proj.weight, std=0.02)
        fresh_dt_bias_(self.dt_bias)

    def no_weight_decay(self) -> set[str]:
        """What sets decay and step size."""
        return {"A_log", "dt_bias"}

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (b, t, anchors, d) with what came before them added, and dt (b, t)."""
        dt = F.softplus(at_least_fp32(self.dt_proj(frames.flatten(2))) + self.dt_bias)  # (b, t, 1)
        heads = frames.shape[2]
        ones = frames.new_ones(*frames.shape[:2], 1, 1)
        A = -torch.exp(at_least_fp32(self.A_log)).expand(heads)
        y = ssd_scan(frames, dt.expand(-1, -1, heads), A, ones, ones, A.new_ones(heads)).y
        return y, dt.squeeze(-1)


class MambaMia(Connector):
    """Anchors, one after each `patches` tokens, in layers of Mamba-2 and gated patches; some of their frames; an MLP.

    `num_tokens` is the most there can be: a clip of more than `min_frames` frames decides itself how many pass, its
    last frame always among them. The scans share their heads out over both directions.

    Args:
        dim: width of a token.
        llm_dim: width of a soft token.
        frame: tokens of a frame; a clip's frames must have as many.
        patches: tokens of an anchor, which divide `frame`; the paper has those of one row.
        depth: layers.
        threshold: sum of dt that lets a frame pass; None: all pass, and `num_tokens` is exact.
        min_frames: a clip of so many, or fewer, keeps all.
        state_size: n.
        head_dim: channels of a head.

    Raises:
        ValueError: `patches` does not divide `frame`, or a clip has frames of another size or comes in a batch.

    Source: Kim & Seo 2025 (MambaMia), arXiv:2506.13564.
    """

    def __init__(
        self,
        *,
        dim: int,
        llm_dim: int,
        frame: int,
        patches: int,
        depth: int = 1,
        threshold: float | None = 0.6,
        min_frames: int = 180,
        state_size: int = 128,
        head_dim: int = 64,
    ) -> None:
        super().__init__()
        if patches < 1 or frame % patches:
            raise ValueError(f"MambaMia: patches must divide the {frame} tokens of a frame, got {patches}")
        self.llm_dim = llm_dim
        self.frame = frame
        self.patches = patches
        self.threshold = threshold
        self.min_frames = min_frames
        self.exact = threshold is None
        self.anchor = nn.Parameter(torch.empty(dim))
        nn.init.trunc_normal_(self.anchor, std=0.02)
        pattern = ScanPattern.parse(["thw", "thw+rev"])
        self.norms = nn.ModuleList(nn.RMSNorm(dim, eps=NORM_EPS) for _ in range(depth))
        self.mixers = nn.ModuleList(
            Mamba2(dim, pattern=pattern, state_size=state_size, head_dim=head_dim) for _ in range(depth)
        )
        self.gates = nn.ModuleList(GatedPatches(dim, patches) for _ in range(depth))
        self.time = TimeAggregator(frame // patches * dim)
        self.projector = projector(dim, llm_dim)

    def no_weight_decay(self) -> set[str]:
        """The anchor."""
        return {"anchor"}

    def out_grid(self, grid: Grid) -> Grid:
        return Grid(grid.t, 1, self.frame // self.patches)

    def forward(self, tokens: Tensor, grid: Grid) -> SoftTokens:
        if grid.h * grid.w != self.frame:
            raise ValueError(
                f"MambaMia: frames must have {self.frame} tokens, got {grid.h * grid.w}: resize them, or make it with "
                "another frame"
            )
        dynamic = self.threshold is not None and grid.t > self.min_frames
        if dynamic and len(tokens) > 1:
            raise ValueError(
                f"MambaMia: each clip keeps its own number of frames, got b = {len(tokens)}: give them one by one, as "
                "VisualTokenEncoder does, or set threshold=None"
            )
        frames, dt = self.time(self._anchors(tokens, grid))
        every = torch.arange(grid.t, device=tokens.device)
        kept = every
        if dynamic and self.threshold is not None:
            kept = every.new_tensor(passing(dt[0].tolist(), self.threshold))
        out = self.out_grid(grid)._replace(t=len(kept))
        places = self.patches * torch.arange(out.w, device=tokens.device)
        rows = (kept[:, None] * self.frame + places).flatten().expand(len(tokens), -1)
        return SoftTokens(self.projector(frames[:, kept].flatten(1, 2)), out, rows)

    def _anchors(self, tokens: Tensor, grid: Grid) -> Tensor:
        """(b, t, anchors of a frame, dim)."""
        patches = tokens.unflatten(1, (-1, self.patches))  # (b, groups, patches, dim)
        x = torch.cat([patches, self.anchor.expand(*patches.shape[:2], 1, -1)], dim=2)
        for norm, mixer, gate in zip(self.norms, self.mixers, self.gates):
            rows = x.flatten(1, 2)
            x = (rows + mixer(norm(rows), Grid(1, 1, rows.shape[1]))).unflatten(1, x.shape[1:3])
            anchors = gate(x[:, :, -1], x[:, :, :-1])
            x = torch.cat([x[:, :, :-1], anchors.unsqueeze(2)], dim=2)
        return rearrange(x[:, :, -1], "b (t g) d -> b t g d", t=grid.t)


def passing(dt: Iterable[float], threshold: float) -> list[int]:
    """The frames at which the sum of dt since the last of them reaches the threshold, and the last frame."""
    kept, total, last = [], 0.0, -1
    for last, step in enumerate(dt):
        total += step
        if total >= threshold:
            kept.append(last)
            total = 0.0
    return kept if kept[-1:] == [last] else [*kept, last]
