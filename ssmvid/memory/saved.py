"""Counting the bytes that a forward keeps for its backward."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ssmvid.layers.recompute import Part, watcher


class SavedBytes:
    """Counts what a forward inside the `with` block keeps for its backward: each storage once.

    `total` is the height of it. The backward lets go of what was saved last first; so where it recomputes a part, there
    is what was saved before that part, and what lies inside it. To see into a part it is run once more.

    Args:
        known: tensors whose storages do not count: parameters, and the clip.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        self._known = list(known)
        self._storages = {tensor.untyped_storage()._cdata for tensor in self._known}
        self._kept: dict[int, Tensor] = {}  # held, or another tensor could be given the same storage
        self._height = 0
        self._hooks = saved_tensors_hooks(self._pack, lambda tensor: tensor)

    @property
    def total(self) -> int:
        """Bytes."""
        return max(self._height, self._saved)

    @property
    def _saved(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self._kept.values())

    def __enter__(self) -> SavedBytes:
        self._token = watcher.set(self._look_into)
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.__exit__(kind, error, trace)
        watcher.reset(self._token)

    def _pack(self, tensor: Tensor) -> Tensor:
        key = tensor.untyped_storage()._cdata
        if key not in self._storages:
            self._kept[key] = tensor.detach()
        return tensor

    def _look_into(self, part: Part, inputs: tuple[Any, ...]) -> None:
        """Count what a part that is recomputed keeps beside its arguments, which are saved."""
        for tensor in inputs:
            if isinstance(tensor, Tensor):
                self._pack(tensor)
        apart = [x.detach().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x for x in inputs]
        with SavedBytes([*self._known, *(x for x in apart if isinstance(x, Tensor))]) as inside:
            part(*apart)
        self._height = max(self._height, self._saved + inside.total)
