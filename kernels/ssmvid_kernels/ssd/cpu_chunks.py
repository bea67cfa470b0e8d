"""What the CPU scan works on: stretches of steps, cut into chunks whose rows are read through their path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import walk
from ..checks import clip_bounds
from .steps import step_sizes


class Stretch(NamedTuple):
    """One path through one clip, or through the same steps of several batch rows."""

    batch: slice
    clips: slice  # of h0 and h
    path: int
    rows: Tensor | slice  # that the path reads, in its order
    kept: int  # where the state before its first chunk is kept

    def take(self, tensor: Tensor, steps: slice = slice(None)) -> Tensor:
        """The rows of some steps, in order, of (b, 1 or k, l, ...)."""
        own = tensor[self.batch, self.path if tensor.shape[1] > 1 else 0]
        if isinstance(self.rows, slice):
            return own[:, self.rows][:, steps]
        return own.index_select(1, self.rows[steps])

    def put(self, tensor: Tensor, steps: slice, part: Tensor, add: bool = False) -> None:
        """Write the rows of some steps of (b, 1 or k, l, ...), or add to them."""
        own = tensor[self.batch, self.path if tensor.shape[1] > 1 else 0]
        if isinstance(self.rows, slice):
            own = own[:, self.rows][:, steps]
            own.add_(part) if add else own.copy_(part)
        elif add:
            own.index_add_(1, self.rows[steps], part)
        else:
            own.index_copy_(1, self.rows[steps], part)


class Steps(NamedTuple):
    """dt of a stretch, as given (`raw`) and as taken, and the decays it makes: (b, steps, heads), in the path's order.

    Decays are from and to the borders of the step's own chunk.
    """

    raw: Tensor
    dt: Tensor
    from_start: Tensor
    to_end: Tensor
    whole: Tensor  # (b, chunks, heads)
    hi: np.ndarray  # running sums of dt A inside the chunk (b, chunks, heads, chunk),
    lo: np.ndarray  # and of what their rounding left out

    def between(self, i: int, q: int) -> Tensor:
        """Decays between the q steps of chunk i (b, heads, q, q)."""
        from .cpu_kernels import decays_between

        out = self.dt.new_empty(self.dt.shape[0], self.dt.shape[2], q, q)
        decays_between(self.hi, self.lo, i, out.numpy(), lanes(out))
        return out


def lanes(tensor: Tensor) -> int:
    """Numbers in a vector of the CPU kernels."""
    return 64 // tensor.itemsize


TOGETHER = 1 << 18  # numbers of one chunk, over heads and batch rows, that are in work at a time: they stay in cache


def stretches(dt: Tensor, p: int, paths: Tensor | None, cu_seqlens: Tensor | None, chunk: int) -> Iterator[Stretch]:
    """Every stretch of a call; those of one row of y follow each other path by path, in a fixed order."""
    b, k, l, heads = dt.shape
    rows = None if paths is None else walk.decode(paths, l).long()
    many = max(1, TOGETHER // (heads * chunk * max(chunk, p)))
    batches = [slice(i, min(i + many, b)) for i in range(0, b, many)]
    whole = [(batch, batch, 0, l, 0) for batch in batches]
    if cu_seqlens is not None:
        bounds = enumerate(clip_bounds(b, l, cu_seqlens))
        whole = [(slice(0, 1), slice(i, i + 1), start, end, start // chunk + i) for i, (_, start, end) in bounds]
    for batch, clips, start, end, kept in whole:
        for path in range(k):
            own = slice(start, end) if rows is None else rows[path, start:end]
            yield Stretch(batch, clips, path, own, kept)


def measure(
    at: Stretch,
    dt: Tensor,
    A: Tensor,
    dt_bias: Tensor | None,
    softplus: bool,
    limit: Sequence[float] | None,
    chunk: int,
    real: torch.dtype,
) -> Steps:
    """The steps of a stretch, all chunks at once: they are few numbers beside x."""
    raw = at.take(dt).to(real)
    if dt_bias is not None:
        raw = raw + dt_bias[at.path].to(real)
    taken = step_sizes(raw, None, softplus, limit)
    length = raw.shape[1]
    # Past the end steps of 0: they decay nothing.
    sums = F.pad(taken * A[at.path].to(real), (0, 0, 0, -length % chunk)).unflatten(1, (-1, chunk))
    hi = sums.cumsum(2)
    # Differences of hi carry the rounding of all before them; with lo they are as exact as a sum of their own steps.
    lo = (sums - torch.diff(hi, dim=2, prepend=torch.zeros_like(hi[:, :, :1]))).cumsum(2)
    to_end = torch.exp((hi[:, :, -1:] - hi) + (lo[:, :, -1:] - lo))
    along = lambda t: t.flatten(1, 2)[:, :length]
    dense = lambda t: t.transpose(2, 3).contiguous().numpy()
    return Steps(raw, taken, along(hi.exp()), along(to_end), hi[:, :, -1].exp(), dense(hi), dense(lo))


def by_group(tensor: Tensor, g: int) -> Tensor:
    """(b, steps, heads, p) -> (b, g, steps, heads of the group * p)."""
    return tensor.unflatten(2, (g, -1)).flatten(3).transpose(1, 2)


def by_head(tensor: Tensor, heads: int) -> Tensor:
    """The way back from `by_group`."""
    return tensor.transpose(1, 2).flatten(2).unflatten(2, (heads, -1))


def state_by_group(h: Tensor, g: int) -> Tensor:
    """(b, heads, p, n) -> (b, g, n, heads of the group * p): one matmul with B or C then serves all its heads."""
    return h.unflatten(1, (g, -1)).flatten(2, 3).mT.contiguous()


def state_by_head(state: Tensor, heads: int) -> Tensor:
    """The way back from `state_by_group`."""
    return state.mT.flatten(1, 2).unflatten(1, (heads, -1))
