"""Argument checks every op shares: one wording for every shape, dtype and device error."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor


def expect_shape(op: str, name: str, tensor: Tensor, axes: str, shape: tuple[int, ...], origin: str) -> None:
    """Raise ValueError unless `tensor` has `shape`; `origin` says where its numbers come from."""
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{op}: {name} must be {axes} = {shape}, got {tuple(tensor.shape)} ({origin})")


def expect_float(op: str, device: torch.device, tensors: Iterable[tuple[str, Tensor | None]]) -> None:
    """Raise unless every tensor is floating point and on `device` (that of x)."""
    for name, tensor in tensors:
        if tensor is None:
            continue
        if not tensor.is_floating_point():
            raise TypeError(f"{op}: {name} must be a real floating-point tensor, got {tensor.dtype}")
        if tensor.device != device:
            raise ValueError(f"{op}: {name} is on {tensor.device}, x on {device}: move it there")


def expect_clips(op: str, cu_seqlens: Tensor, batch: int, length: int) -> int:
    """The number of clips `cu_seqlens` packs; raise unless it is int32 (s + 1,) from 0 up to l, never falling.

    The values are read on the CPU only: on a GPU that would wait for the device. Compiled, `clip_bounds` reads them.
    """
    if cu_seqlens.dtype != torch.int32 or cu_seqlens.dim() != 1 or cu_seqlens.numel() < 1:
        raise ValueError(f"{op}: cu_seqlens must be int32 (s + 1,), got {cu_seqlens.dtype} {tuple(cu_seqlens.shape)}")
    if batch != 1:
        raise ValueError(f"{op}: cu_seqlens packs clips in one row, so b must be 1, got b = {batch}")
    if cu_seqlens.device.type == "cpu" and not torch.compiler.is_compiling():
        _borders(f"{op}: ", cu_seqlens, length)
    return cu_seqlens.numel() - 1


def clip_bounds(batch: int, length: int, cu_seqlens: Tensor | None) -> list[tuple[int, int, int]]:
    """Every independent sequence as (batch row, first step, end): b whole rows, or s clips of row 0."""
    if cu_seqlens is None:
        return [(row, 0, length) for row in range(batch)]
    return [(0, start, end) for start, end in pairwise(_borders("", cu_seqlens, length))]


def _borders(whose: str, cu_seqlens: Tensor, length: int) -> list[int]:
    borders: list[int] = cu_seqlens.tolist()
    if borders[0] != 0 or borders[-1] != length or borders != sorted(borders):
        raise ValueError(f"{whose}cu_seqlens must rise from 0 to l = {length}, got {borders[:4]}..{borders[-1]}")
    return borders
