"""The generalised Hilbert curve over any rectangle or box. Shapes and results as in `lines`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Boxes are (n, 4, 3): first cell, then the edge vectors a, b, c. Each edge lies along one axis, up or down it, and is
# as long as the box has cells there. A box's path starts at its first cell and ends at the far end of a.
Ints = NDArray[np.int64]
Pieces = list[tuple[Ints, Ints, Ints, Ints]]


def hilbert(shape: Sequence[int]) -> Tensor:
    """A Hilbert curve for any sizes of two or three axes: every step goes to a neighbour, near cells stay near.

    Between two corners along an edge such a path exists where the edge is even, or where all edges are odd. Every
    split below leaves only boxes of that kind and `_first_boxes` starts with them, so no step is diagonal or longer
    than one. (numpy, not torch: hundreds of small operations.)

    Source: the generalised Hilbert curve of Jakub Červený, github.com/jakubcerveny/gilbert (BSD-2-Clause): its splits
        and ratios, here for all boxes of a level at once and with sides rounded so that no diagonal step remains.
    """
    shape = (1,) * (3 - len(shape)) + tuple(shape)
    boxes = _first_boxes(shape)
    while (np.abs(boxes[:, 2:]).sum((1, 2)) > 2).any():  # b and c of a line are one cell each
        boxes = _split(boxes)
    lengths = np.abs(boxes[:, 1]).sum(1)
    along = np.arange(math.prod(shape)) - np.repeat(lengths.cumsum() - lengths, lengths)
    cells = np.repeat(boxes[:, 0], lengths, 0) + along[:, None] * np.repeat(np.sign(boxes[:, 1]), lengths, 0)
    return torch.from_numpy(cells @ np.array([shape[1] * shape[2], shape[2], 1]))


def _first_boxes(shape: Sequence[int]) -> Ints:
    """One box along the fastest axis that is not much shorter than the longest and that parity allows, else two."""
    edges = np.diag(shape)
    box = lambda start, a: [start, edges[a], *(edges[axis] for axis in (2, 1, 0) if axis != a)]
    start = np.zeros(3, int)
    _, second, longest = sorted((0, 1, 2), key=lambda axis: shape[axis])
    even = [axis for axis in (2, 1, 0) if shape[axis] % 2 == 0] or [2, 1, 0]
    long = [axis for axis in even if 3 * shape[axis] >= 2 * shape[longest]]
    rest = shape[second] - 1 + shape[second] % 2  # the odd number next to the second longest side
    if long or rest == shape[longest]:
        return np.array([box(start, (long or even)[0])])
    # Even sides are all short, the longest is odd: an even piece of it, then an odd one along an even side.
    near, far = np.array([box(start, longest), box(start, even[0])])
    near[1, longest] -= rest
    far[0] = near[1]
    far[2:, longest] = far[2:, longest].clip(max=rest)
    return np.stack([near, far])


def _split(boxes: Ints) -> Ints:
    """Every box that is not yet a line in two, three or five, in the order of the path."""
    w, h, d = np.abs(boxes[:, 1:]).sum(2).T
    line = (h == 1) & (d == 1)
    halves = ~line & (2 * w > 3 * np.maximum(h, d))
    # Five pieces need an even side: a box without one is always cut into three.
    arch = (3 * np.maximum(h, d) > 4 * np.minimum(h, d)) | (w * h * d % 2 == 1)
    swap = ~line & ~halves & np.where(arch, d > h, (d % 2 == 1) & (h % 2 == 0))
    boxes = np.where(swap[:, None, None], boxes[:, [0, 1, 3, 2]], boxes)

    kinds = np.select([line, halves, arch], [0, 1, 2], 3)
    pieces, used = np.zeros((len(boxes), 5, 4, 3), int), np.zeros((len(boxes), 5), bool)
    for kind, split in enumerate(SPLITS):
        at = np.flatnonzero(kinds == kind)
        for i, piece in enumerate(split(*boxes[at].swapaxes(0, 1))):
            pieces[at, i] = np.stack(piece, 1)
            used[at, i] = True
    return pieces[used]


def _line(p: Ints, a: Ints, b: Ints, c: Ints) -> Pieces:
    return [(p, a, b, c)]


def _halves(p: Ints, a: Ints, b: Ints, c: Ints) -> Pieces:
    a2 = _even_half(a)
    return [(p, a2, b, c), (p + a2, a - a2, b, c)]


def _arch(p: Ints, a: Ints, b: Ints, c: Ints) -> Pieces:
    """Up along b, across along a, down along b."""
    a2, b2 = _even_half(a), _even_half(b)
    return [(p, b2, c, a2), (p + b2, a, b - b2, c), (p + _last(a) + _last(b2), -b2, c, a2 - a)]


def _double_arch(p: Ints, a: Ints, b: Ints, c: Ints) -> Pieces:
    """Up along b, out along c, across along a, back along c, down along b."""
    # Out and back run along c: where c is odd (then b is too) the other sides there must be odd, half of a among them.
    a2 = np.where(_size(c) % 2 == 1, np.sign(a) * (_size(a) // 2 | 1), _even_half(a))
    b2, c2 = _even_half(b), _even_half(c)
    return [
        (p, b2, c2, a2),
        (p + b2, c, a2, b - b2),
        (p + _last(b2) + _last(c), a, -b2, c2 - c),
        (p + _last(a) + b2 + _last(c), -c, a2 - a, b - b2),
        (p + _last(a) + _last(b2), -b2, c2, a2 - a),
    ]


SPLITS: tuple[Callable[[Ints, Ints, Ints, Ints], Pieces], ...] = (_line, _halves, _arch, _double_arch)


def _size(edge: Ints) -> Ints:
    return np.abs(edge).sum(-1, keepdims=True)


def _last(edge: Ints) -> Ints:
    """From the first cell along an edge to its last."""
    return edge - np.sign(edge)


def _even_half(edge: Ints) -> Ints:
    """About half of an edge, an even number of cells (1 of 2)."""
    half = _size(edge) // 2
    return np.sign(edge) * (half + half % 2 * (_size(edge) > 2))
