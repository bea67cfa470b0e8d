"""What the CPU kernels share: tensors as flat arrays with strides, and threads."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from . import walk
from .checks import clip_bounds

Strides = tuple[int, ...]


def flat(tensor: Tensor, dtype: torch.dtype) -> tuple[np.ndarray, Strides]:
    """The memory of `tensor` as one flat array of `dtype` (fp32 or fp64), and its strides.

    Nothing is copied unless the dtype differs or the last axis is not dense: the lanes of a vector lie along it.
    """
    tensor = tensor.detach().to(dtype)
    if tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
        tensor = tensor.contiguous()
    if not tensor.numel():
        return np.zeros(1, dtype=tensor.numpy().dtype), tensor.stride()
    extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
    return tensor.as_strided((extent,), (1,)).numpy(), tensor.stride()


def dense(tensor: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> np.ndarray:
    """A small parameter as a dense array, zeros where there is none."""
    if tensor is None:
        return np.zeros(shape, dtype=torch.empty(0, dtype=dtype).numpy().dtype)
    # A copy: numpy would pin down the storage of a parameter, which FSDP2 resizes.
    return tensor.detach().to(dtype, copy=True, memory_format=torch.contiguous_format).numpy()


def path_rows(paths: Tensor | None, k: int, l: int) -> np.ndarray:
    """The row every step of every path reads, int32 (k, l)."""
    if paths is None:
        return np.broadcast_to(np.arange(l, dtype=np.int32), (k, l)).copy()
    return walk.decode(paths, l).numpy()


def clip_rows(b: int, l: int, cu_seqlens: Tensor | None, chunk: int) -> np.ndarray:
    """(s, 4): batch row, start, end, and where the clip's first kept state stands in its row: one a chunk."""
    bounds = clip_bounds(b, l, cu_seqlens)
    numbered = range(len(bounds)) if cu_seqlens is not None else [0] * len(bounds)
    rows = [(row, start, end, start // chunk + i) for (row, start, end), i in zip(bounds, numbered)]
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def _threads(count: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    if _pool is None or _pool_size < count:
        _pool, _pool_size = ThreadPoolExecutor(count, thread_name_prefix="ssmvid"), count
    return _pool


def _forget_pool() -> None:
    global _pool
    _pool = None


# Threads do not live on in a forked child: it makes its own.
os.register_at_fork(after_in_child=_forget_pool)


def parallel(task: Callable[[int], object], count: int) -> None:
    """Call `task(0) .. task(count - 1)`, spread over `torch.get_num_threads()` threads; tasks must release the GIL.

    Plain threads and not OpenMP: a fork after them is safe, so data workers may be forked at any time.
    """
    threads = min(torch.get_num_threads(), count)
    if threads <= 1:
        for i in range(count):
            task(i)
        return
    numbers = itertools.count()  # next() on it is atomic

    def work() -> None:
        while (i := next(numbers)) < count:
            task(i)

    helpers = [_threads(threads - 1).submit(work) for _ in range(threads - 1)]
    work()
    for helper in helpers:
        helper.result()
