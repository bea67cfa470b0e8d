"""Parts of a model that the backward computes again, so that what lies inside them is not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Part = Callable[..., Any]

# Called with each part and its arguments, while what a forward keeps is counted.
watcher: ContextVar[Callable[[Part, tuple[Any, ...]], None] | None] = ContextVar("watcher", default=None)
_chunk: ContextVar[int | None] = ContextVar("chunk", default=None)


def recompute(part: Part, *inputs: Any) -> Any:
    """`part(*inputs)`, of which only the arguments are kept: the backward runs it again.

    It does so under the context variables of the forward (backend, ranks), whichever thread the backward is on: that
    of a GPU is not the one that called it.
    """
    watch = watcher.get()
    if watch is not None:
        watch(part, inputs)
    context = copy_context()
    context.run(watcher.set, None)
    return checkpoint(lambda *inputs: context.copy().run(part, *inputs), *inputs, use_reentrant=False)


@contextmanager
def token_chunks(size: int | None) -> Iterator[None]:
    """Inside, layers keep little but what their scans read: parts of them are recomputed, `size` tokens at a time."""
    token = _chunk.set(size)
    try:
        yield
    finally:
        _chunk.reset(token)


def tokenwise(part: Callable[..., Tensor], *tokens: Tensor) -> Tensor:
    """`part(*tokens)` of tensors (b, l, ...), each token by itself; inside `token_chunks` recomputed chunk by chunk."""
    size = _chunk.get()
    if size is None or not tokens[0].shape[1]:
        return part(*tokens)
    return torch.cat([recompute(part, *chunk) for chunk in zip(*(t.split(size, dim=1) for t in tokens))], dim=1)


def before_scan(part: Callable[..., tuple[Tensor, ...]], *inputs: Any) -> tuple[Tensor, ...]:
    """`part(*inputs)`, what a scan reads; inside `token_chunks` recomputed as a whole, each tensor stored by itself."""
    if _chunk.get() is None:
        return part(*inputs)
    return recompute(lambda *inputs: tuple(own_storage(tensor) for tensor in part(*inputs)), *inputs)


def own_storage(tensor: Tensor) -> Tensor:
    """The tensor in a storage no larger than itself: a view would keep all that it was cut from."""
    return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor
