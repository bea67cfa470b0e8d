"""Recomputing in the backward, and counting the bytes that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from types import TracebackType

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

Cell = Callable[..., tuple[Tensor, ...]]


class SavedBytes:
    """Counts what a forward inside the `with` block keeps for its backward: each storage once.

    `total` is the height of it: all that is saved, and the largest cell, which the backward recomputes. To see into a
    cell it is run once more.

    Args:
        known: tensors whose storages do not count: parameters, and the clip.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        self._known = list(known)
        self._storages = {tensor.untyped_storage()._cdata for tensor in self._known}
        self._kept: dict[int, Tensor] = {}  # held, or another tensor could be given the same storage
        self._largest = 0
        self._hooks = saved_tensors_hooks(self._pack, lambda tensor: tensor)

    @property
    def total(self) -> int:
        """Bytes."""
        return sum(tensor.untyped_storage().nbytes() for tensor in self._kept.values()) + self._largest

    def look_into(self, cell: Cell, tensors: tuple[Tensor, ...]) -> None:
        """Count what a cell that is recomputed keeps beside its arguments."""
        apart = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in tensors]
        with SavedBytes([*self._known, *apart]) as inside:
            cell(*apart)
        self._largest = max(self._largest, inside.total)

    def __enter__(self) -> SavedBytes:
        self._token = _counting.set(self)
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.__exit__(kind, error, trace)
        _counting.reset(self._token)

    def _pack(self, tensor: Tensor) -> Tensor:
        key = tensor.untyped_storage()._cdata
        if key not in self._storages:
            self._kept[key] = tensor.detach()
        return tensor


_counting: ContextVar[SavedBytes | None] = ContextVar("counting", default=None)


def recompute(cell: Cell, *tensors: Tensor) -> tuple[Tensor, ...]:
    """`cell(*tensors)`, of which only the arguments are kept: the backward runs it again."""
    counter = _counting.get()
    if counter is not None:
        counter.look_into(cell, tensors)
    return checkpoint(cell, *tensors, use_reentrant=False)
