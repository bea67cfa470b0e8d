"""One program of a Triton kernel, interpreted where its tensors would lie if they were huge: no memory, every offset.

Loads give what such tensors could hold, stores go nowhere. Triton's own checks for integers that wrap are on, and an
integer may not be cast to a narrower type that cannot hold it.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
import triton.language as tl
from torch import Tensor
from triton.runtime import interpreter
from triton.runtime.jit import mangle_type

ROOM = 1 << 55  # bytes from one tensor to the next
ACCESSES = 300  # a longer loop only repeats itself


class Launch(NamedTuple):
    """A kernel with its arguments by name, tensors without memory, and how many programs."""

    kernel: Any
    arguments: dict[str, Any]
    programs: int

    @property
    def pointers(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.arguments.items() if isinstance(value, Tensor)}


class _Enough(BaseException):  # the interpreter wraps exceptions
    pass


def record(launches: Callable[[], object]) -> list[Launch]:
    """What `launches`, a case of the compile table, would start."""
    found = []

    def keep(kernel: Any, *args: object, grid: tuple[int, ...], warmup: bool, **kwargs: object) -> None:
        assert len(grid) == 1, f"{kernel.__name__}: axes y and z of a grid hold 65,535 programs: use x alone"
        known = {name: value for name, value in kwargs.items() if name in kernel.arg_names}
        found.append(Launch(kernel, inspect.getcallargs(kernel.fn, *args, **known), grid[0]))

    with patch.object(interpreter.InterpretedFunction, "run", keep):
        launches()
    return found


def farthest(
    launch: Launch, program: int, integers: Mapping[str, Callable[[np.ndarray], object]], **changed: object
) -> dict[str, int]:
    """The largest offset, in elements, at which `program` reads or writes each pointer of `launch`.

    Args:
        integers: what a tensor of integers holds, by its argument's name.
        changed: arguments to take in place of the launch's own.

    Raises:
        AssertionError: an integer wraps around.
    """
    arguments = launch.arguments | changed
    names = list(launch.pointers)
    reached: dict[str, int] = {}
    accesses = 0

    def locate(pointers: Any, mask: Any) -> tuple[str, np.ndarray]:
        nonlocal accesses
        accesses += 1
        if accesses > ACCESSES:
            raise _Enough
        at, mask = np.broadcast_arrays(pointers.data.astype(np.int64), mask.data.astype(bool))
        index = int(at[mask].flat[0]) // ROOM if mask.any() else int(at.flat[0]) // ROOM
        offsets = (at - index * ROOM) // (pointers.get_element_ty().primitive_bitwidth // 8)
        name = names[index - 1]
        if mask.any():
            assert offsets[mask].min() >= 0, f"{name}: read before its start"
            reached[name] = max(reached.get(name, 0), int(offsets[mask].max()))
        return name, offsets

    def load(self: Any, pointers: Any, mask: Any, other: Any, *_: object) -> Any:
        name, offsets = locate(pointers, mask)
        dtype = pointers.get_element_ty()
        held = integers[name](offsets) if dtype.is_int() else np.ones(offsets.shape)
        held = np.where(mask.data.astype(bool), held, 0)
        return interpreter.TensorHandle(held.astype(interpreter._get_np_dtype(dtype)), dtype)

    def store(self: Any, pointers: Any, value: Any, mask: Any, *_: object) -> None:
        locate(pointers, mask)

    def convert(name: str, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return interpreter._implicit_cvt(value)
        kind = tl.str_to_ty(mangle_type(torch.empty(0, dtype=value.dtype)), None)
        base = np.array([(names.index(name) + 1) * ROOM], dtype=np.uint64)
        return tl.tensor(interpreter.TensorHandle(base, kind), kind)

    function = launch.kernel.rewrite()
    constants = interpreter.GridExecutor(function, launch.kernel.arg_names, (1,)).constexprs
    given = {name: value if name in constants else convert(name, value) for name, value in arguments.items()}
    with _checked(load, store), _interpreted(function):
        interpreter.interpreter_builder.set_grid_dim(program + 1, 1, 1)
        interpreter.interpreter_builder.set_grid_idx(program, 0, 0)
        with suppress(_Enough):
            function(**given)
    return reached


@contextmanager
def _checked(load: Callable[..., Any], store: Callable[..., None]) -> Iterator[None]:
    builder = interpreter.InterpreterBuilder
    cast = builder.cast_impl

    def cast_checked(self: Any, src: Any, kind: Any) -> Any:
        out = cast(self, src, kind)
        if src.dtype.scalar.is_int() and kind.scalar.is_int() and kind.scalar.primitive_bitwidth > 1:
            assert (out.data.astype(np.int64) == src.data.astype(np.int64)).all(), f"{kind.scalar} cannot hold it"
        return out

    options = interpreter.InterpreterOptions(debug=True, sanitize_overflow=True)
    with (
        patch.object(builder, "create_masked_load", load),
        patch.object(builder, "create_masked_store", store),
        patch.object(builder, "cast_impl", cast_checked),
        patch.object(interpreter.interpreter_builder, "options", options),
    ):
        yield


@contextmanager
def _interpreted(function: Any) -> Iterator[None]:
    scope = interpreter._patch_lang(function)
    try:
        yield
    finally:
        scope.restore()
