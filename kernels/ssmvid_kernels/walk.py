"""Walk: a path over the tokens of a sequence, as a kernel takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import accumulate

import torch
from torch import Tensor

# One row of `encode`: sizes, strides, reverse, prefix.
FIELDS = 8


@dataclass(frozen=True)
class Walk:
    """One path: step i reads the row `prefix + sum(digit_j * strides_j)`, with i - prefix written in base `sizes`.

    Args:
        sizes: steps an axis, slowest first; their product (and `prefix`) is the length of the path.
        strides: rows between neighbours along each axis.
        reverse: walk the whole path, prefix included, from its last step to its first.
        prefix: rows before the grid (class or register tokens); they are the path's first steps.
        table: the row of every step, int32 (l,), for a path that is not affine; the other fields are then unread.
        lengths: steps of each clip, where `table` is a packed path: clip i keeps its own stretch of rows and steps.
        chunks: steps of each stretch of `table` that is a brick: paths through the same bricks, each in an order of its
            own, may be computed together. None: the path has none.

    Raises:
        ValueError: a size is negative, or `table` is not a permutation of range(l) (clip by clip); `chunks` do not fill
            it (clip by clip).
    """

    sizes: tuple[int, int, int] = (0, 1, 1)
    strides: tuple[int, int, int] = (1, 1, 1)
    reverse: bool = False
    prefix: int = 0
    table: Tensor | None = field(default=None, compare=False)
    lengths: tuple[int, ...] | None = None
    chunks: tuple[int, ...] | None = None
    _digests: tuple[str, str] | None = field(default=None, init=False, repr=False, compare=False)
    _bricks: tuple[str, tuple[int, ...]] | None = field(default=None, init=False, repr=False, compare=False)
    _sent: dict[tuple[bool, str], Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if min(*self.sizes, self.prefix) < 0:
            raise ValueError(f"Walk: sizes and prefix must be >= 0, got {self.sizes} and {self.prefix}")
        if self.table is not None:
            lengths = self.lengths or (self.table.numel(),)
            _check_table(self.table, lengths)
            backwards = [stretch.flip(0) for stretch in self.table.split(lengths)]
            object.__setattr__(self, "_digests", (_digest([self.table]), _digest(backwards)))
        if self.chunks is not None:
            object.__setattr__(self, "_bricks", _check_chunks(self.table, self.chunks, self.lengths or ()))

    @property
    def length(self) -> int:
        """Steps, and rows, of the path."""
        if self.table is not None:
            return self.table.numel()
        return self.prefix + self.sizes[0] * self.sizes[1] * self.sizes[2]

    def rows(self) -> Tensor:
        """The row read at each step, int32 (l,)."""
        if self.table is not None:
            return self.table
        return decode(encode([self], torch.device("cpu")), self.length)[0]

    @property
    def path(self) -> tuple[object, ...]:
        """What tells this path from any other; no tensor is compared, so that it may be asked while compiling."""
        if self._digests is not None:
            return (self._digests[0],)
        return self.sizes, self.strides, self.reverse, self.prefix

    @property
    def backwards(self) -> tuple[object, ...]:
        """`path` of the walk that takes these steps from the last to the first, in each clip."""
        if self._digests is not None:
            return (self._digests[1],)
        return self.sizes, self.strides, not self.reverse, self.prefix

    @property
    def bricks(self) -> tuple[str, tuple[int, ...]] | None:
        """What tells its bricks from others', and the first row of each in the order of the path."""
        return self._bricks


def _digest(tables: Sequence[Tensor]) -> str:
    whole = sha256()
    for table in tables:
        whole.update(table.contiguous().numpy().tobytes())
    return whole.hexdigest()


