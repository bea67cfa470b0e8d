"""Attention over all tokens, over windows of time, or over the segments before: the attention layers of hybrids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ssmvid.mixers.state import KeyValues
from ssmvid.parallel import gather_keys, refuse_context
from ssmvid.scan import Grid, Layout

SHORT = 256  # tokens: segments shorter than this are attended to together


class Attention(nn.Module):
    """Multi-head softmax attention; positions come from the tokens and from the scans around it.

    | causal_frames | window | a token attends to |
    |---|---|---|
    | None | None | every token of its clip |
    | None | w | the tokens of its window of w frames and the prefix tokens, which attend to every token |
    | f | None | its segment and all before it: cannot stream, as its state would grow |
    | f | w | its segment and so many before it that they are w frames: a sliding window, segment by segment |

    Args:
        dim: width of a token.
        head_dim: channels p of a head.
        causal_frames: frames of a segment, where the layer is causal in time.
        window: frames, as above; with `causal_frames` a multiple of it, the same for the segment alone.

    Raises:
        ValueError: head_dim does not divide dim, or the window does not fit.

    Source: Vaswani et al. 2017, arXiv:1706.03762; sliding windows and tokens that attend to all: Beltagy et al. 2020
        (Longformer), arXiv:2004.05150.
    """

    def __init__(
        self, dim: int, *, head_dim: int = 64, causal_frames: int | None = None, window: int | None = None
    ) -> None:
        super().__init__()
        if dim % head_dim:
            raise ValueError(f"Attention: head_dim must divide dim = {dim}, got {head_dim}")
        unit = 1 if causal_frames is None else causal_frames
        if unit < 1 or (window is not None and (window < 1 or window % unit)):
            raise ValueError(
                f"Attention: causal_frames must be at least 1, and window a multiple of it, got {causal_frames} and "
                f"{window} frames"
            )
        self.head_dim = head_dim
        self.causal_frames = causal_frames
        self.window = window
        self.in_proj = nn.Linear(dim, 3 * dim, bias=False)
        self.out_proj = nn.Linear(dim, dim, bias=False)
        for layer in (self.in_proj, self.out_proj):
            nn.init.trunc_normal_(layer.weight, std=0.02)

    def forward(self, tokens: Tensor, grid: Grid | Sequence[Grid]) -> Tensor:
        """Mix tokens.

        Args:
            tokens: (b, l, dim): prefix tokens (class, registers), then the grid's; causal in time: so in each segment.
            grid: the grid they lie on, in `thw` order; several for clips packed one after another (b = 1).

        Returns:
            (b, l, dim).

        Raises:
            ValueError: the tokens do not fit the grid.
        """
        return self._mix(tokens, grid, None)[0]

    def init_state(self, batch: int, grid: Grid, prefix: int = 0) -> KeyValues:
        """The state before a stream's first segment: room for the keys and values of a window.

        Raises:
            ValueError: the mixer is not causal in time, or its state would grow.
        """
        self._refuse_stream()
        room = self._segments_before * (prefix + grid.length)
        weight, heads = self.out_proj.weight.detach(), self.out_proj.in_features // self.head_dim
        k, v = weight.new_zeros(2, batch, heads, room, self.head_dim)
        return KeyValues(k, v, torch.zeros(batch, room, dtype=torch.bool, device=weight.device))

    def step(self, tokens: Tensor, grid: Grid | Sequence[Grid], state: KeyValues) -> tuple[Tensor, KeyValues]:
        """`forward` on the next segments of a stream, on from `state`, and the state after them.

        Only the stream's very last segment may have fewer frames than the others.

        Raises:
            ValueError: the mixer is not causal in time, or its state would grow.
        """
        self._refuse_stream()
        y, after = self._mix(tokens, grid, state)
        return y, KeyValues(*(torch.cat(parts) for parts in zip(*after)))

    @property
    def _segments_before(self) -> int:
        """Segments in the window, without the own one."""
        return (self.window or 0) // (self.causal_frames or 1) - 1

    def _refuse_stream(self) -> None:
        if self.causal_frames is None or self.window is None:
            what = "every token" if self.causal_frames is None else "all segments before"
            raise ValueError(
                f"Attention: cannot stream, as it attends to {what}: set causal_frames and a window, letter W for A"
            )

    def _mix(
        self, tokens: Tensor, grid: Grid | Sequence[Grid], state: KeyValues | None
    ) -> tuple[Tensor, list[KeyValues]]:
        """The mixed tokens; where there was a state, the one after it, grid by grid."""
        layout = Layout.of(grid, tokens.shape[1], self.causal_frames)
        qkv = self.in_proj(tokens).unflatten(-1, (3, -1, self.head_dim)).permute(2, 0, 3, 1, 4)
        if state is not None:
            refuse_context("a stream of Attention")
        earlier, later = gather_keys(qkv[1:], layout, self.window)  # on other ranks
        outputs, states = [], []
        for i, (one, (q, k, v)) in enumerate(zip(layout.grids, qkv.split(layout.lengths, dim=3))):
            frame = one.h * one.w  # q, k, v are (b, heads, l of the grid, p)
            if self.causal_frames is None:
                if earlier is not None or later is not None:
                    k, v = _joined(k, v, earlier if i == 0 else None, later if i == len(layout.grids) - 1 else None)
                outputs.append(_in_windows(q, k, v, layout.prefix, frame * (self.window or 0)))
                continue
            segment = layout.prefix + frame * self.causal_frames
            room = None if self.window is None else self._segments_before
            past = None
            if state is not None:
                past = KeyValues(*(t[i : i + 1] for t in state)) if layout.packed else state
                _check_room(past, self._segments_before * segment)
            elif earlier is not None and i == 0:
                past = KeyValues(earlier[0], earlier[1], earlier.new_ones(len(k), earlier.shape[3], dtype=torch.bool))
            y, after = _in_segments(q, k, v, past, segment, room)
            outputs.append(y)
            states.append(after)
        y = torch.cat(outputs, dim=2).transpose(1, 2).flatten(2)
        return self.out_proj(y), states


def _joined(k: Tensor, v: Tensor, earlier: Tensor | None, later: Tensor | None) -> Tensor:
    """Keys and values, (2, b, heads, l, p), between those of the same clip on other ranks."""
    parts = (earlier, torch.stack([k, v]), later)
    return torch.cat([part for part in parts if part is not None], dim=3)


def _in_windows(q: Tensor, k: Tensor, v: Tensor, prefix: int, width: int) -> Tensor:
    """Attention inside windows of `width` tokens behind the prefix, which all of them see; 0: everywhere."""
    if not width or not q.numel():
        return F.scaled_dot_product_attention(q, k, v)
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # (b, l, heads, p)
    whole = q.shape[1] - (q.shape[1] - prefix) % width
    parts = []
    if prefix:
        parts.append(_attend(q[:, :prefix], k, v))
    for start, stop in ((prefix, whole), (whole, q.shape[1])):
        if start < stop:
            size = min(width, stop - start)
            own = [t[:, start:stop].unflatten(1, (-1, size)) for t in (q, k, v)]  # (b, windows, size, heads, p)
            if prefix:
                common = (t[:, None, :prefix].expand(-1, own[0].shape[1], -1, -1, -1) for t in (k, v))
                own[1:] = (torch.cat(pair, dim=2) for pair in zip(common, own[1:]))
            y = _attend(*(t.flatten(0, 1) for t in own))
            parts.append(y.unflatten(0, (len(q), -1)).flatten(1, 2))
    return torch.cat(parts, dim=1).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As `scaled_dot_product_attention`, of (b, l, heads, p)."""
    return F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)


