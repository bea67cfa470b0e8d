"""Curves by rank: Morton and random. Shapes and results as in `lines`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def morton(shape: Sequence[int]) -> Tensor:
    """Cells by the interleaved bits of their coordinates, the fastest axis in the lowest bit; any sizes.

    Source: Morton 1966; in scans Lin et al. 2025 (EAMamba), arXiv:2506.22246, where sizes are powers of two.
    """
    cells, rank = torch.arange(math.prod(shape)), torch.zeros(math.prod(shape), dtype=torch.int64)
    for place, size in enumerate(reversed(shape)):
        coordinate, cells = cells % size, cells // size
        for bit in range(size.bit_length()):
            rank |= (coordinate >> bit & 1) << (bit * len(shape) + place)
    return rank.argsort()


def random(shape: Sequence[int], seed: int) -> Tensor:
    """A random permutation, the same for a seed and a number of cells on every machine and version.

    Source: Hu et al. 2024 (ZigMa), arXiv:2403.13802, "randomN".
    """
    # RandomState is the generator whose stream numpy has frozen (NEP 19): a checkpoint keeps its path.
    return torch.from_numpy(np.random.RandomState(seed).permutation(math.prod(shape))).long()