def _check_chunks(
    table: Tensor | None, chunks: tuple[int, ...], lengths: tuple[int, ...]
) -> tuple[str, tuple[int, ...]]:
    """`Walk.bricks`."""
    if table is None:
        raise ValueError("Walk: chunks are stretches of a table: give the path as one")
    ends = set(accumulate(chunks))
    if min(chunks, default=1) < 1 or sum(chunks) != table.numel() or not {0, *ends}.issuperset(accumulate(lengths)):
        raise ValueError(
            f"Walk: chunks must be >= 1 and fill the {table.numel()} steps of the table (clip by clip), "
            f"got {len(chunks)} that hold {sum(chunks)}"
        )
    firsts = torch.stack([stretch.min() for stretch in table.split(chunks)]) if chunks else table
    met = firsts.repeat_interleave(torch.tensor(chunks, dtype=torch.int64))
    brick_of = torch.empty_like(table).scatter_(0, table.long(), met)
    return _digest([brick_of]), tuple(firsts.tolist())


def _check_table(table: Tensor, lengths: tuple[int, ...]) -> None:
    if table.dtype != torch.int32 or table.dim() != 1 or sum(lengths) != table.numel():
        raise ValueError(
            f"Walk: table must be int32 (l,) with l = sum of lengths = {sum(lengths)}, "
            f"got {table.dtype} {tuple(table.shape)}"
        )
    start = 0
    for length in lengths:
        stretch = table[start : start + length].sort().values
        if not torch.equal(stretch, torch.arange(start, start + length, dtype=torch.int32)):
            raise ValueError(f"Walk: table must visit each of the rows {start}..{start + length - 1} once")
        start += length


def check(op: str, walks: Sequence[Walk], length: int, clips: int | None) -> None:
    """Raise unless every walk covers `length` rows, clip by clip where `clips` clips are packed."""
    if not walks:
        raise ValueError(f"{op}: walks must hold at least one walk; None reads the tokens as they lie")
    for i, walk in enumerate(walks):
        if walk.length != length:
            raise ValueError(
                f"{op}: walks[{i}] has {walk.length} steps, x has l = {length} tokens: make it for the same grid"
            )
        packed = len(walk.lengths) if walk.lengths is not None else 1
        if clips is not None and clips > 1 and packed != clips:
            raise ValueError(
                f"{op}: walks[{i}] is a path through {packed} clip(s), cu_seqlens packs {clips}: "
                "make it with ScanOrder.walk([grid, grid, ...])"
            )


def encode(walks: Sequence[Walk], device: torch.device) -> Tensor:
    """The walks as one tensor on `device`: int64 (k, 8) where all are affine, else tables, int32 (k, l)."""
    tables = any(walk.table is not None for walk in walks)
    return torch.stack([_send(walk, tables, device) for walk in walks])


def _send(walk: Walk, as_table: bool, device: torch.device) -> Tensor:
    """One row of `encode`. A GPU gets it once: a copy from the host waits, and cannot be captured in a CUDA graph."""
    fields = [*walk.sizes, *walk.strides, int(walk.reverse), walk.prefix]
    row = walk.rows() if as_table else torch.tensor(fields, dtype=torch.int64)
    if device.type == "cpu" or torch.compiler.is_compiling():
        return row.to(device)
    key = (as_table, str(device))
    if key not in walk._sent:
        walk._sent[key] = row.to(device)
    return walk._sent[key]


def decode(paths: Tensor, length: int) -> Tensor:
    """What `encode` made, as the row of every step: int32 (k, l)."""
    if paths.dtype == torch.int32:
        return paths
    # Arithmetic on the tensor, so that nothing waits for a GPU and a compiled function may do it.
    _, size1, size2, stride0, stride1, stride2, reverse, prefix = paths.unsqueeze(-1).unbind(1)
    size1, size2 = size1.clamp(min=1), size2.clamp(min=1)
    step = torch.arange(length, device=paths.device)
    step = torch.where(reverse != 0, length - 1 - step, step)
    i = (step - prefix).clamp(min=0)
    grid = i // (size1 * size2) * stride0 + i // size2 % size1 * stride1 + i % size2 * stride2
    return torch.where(step < prefix, step, grid + prefix).int()


def places(paths: Tensor, length: int) -> Tensor:
    """The step at which each path reads each row, the inverse of `decode`: int32 (k, l)."""
    rows = decode(paths, length).long()
    steps = torch.arange(length, dtype=torch.int32, device=paths.device)
    return torch.empty_like(rows, dtype=torch.int32).scatter_(1, rows, steps.expand(rows.shape))
