"""Clips cut into chunks of time, and what is carried from one chunk to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor

from ssmvid.backbones.base import Backbone
from ssmvid.backbones.multiscan import MultiScan
from ssmvid.memory.costs import frames_of_segment
from ssmvid.mixers import State
from ssmvid.parallel import refuse_context

REMEDY = (
    "use policy 'token_chunks', which recomputes layer by layer, inside one chunk by chunk, and covers every stack, "
    "or a MultiScan with causal_frames and no letter A"
)


@dataclass(frozen=True)
class Chunk:
    """Stretches of clips that are read together.

    Args:
        frames: of each stretch, (b, c, T, H, W).
        at: the rows of the chunk among the features of all clips.
        on: whether the first stretch goes on with a clip that the chunk before did not end.
        packed: whether the stretches are packed.
    """

    frames: list[Tensor]
    at: slice
    on: bool
    packed: bool


def refuse_chunks(model: Backbone) -> None:
    """Raise unless the model can go chunk by chunk; say what to use instead."""
    refuse_context("memory policy 'multi_axis'")
    what = "memory: multi_axis needs a model that is causal in time"
    if not isinstance(model, MultiScan):
        raise ValueError(f"{what}, {type(model).__name__} is not: {REMEDY}")
    try:
        model.init_state(1)
    except ValueError as error:
        raise ValueError(f"{what}: {error}; or {REMEDY}") from error


def cut(model: Backbone, clips: Tensor | Sequence[Tensor], segments: int | None) -> list[Chunk]:
    """The chunks of the clips, in order; a chunk holds so many segments, of several clips where they are short.

    Raises:
        ValueError: there is no frame, or clips packed in chunks differ in H or W.
    """
    packed = not isinstance(clips, Tensor)
    whole = [clip[None] for clip in clips] if packed else [cast(Tensor, clips)]
    if not sum(clip.shape[2] for clip in whole):
        raise ValueError("memory: expected clips of at least one frame, got none")
    if segments is None:
        return [Chunk(whole, slice(0, None), False, packed)]
    if len({clip.shape[3:] for clip in whole}) > 1:
        sizes = [tuple(clip.shape[2:]) for clip in whole]
        raise ValueError(f"memory: clips packed in chunks must have one H and W, got T, H, W of {sizes}")
    unit = frames_of_segment(model)
    chunks: list[tuple[list[Tensor], bool]] = []
    room = 0  # segments
    for clip in whole:
        start = 0
        while start < clip.shape[2]:
            if not room:
                chunks.append(([], start > 0))
                room = segments
            part = clip[:, :, start : start + room * unit]
            chunks[-1][0].append(part)
            room -= -(-part.shape[2] // unit)
            start += part.shape[2]
    borders = [0]
    for frames, _ in chunks:
        borders.append(borders[-1] + sum(cast(Any, model.patch_embed.check(part)).length for part in frames))
    return [
        Chunk(frames, slice(*rows), on, packed) for (frames, on), rows in zip(chunks, pairwise(borders), strict=True)
    ]


def entering(model: MultiScan, chunk: Chunk, carried: list[State]) -> list[State]:
    """The state before each layer: the carried one where the chunk goes on with a clip, a fresh one for all others."""
    first, others = chunk.frames[0], len(chunk.frames) - 1
    fresh = model.init_state(len(first), first.shape[3:])
    return [
        cast(State, type(new)(*(torch.cat([head, *[zero] * others]) for head, zero in zip(old, new)))) if new else ()
        for old, new in zip(carried if chunk.on else fresh, fresh)
    ]
