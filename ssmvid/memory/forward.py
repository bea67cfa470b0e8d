"""A backbone run over a long clip, cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.graph import save_on_cpu

from ssmvid.backbones.base import Backbone, Stream
from ssmvid.backbones.multiscan import MultiScan
from ssmvid.blocks import Block
from ssmvid.layers import own_storage, recompute, token_chunks
from ssmvid.memory.cells import Cells
from ssmvid.memory.chunks import Chunk, cut, entering, refuse_chunks
from ssmvid.mixers import State
from ssmvid.scan import Grid

Read = Callable[[Tensor, slice], Tensor]
Grids = Any  # a Grid, or those of packed clips


def run(
    model: Backbone, clips: Tensor | Sequence[Tensor], read: Read, *, cells: Cells, offload: bool = False
) -> Tensor:
    """The sum over chunks of what `read` makes of their features; its backward recomputes cell by cell.

    Chunk by chunk a clip is embedded, goes through all layers and is read: with `cells.segments` nothing of the full
    length is held but the boundaries between groups of layers. `read` gives losses, or sums that a mean is made of.
    Stochastic depth draws anew for every chunk.

    Args:
        model: any backbone where chunks are whole clips; else a `MultiScan` that streams.
        clips: (b, c, T, H, W); or clips (c, T, H, W) to pack in a row, for a `MultiScan`.
        read: `read(features, at)` of features (b, rows, dim) after the final norm, as `forward_features`; `at` their
            rows among those of all clips, `slice(0, None)` for all. What it returns has one shape for all chunks.
        cells: the cut, from `plan` or `Cells`.
        offload: boundaries and states wait for the backward in the host's memory.

    Raises:
        ValueError: the model cannot go chunk by chunk (what to use instead), or the clips do not fit it.

    Source: Lee et al. 2024 (Video-Ma2mba), arXiv:2411.19460, algorithm 2; nested: Chen et al. 2016, arXiv:1604.06174.
    """
    if cells.segments is not None:
        refuse_chunks(model)
    parts: list[Tensor] = []
    states: list[State] = []
    for chunk in cut(model, clips, cells.segments):
        if cells.segments is not None:
            states = entering(cast(MultiScan, model), chunk, states)
        part, states = _through(_Pass(model, chunk, read, cells, offload), states)
        parts.append(part)
    return torch.stack(parts).sum(0)


@dataclass(frozen=True)
class _Pass:
    """One chunk on its way through all layers."""

    model: Backbone
    chunk: Chunk
    read: Read
    cells: Cells
    offload: bool


def _through(this: _Pass, states: list[State]) -> tuple[Tensor, list[State]]:
    """What is read of a chunk, and the state of each layer after its last clip."""
    flow: Sequence[Tensor] = ()
    grid: Grids = None
    after: list[State] = []
    for group in this.cells.groups(len(this.model.layers)):
        before = states[group.start : group.stop]
        cell = _Cell(this, group, grid, len(flow), before)
        tensors = (*flow, *chain.from_iterable(before))
        if this.cells.layers is None:
            output = cell(*tensors)
        else:
            with save_on_cpu(pin_memory=torch.cuda.is_available()) if this.offload else nullcontext():
                output = recompute(cell, *tensors)
        flow, grid = output[: len(output) - cell.carried], cell.grid
        after += cell.states_of(output[len(flow) :])
    return flow[0], after


class _Cell:
    """A group of layers on a chunk: tokens, residual and states in and out. The first group embeds, the last reads.

    It takes tensors only, one by one: so autograd holds each, and may move it. The grid goes beside them.
    """

    def __init__(self, this: _Pass, group: range, grid: Grids, flowing: int, states: Sequence[State]) -> None:
        self.this, self.group, self.grid_before, self.flowing = this, group, grid, flowing
        self.kinds: list[tuple[Any, int]] = [(type(state), len(state)) for state in states]
        self.carried = sum(size for _, size in self.kinds)

    def states_of(self, tensors: Sequence[Tensor]) -> list[State]:
        """The states of the group from their tensors in a row."""
        rest = iter(tensors)
        return [kind(*islice(rest, size)) if size else () for kind, size in self.kinds]

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        model, chunk = self.this.model, self.this.chunk
        stream = _stream(tensors[: self.flowing], self.grid_before) if self.flowing else _embed(model, chunk)
        states, after = self.states_of(tensors[self.flowing :]), []
        for place, index in enumerate(self.group):
            if states:
                tokens, residual, state = cast(Block, model.layers[index]).step(*stream, states[place])
                stream = Stream(tokens, residual, stream.grid)
                after += [own_storage(tensor[-len(chunk.frames[0]) :]) for tensor in state]  # of the last clip
            elif self.this.cells.nested:
                stream = _recomputed_layer(model, index, stream, self.this.cells.tokens)
            else:
                stream = model.advance(index, stream)
        self.grid = stream.grid
        if self.group.stop == len(model.layers):
            return self.this.read(model.finish(stream), chunk.at), *after
        return *_flow(stream), *after


def _embed(model: Backbone, chunk: Chunk) -> Stream:
    if not chunk.packed:
        return model.embed(chunk.frames[0])
    streams = [model.embed(frames) for frames in chunk.frames]
    grids: Grids = [stream.grid for stream in streams]
    return Stream(torch.cat([stream.tokens for stream in streams], dim=1), None, grids)


def _recomputed_layer(model: Backbone, index: int, stream: Stream, tokens: int | None) -> Stream:
    grids: list[Grid] = []

    def layer(*flow: Tensor) -> tuple[Tensor, ...]:
        with token_chunks(tokens):
            after = model.advance(index, _stream(flow, stream.grid))
        grids.append(after.grid)
        return _flow(after)

    return _stream(recompute(layer, *_flow(stream)), grids[0])


def _flow(stream: Stream) -> tuple[Tensor, ...]:
    return (stream.tokens,) if stream.residual is None else (stream.tokens, stream.residual)


def _stream(flow: Sequence[Tensor], grid: Grids) -> Stream:
    return Stream(flow[0], flow[1] if len(flow) > 1 else None, grid)
