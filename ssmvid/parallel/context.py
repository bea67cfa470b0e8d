"""Which stretch of which clips each rank holds, and the context that mixers read it from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

import torch.distributed as dist


class Piece(NamedTuple):
    """Token frames `start` to `stop` (excluded) of clip `clip` of a packed row."""

    clip: int
    start: int
    stop: int


@dataclass(frozen=True)
class Context:
    """The ranks a sequence lies on.

    Args:
        group: the ranks, in the order of time.
        joined: for each border, before rank 0, 1, ... and after the last, whether a clip goes on across it.
        whole: for each rank, whether it holds a piece of one clip alone, which may then cross both its borders.
        frames: token frames of each of this rank's pieces; None: what the grid says.
    """

    group: dist.ProcessGroup
    joined: tuple[bool, ...]
    whole: tuple[bool, ...]
    frames: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        """Ranks."""
        return len(self.whole)

    @property
    def rank(self) -> int:
        """This process among them."""
        return dist.get_rank(self.group)

    @property
    def before(self) -> bool:
        """Whether this rank's first clip goes on from the rank before."""
        return self.joined[self.rank]

    @property
    def after(self) -> bool:
        """Whether this rank's last clip goes on at the next rank."""
        return self.joined[self.rank + 1]

    def ranks_before(self) -> range:
        """The ranks that hold this rank's first clip, without this one, in the order of time."""
        first = self.rank
        while self.joined[first] and (first == self.rank or self.whole[first]):
            first -= 1
        return range(first, self.rank)

    def ranks_after(self) -> range:
        """The ranks that hold this rank's last clip, without this one, in the order of time."""
        last = self.rank
        while self.joined[last + 1] and (last == self.rank or self.whole[last]):
            last += 1
        return range(self.rank + 1, last + 1)


_active: ContextVar[Context | None] = ContextVar("context_parallel", default=None)


def active_context() -> Context | None:
    """The context this code runs in."""
    return _active.get()


def refuse_context(what: str) -> None:
    """Raise where a sequence lies on several ranks, as `what` would take this rank's stretch for all of it.

    Raises:
        ValueError: always then.
    """
    if _active.get() is not None:
        raise ValueError(f"{what}: not covered by context parallelism, see docs/parallel.md for what is")


@contextmanager
def context_parallel(group: dist.ProcessGroup, pieces: Sequence[Sequence[Piece]] | None = None) -> Iterator[None]:
    """Inside, mixers take their tokens for one stretch of a sequence that goes on over the ranks of `group`.

    Forward *and* backward must run on every rank, each on its own share of the loss; the backward of checkpointed
    layers inside the context, too.

    Args:
        group: the ranks, in the order of time; `mesh["cp"].get_group()` of a DeviceMesh.
        pieces: what each rank holds of clips packed in a row, as `split_frames` gives it. None: one clip, split
            between frames in any way.

    Raises:
        ValueError: the pieces are not one after another, or a rank has none.
    """
    size = dist.get_world_size(group)
    if pieces is None:
        context = Context(group, (False, *[True] * (size - 1), False), (True,) * size)
    else:
        _check_pieces(pieces, size)
        joined = (False, *(own[0].start > 0 for own in pieces[1:]), False)
        frames = tuple(piece.stop - piece.start for piece in pieces[dist.get_rank(group)])
        context = Context(group, joined, tuple(len(own) == 1 for own in pieces), frames)
    token = _active.set(context)
    try:
        yield
    finally:
        _active.reset(token)


def split_frames(frames: Sequence[int], ranks: int, unit: int = 1) -> list[list[Piece]]:
    """Share packed clips out over ranks, as evenly as whole segments allow.

    Args:
        frames: token frames of each clip.
        ranks: how many to share out to.
        unit: frames that stay together: `causal_frames` of a model that is block-causal, or the window of its `W`
            layers where it is not.

    Returns:
        The pieces of each rank, in the order of time.

    Raises:
        ValueError: there are fewer segments than ranks.
    """
    segments = [
        (clip, start, min(start + unit, count)) for clip, count in enumerate(frames) for start in range(0, count, unit)
    ]
    if len(segments) < ranks:
        raise ValueError(
            f"split_frames: clips of {tuple(frames)} frames hold {len(segments)} segments of {unit}, fewer than the "
            f"{ranks} ranks: take fewer ranks"
        )
    shares = []
    for rank in range(ranks):
        own: list[Piece] = []
        for clip, start, stop in segments[len(segments) * rank // ranks : len(segments) * (rank + 1) // ranks]:
            if own and own[-1].clip == clip:
                own[-1] = own[-1]._replace(stop=stop)
            else:
                own.append(Piece(clip, start, stop))
        shares.append(own)
    return shares


def _check_pieces(pieces: Sequence[Sequence[Piece]], size: int) -> None:
    if len(pieces) != size or not all(pieces):
        held = [len(own) for own in pieces]
        raise ValueError(f"context_parallel: each of the {size} ranks needs at least one piece, got {held} pieces")
    row = [piece for own in pieces for piece in own]
    for last, piece in zip([None, *row], row):
        goes_on = last is not None and piece.clip == last.clip and piece.start == last.stop
        if piece.start >= piece.stop or not (goes_on or piece.start == 0):
            raise ValueError(f"context_parallel: pieces must hold frames, one after another, got {last} then {piece}")