def _in_segments(
    q: Tensor, k: Tensor, v: Tensor, past: KeyValues | None, segment: int, room: int | None
) -> tuple[Tensor, KeyValues]:
    """Attention to the own segment of so many tokens and to `room` segments before it, None: to all before it."""
    valid = torch.ones(len(k), k.shape[2], dtype=torch.bool, device=k.device)
    held = 0
    if past is not None:
        held = past.k.shape[2]
        k, v = torch.cat([past.k, k], dim=2), torch.cat([past.v, v], dim=2)
        valid = torch.cat([past.valid, valid], dim=1)
    # Several segments a call where the window is long, of which half is used, whatever its length; or where they are
    # short, so that there are not as many calls as tokens.
    size, parts = segment * max(1, SHORT // segment if room is None else room), []
    starts = range(0, q.shape[2], size)
    spans = [
        (0 if room is None else max(0, held + start - room * segment), held + min(start + size, q.shape[2]))
        for start in starts
    ]
    windows = zip(starts, spans, q.split(size, dim=2), _Spans.apply(k, spans), _Spans.apply(v, spans))
    for start, (low, high), own, keys, values in windows:
        mask = None
        if size > segment:
            at = torch.arange(low, high, device=q.device) // segment
            gap = at[held + start - low :, None] - at
            mask = gap >= 0 if room is None else (gap >= 0) & (gap <= room)
        if low < held:  # before the stream is a window old
            filled = valid[:, None, None, low:high]
            mask = filled if mask is None else mask & filled
        parts.append(F.scaled_dot_product_attention(own, keys, values, attn_mask=mask))
    y = torch.cat(parts, dim=2) if parts else torch.empty_like(q)
    kept = k.shape[2] - held
    return y, KeyValues(k[:, :, kept:], v[:, :, kept:], valid[:, kept:])


class _Spans(torch.autograd.Function):
    """Overlapping stretches of tokens (b, heads, l, p), as views.

    A slice's own gradient is of all l: those of l / size slices would take l^2.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, spans: Sequence[tuple[int, int]]) -> tuple[Tensor, ...]:
        ctx.shape, ctx.spans = tokens.shape, spans
        return tuple(tokens[:, :, low:high] for low, high in spans)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total = grads[0].new_zeros(ctx.shape)
        for (low, high), grad in zip(ctx.spans, grads):
            total[:, :, low:high] += grad
        return total, None


def _check_room(past: KeyValues, expected: int) -> None:
    if past.k.shape[2] != expected:
        raise ValueError(
            f"Attention: the state holds {past.k.shape[2]} tokens, the window {expected}: "
            "make it with init_state for a segment of this grid and prefix"
        )
