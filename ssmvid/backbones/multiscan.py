"""MultiScan: Mamba-2 along several scan orders at once, a share of attention, and streaming."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ssmvid.backbones.base import Stream, grid_for
from ssmvid.backbones.isotropic import Isotropic
from ssmvid.blocks import Block, add_and_norm
from ssmvid.mixers import State, hybrid_mixers, hybrid_pattern
from ssmvid.scan import Grid, Layout


class MultiScan(Isotropic):
    """Tokens of a clip or an image, and logits from their mean.

    Every scanning layer shares its heads out over the orders of its pattern; attention layers look at whole frames.
    A clip may have any t, h and w: the spatial table is resized, and there is none in time, where the scans tell
    before from after. Registers are dropped after the last layer.

    With `causal_frames` the model is block-causal in time: frames are cut into segments, inside which every order
    goes its way, and which are read one after another. Then `step` gives, segment by segment, what the whole clip
    gives, with a state of constant size.

    Args:
        dim: width of a token.
        depth: layers.
        hybrid: their mixers, by letter, again and again over depth; see `ssmvid.mixers.hybrid_pattern`.
        orders: the scan orders of every scanning layer, or several such lists for `schedule='alternate'`.
        schedule: which list a scanning layer takes: 'same', 'alternate' or 'halves'.
        causal_frames: token frames (frames over the tubelet's) of a segment; None: every layer sees all of time.
        window: token frames that `W` layers see; None: one frame, or a segment.
        registers: tokens without a patch before each segment, or before the clip.
        num_classes: 0 for no classifier.
        num_frames: frames T of the clips it is meant for; 1: the patch weights are an image model's.
        img_size: H and W, or both, that the spatial table is made for.
        tubelet: frames, rows and columns of a token.
        in_chans: colour channels c.
        state_size: n of the Mamba-2 layers.
        expand: their inner width over `dim`.
        head_dim: channels of a head.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block; the others' grow linearly towards it.

    Raises:
        ValueError: sizes do not fit the tubelet or the heads, or an order, schedule or letter is unknown.

    Source: Dao & Gu 2024 (Mamba-2), arXiv:2405.21060; registers: Darcet et al. 2023, arXiv:2309.16588; a share of
        attention layers: Lieber et al. 2024 (Jamba), arXiv:2403.19887.
    """

    undecayed = ("pos_embed", "register_tokens")
    stem = r"^register_tokens|pos_embed|patch_embed"

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        hybrid: str = "MMMW",
        orders: Sequence[str] | Sequence[Sequence[str]] = (("thw", "thw+rev"), ("hwt", "hwt+rev"), ("wth", "wth+rev")),
        schedule: str = "alternate",
        causal_frames: int | None = None,
        window: int | None = None,
        registers: int = 4,
        num_classes: int = 400,
        num_frames: int = 8,
        img_size: int | Sequence[int] = 224,
        tubelet: Sequence[int] = (1, 16, 16),
        in_chans: int = 3,
        state_size: int = 64,
        expand: int = 2,
        head_dim: int = 64,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        letters = hybrid_pattern(hybrid, depth)
        window = (causal_frames or 1) if window is None else window
        mixers = hybrid_mixers(
            letters,
            dim,
            orders=orders,
            schedule=schedule,
            causal_frames=causal_frames,
            window=window,
            state_size=state_size,
            expand=expand,
            head_dim=head_dim,
        )
        super().__init__(
            mixers=mixers,
            dim=dim,
            num_classes=num_classes,
            num_frames=num_frames,
            img_size=img_size,
            tubelet=tubelet,
            in_chans=in_chans,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )
        self.causal_frames = causal_frames
        self.frames_together = causal_frames or (window if "W" in letters else 1)
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, dim)) if registers else None
        if self.register_tokens is not None:
            nn.init.trunc_normal_(self.register_tokens, std=0.02)

    def embed(self, clip: Tensor) -> Stream:
        tokens, grid = self.patch_embed(clip.unsqueeze(2) if clip.dim() == 4 else clip)
        tokens = (tokens.unflatten(1, (grid.t, -1)) + self.grid_positions(self.pos_embed, grid)).flatten(1, 2)
        if self.register_tokens is not None:
            registers = self.register_tokens.expand(len(tokens), -1, -1)
            segments = tokens.split(grid.h * grid.w * (self.causal_frames or grid.t), dim=1)
            tokens = torch.cat([part for segment in segments for part in (registers, segment)], dim=1)
        return Stream(tokens, None, grid)

    def settled(self, stream: Stream) -> Tensor:
        return self._without_registers(super().settled(stream), stream.grid)

    def finish(self, stream: Stream) -> Tensor:
        return self._without_registers(super().finish(stream), stream.grid)

    def forward_packed(self, clips: Sequence[Tensor]) -> tuple[Tensor, list[Grid]]:
        """Encode clips of any sizes in one row, none seeing another; no padding is computed.

        Args:
            clips: s clips (c, T, H, W), normalised; T, H, W multiples of the tubelet.

        Returns:
            tokens (1, l, dim) after the final norm, clip after clip, each in `thw` order; their grids.

        Raises:
            ValueError, TypeError: as `forward_tokens`; or there is no clip.
        """
        if not clips:
            raise ValueError(f"{type(self).__name__}: forward_packed needs at least one clip, got none")
        streams = [self.embed(clip[None]) for clip in clips]
        grids = [stream.grid for stream in streams]
        tokens, residual = torch.cat([stream.tokens for stream in streams], dim=1), None
        for layer in self.layers:
            tokens, residual = self.run(layer, tokens, residual, grids)
        normed = add_and_norm(self.drop_path(tokens), residual, self.norm_f)[0]
        return self._without_registers(normed, grids), grids

    def init_state(self, batch: int, img_size: int | Sequence[int] | None = None) -> list[State]:
        """The state before the first frame of `batch` streams, one a layer.

        Args:
            batch: streams that are read together.
            img_size: their H and W, or both; None: the model's.

        Raises:
            ValueError: a layer is not causal in time or its state would grow (which, and what to do), or the size does
                not fit the tubelet.
        """
        _, h, w = self.grid
        if img_size is not None:
            _, h, w = grid_for(type(self).__name__, self.patch_embed, self.patch_embed.tubelet[0], img_size)
        segment, registers = Grid(self.causal_frames or 1, h, w), 0
        if self.register_tokens is not None:
            registers = self.register_tokens.shape[1]
        states = []
        for i, layer in enumerate(self._blocks):
            try:
                states.append(layer.init_state(batch, segment, registers))
            except ValueError as error:
                raise ValueError(f"{type(self).__name__}: layers.{i}: {error}") from error
        return states

    def step(self, frames: Tensor, state: Sequence[State]) -> tuple[Tensor, list[State]]:
        """The next frames of a stream: what `forward_tokens` gives for them in the clip of all so far.

        Args:
            frames: (b, c, T, H, W), normalised: one segment (`causal_frames` times the tubelet's frames) or several.
                Only the stream's very last segment may have fewer frames.
            state: from `init_state`, or from the step before. It is not changed.

        Returns:
            tokens (b, l, dim) after the final norm, in `thw` order; the state after them, of the same size.

        Raises:
            ValueError, TypeError: as `forward_tokens` and `init_state`.
        """
        (tokens, residual, grid), states = self.embed(frames), []
        for layer, before in zip(self._blocks, state, strict=True):
            tokens, residual, after = layer.step(tokens, residual, grid, before)
            states.append(after)
        return self.finish(Stream(tokens, residual, grid)), states

    @property
    def _blocks(self) -> list[Block]:
        return cast(list[Block], list(self.layers))

    def _without_registers(self, tokens: Tensor, grid: Grid | Sequence[Grid]) -> Tensor:
        layout = Layout.of(grid, tokens.shape[1], self.causal_frames)
        if not layout.prefix:
            return tokens
        parts: list[Tensor] = []
        for (t, h, w), own in zip(layout.grids, tokens.split(layout.lengths, dim=1)):
            segments = own.split(layout.prefix + h * w * (self.causal_frames or t), dim=1)
            parts += [segment[:, layout.prefix :] for segment in segments]
        return torch.cat(parts, dim=1)

    def _make_tables(self) -> None:
        super()._make_tables()
        self.temporal_pos_embedding = None
