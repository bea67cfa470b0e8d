"""Frames in, soft tokens out: a backbone and a connector, for whole clips, clips of any sizes, files, and streams."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ssmvid.backbones import Backbone, MultiScan
from ssmvid.lmm.soft import Connector, SoftTokens, cannot_stream, strided
from ssmvid.scan import Grid


class VisualTokens(NamedTuple):
    """`tokens` (b, m, llm_dim); `positions` (b, m, 3): the second (or frame), row and column at which what each shows
    begins, rows and columns counted in the backbone's tokens; `mask` (b, m): False where a shorter clip is padded.
    """

    tokens: Tensor
    positions: Tensor
    mask: Tensor


class EncoderState(NamedTuple):
    """Between two pushes: the states of backbone and connector, frames so far, and whether a short push ended them."""

    backbone: list[Any]
    connector: Any
    frames: int
    ended: bool


class VisualTokenEncoder(nn.Module):
    """What a language model reads of a video: the backbone's tokens through the connector.

    Args:
        backbone: frames to tokens; its classifier is not used.
        connector: its tokens to soft tokens; made for the backbone's `num_features`.
        clip_frames: frames that go through the backbone together, which then sees no further; the connector sees all.
            None: all of a clip.

    Raises:
        ValueError: `clip_frames` is no multiple of the backbone's tubelet.

    >>> encoder = VisualTokenEncoder(backbone, Storm(dim=backbone.num_features, llm_dim=896))
    >>> tokens, positions, mask = encoder(frames)   # (b, c, T, H, W)
    """

    def __init__(self, backbone: Backbone, connector: Connector, *, clip_frames: int | None = None) -> None:
        super().__init__()
        step = backbone.patch_embed.tubelet[0]
        if clip_frames is not None and (clip_frames < 1 or clip_frames % step):
            raise ValueError(
                f"VisualTokenEncoder: clip_frames must be a multiple of the backbone's tubelet ({step} frames), "
                f"got {clip_frames}"
            )
        self.backbone = backbone
        self.connector = connector
        self.clip_frames = clip_frames

    def grid(self, T: int, H: int, W: int) -> Grid:
        """The backbone's grid for a clip of T frames of H x W pixels.

        Raises:
            ValueError: the tubelet does not fit.
        """
        embed = self.backbone.patch_embed
        grid = embed.grid((T, H, W))
        if grid is None:
            raise ValueError(f"VisualTokenEncoder: T, H, W must be {embed.fitting}, got {(T, H, W)}: resize or crop")
        reduction = self.backbone.feature_info[-1]["reduction"]
        assert isinstance(reduction, int)
        side = reduction // embed.stride[1]
        return strided(grid, (1, side, side))

    def num_tokens(self, T: int, H: int, W: int) -> int:
        """Soft tokens of such a clip; the most there can be where the connector is not `exact`."""
        return self.connector.num_tokens(self.grid(T, H, W))

    def forward(self, clips: Tensor | Sequence[Tensor], times: Tensor | Sequence[Tensor] | None = None) -> VisualTokens:
        """Encode clips or images.

        Args:
            clips: (b, c, T, H, W), images (b, c, H, W), or b clips (c, T, H, W) of any sizes; normalised. Those of any
                sizes go through the backbone in one row where it can pack them and `clip_frames` is None.
            times: seconds of each frame, (b, T) or b of (T,); None: positions have frame numbers.

        Raises:
            ValueError, TypeError: a clip does not fit the backbone or the connector.
        """
        if isinstance(clips, Tensor):
            clips = clips.unsqueeze(2) if clips.dim() == 4 else clips
            return self.encode([(clips, times if times is None else torch.as_tensor(times))])
        if not clips:
            raise ValueError("VisualTokenEncoder: expected at least one clip, got none")
        each = [None] * len(clips) if times is None else [time[None] for time in times]
        if self.clip_frames is not None or not isinstance(self.backbone, MultiScan):
            return _joined([self.encode([(clip[None], time)]) for clip, time in zip(clips, each, strict=True)])
        packed, grids = self.backbone.forward_packed(clips)
        rows = packed.split([grid.length for grid in grids], dim=1)
        return _joined([self._connected(row, grid, time) for row, grid, time in zip(rows, grids, each, strict=True)])

    def encode(self, parts: Iterable[tuple[Tensor, Tensor | None]]) -> VisualTokens:
        """Encode clips whose frames come in parts, such as from a file: of past parts only the tokens are held.

        Args:
            parts: frames (b, c, T, H, W), normalised, and their seconds (b, T) or None, in order; T a multiple of
                `clip_frames` for all but the last part.

        Raises:
            ValueError, TypeError: as `forward`; or there is no part, or parts differ in H or W.
        """
        tokens, grids, seconds, done = [], [], [], 0
        for frames, times in parts:
            if times is None:
                times = _counted(frames, done)
            done += frames.shape[2]
            seconds.append(times)
            for clip in frames.split(self.clip_frames or max(1, frames.shape[2]), dim=2):
                own, grid = self.backbone.forward_tokens(clip)
                tokens.append(own)
                grids.append(grid)
        if len({grid[1:] for grid in grids}) != 1:
            raise ValueError(f"VisualTokenEncoder: expected parts of one H and W, got grids {grids}")
        grid = grids[0]._replace(t=sum(grid.t for grid in grids))
        return self._connected(torch.cat(tokens, dim=1), grid, torch.cat(seconds, dim=1))

    @property
    def stream_frames(self) -> int:
        """Frames a push takes, or a multiple of them.

        Raises:
            ValueError: backbone or connector cannot stream.
        """
        if not isinstance(self.backbone, MultiScan) or self.backbone.causal_frames is None:
            raise ValueError(
                f"VisualTokenEncoder: a {type(self.backbone).__name__} that sees all of time cannot stream: take a "
                "multiscan model with causal_frames"
            )
        own = self.connector.stream_frames
        if own is None:
            raise cannot_stream(self.connector)
        return math.lcm(self.backbone.causal_frames, own) * self.backbone.patch_embed.tubelet[0]

    def init_state(self, batch: int, img_size: tuple[int, int] | None = None) -> EncoderState:
        """The state before the first push of `batch` streams of H x W pixels; None: the backbone's.

        Raises:
            ValueError: backbone or connector cannot stream, or the size does not fit.
        """
        frames = self.stream_frames
        assert isinstance(self.backbone, MultiScan)
        grid = self.backbone.grid if img_size is None else self.grid(frames, *img_size)
        return EncoderState(self.backbone.init_state(batch, img_size), self.connector.init_state(batch, grid), 0, False)

    def push(
        self, frames: Tensor, state: EncoderState, times: Tensor | None = None
    ) -> tuple[VisualTokens, EncoderState]:
        """The next frames of a stream: what `forward` gives for them in the clip of all so far.

        Args:
            frames: (b, c, T, H, W), normalised; T a multiple of `stream_frames`, but for the stream's last push.
            state: from `init_state`, or the push before. It is not changed.
            times: seconds of each frame (b, T); None: positions have frame numbers, counted from the first push.

        Returns:
            Their soft tokens, and the state after them, of the same size.

        Raises:
            ValueError, TypeError: as `forward` and `init_state`; or a shorter push came before.
        """
        step = self.stream_frames
        if state.ended:
            raise ValueError(
                f"VisualTokenEncoder: {state.frames} frames were pushed, no multiple of {step}, which ended the "
                f"stream: push multiples of {step} frames, or begin anew by init_state"
            )
        assert isinstance(self.backbone, MultiScan)
        tokens, backbone = self.backbone.step(frames, state.backbone)
        grid = self.grid(*frames.shape[2:])
        soft, connector = self.connector.step(tokens, grid, state.connector)
        times = _counted(frames, state.frames) if times is None else times
        done = state.frames + frames.shape[2]
        return self._placed(soft, grid, times), EncoderState(backbone, connector, done, done % step != 0)

    def _connected(self, tokens: Tensor, grid: Grid, times: Tensor | None) -> VisualTokens:
        if times is None:
            frames = grid.t * self.backbone.patch_embed.tubelet[0]
            times = torch.arange(frames, device=tokens.device).expand(len(tokens), -1)
        if self.connector.exact:
            return self._placed(self.connector(tokens, grid), grid, times)
        each = zip(tokens.split(1), times.split(1))
        return _joined([self._placed(self.connector(own, grid), grid, time) for own, time in each])

    def _placed(self, soft: SoftTokens, grid: Grid, times: Tensor) -> VisualTokens:
        frame = soft.rows // (grid.h * grid.w)
        starts = times.to(soft.rows.device)[:, :: self.backbone.patch_embed.tubelet[0]]
        if starts.shape != (len(frame), grid.t):
            raise ValueError(
                f"VisualTokenEncoder: times must be (b, T), one a frame, for {len(frame)} clips of {grid.t} token "
                f"frames, got {tuple(times.shape)}"
            )
        row, column = soft.rows // grid.w % grid.h, soft.rows % grid.w
        positions = torch.stack([starts.gather(1, frame).float(), row.float(), column.float()], dim=-1)
        return VisualTokens(soft.tokens, positions, torch.ones_like(soft.rows, dtype=torch.bool))


def _counted(frames: Tensor, start: int) -> Tensor:
    """Frame numbers (b, T) of frames (b, c, T, H, W)."""
    return torch.arange(start, start + frames.shape[2], device=frames.device).expand(len(frames), -1)


def _joined(clips: Sequence[VisualTokens]) -> VisualTokens:
    """Clips of different length as one batch, padded with zeros at their ends."""
    tokens, positions, mask = (
        pad_sequence([own for clip in clips for own in clip[i]], batch_first=True) for i in range(3)
    )
    return VisualTokens(tokens, positions, mask)
