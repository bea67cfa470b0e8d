"""Bundles: paths whose chunks hold the same rows, so that one program can take a chunk for all of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..walk import Walk


class Path(NamedTuple):
    """What of a walk decides with which others it shares chunks: numbers and strings only."""

    path: tuple[object, ...]
    backwards: tuple[object, ...]
    bricks: tuple[str, tuple[int, ...]] | None
    chunks: tuple[int, ...] | None


Chunk = tuple[int, int, int]  # where it stands along its path, its first step, its end


def bundle(
    walks: Sequence[Walk], chunk: int, clips: int, device: torch.device, longest: int
) -> tuple[int, list[Tensor]]:
    """Which paths share chunks: those through the same bricks, and those along one path, there or back.

    Args:
        walks: k paths.
        chunk: steps computed together along paths that have no bricks.
        clips: packed in the row.
        device: of the tensors.
        longest: the most steps that can be computed together.

    Returns:
        The steps of the longest chunk, and nothing more where no two paths share; else two tensors, three where clips
        are packed, a slot being where one chunk of each bundle stands:

        - int32 (k, slots, 4): for every path, those of a bundle one after another, and every slot: which path it is,
          where the chunk stands along it, its first step and its end;
        - int32 (bundles + 1,): where each bundle starts among these;
        - int32 (clips + 1,): chunks before each clip. One slot, empty, lies behind those of a clip.

    Raises:
        ValueError: a brick that is to be shared is longer than `longest`.
    """
    lengths = walks[0].lengths if clips > 1 else None
    paths = tuple(Path(walk.path, walk.backwards, walk.bricks, walk.chunks) for walk in walks)
    whole = all(len(walk.lengths or (0,)) == clips for walk in walks)  # else "back" is not back along the whole row
    if not whole or not walks[0].length or _shares_nothing(paths):
        return chunk, []
    chunk = _longest(paths, chunk)
    if chunk > longest:
        raise ValueError(
            f"ssd_scan: walks share bricks of {chunk} tokens, backend 'triton' takes at most {longest}: use smaller "
            "bricks"
        )
    key = (paths, chunk, lengths or (walks[0].length,))
    parts = 2 + (clips > 1)
    if device.type == "cpu" or torch.compiler.is_compiling():
        return chunk, [torch.tensor(_listed(*key, part), dtype=torch.int32, device=device) for part in range(parts)]
    return chunk, [_sent(*key, part, str(device)) for part in range(parts)]


@torch.compiler.assume_constant_result
def _shares_nothing(paths: tuple[Path, ...]) -> bool:
    return len(_groups(paths)) == len(paths)


@torch.compiler.assume_constant_result
def _longest(paths: tuple[Path, ...], chunk: int) -> int:
    """A brick where bricks are shared, else the chunk that was asked for."""
    shared = [paths[i].chunks for group in _groups(paths) for i in group if len(group) > 1]
    return max((size for chunks in shared for size in chunks or ()), default=chunk)


@torch.compiler.assume_constant_result
def _listed(paths: tuple[Path, ...], chunk: int, lengths: tuple[int, ...], part: int) -> list[Any]:
    return _tables(paths, chunk, lengths)[part]


@lru_cache(maxsize=256)
def _sent(paths: tuple[Path, ...], chunk: int, lengths: tuple[int, ...], part: int, device: str) -> Tensor:
    """On a GPU, once: a copy from the host waits, and cannot be captured in a CUDA graph."""
    return torch.tensor(_listed(paths, chunk, lengths, part), dtype=torch.int32, device=device)


def _groups(paths: Sequence[Path]) -> list[list[int]]:
    """The paths of each bundle, in the order of their first."""
    groups: dict[object, list[int]] = {}
    for i, path in enumerate(paths):
        # Names no other path has; of the two directions the one that was met first.
        keys = [path.bricks[0]] if path.bricks is not None else [path.path, path.backwards]
        groups.setdefault(next((key for key in keys if key in groups), keys[0]), []).append(i)
    return list(groups.values())


@lru_cache(maxsize=256)
def _tables(
    paths: tuple[Path, ...], chunk: int, lengths: tuple[int, ...]
) -> tuple[list[list[tuple[int, ...]]], list[int], list[int]]:
    """The three tensors of `bundle`."""
    groups, starts = _groups(paths), [0, *accumulate(lengths)]
    members: list[list[list[Chunk]]] = []  # of each path, clip by clip
    for group in groups:
        order = paths[group[0]]
        for i in group:
            shared = order.chunks is not None and len(group) > 1
            chunks = _bricks(paths[i], order, starts) if shared else _even(paths[i], order, starts, chunk)
            members.append(list(chunks))
    counts = [max(map(len, clip)) for clip in zip(*members)]
    spare = len(lengths) > 1
    rows = []
    for member, i in zip(members, (i for group in groups for i in group)):
        row: list[tuple[int, ...]] = []
        for clip, count in zip(member, counts):
            at = len(row)
            row += [(i, at + place, first, end) for place, first, end in clip]
            row += [(i, place, 0, 0) for place in range(len(row), at + count + spare)]
        rows.append(row)
    return rows, [0, *accumulate(map(len, groups))], [0, *accumulate(counts)]


def _even(path: Path, order: Path, starts: Sequence[int], chunk: int) -> Iterator[list[Chunk]]:
    """The chunks of a path along `order`, there or back, in the order of that: clip by clip."""
    for start, end in pairwise(starts):
        firsts = range(start, end, chunk)
        if path.path == order.path:
            yield [(i, first, min(first + chunk, end)) for i, first in enumerate(firsts)]
        else:
            back = start + end
            yield [
                (len(firsts) - 1 - i, back - min(first + chunk, end), back - first) for i, first in enumerate(firsts)
            ]


def _bricks(path: Path, order: Path, starts: Sequence[int]) -> Iterator[list[Chunk]]:
    """The bricks of a path in the order in which `order` meets them, clip by clip."""
    assert path.bricks is not None
    assert path.chunks is not None
    assert order.bricks is not None
    ends = list(accumulate(path.chunks))
    where = {first: i for i, first in enumerate(path.bricks[1])}
    begun = 0
    for stop in starts[1:]:
        after = bisect_right(ends, stop)
        met = (where[first] for first in order.bricks[1][begun:after])
        yield [(i - begun, ends[i] - path.chunks[i], ends[i]) for i in met]
        begun = after
