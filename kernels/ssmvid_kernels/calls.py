"""Every op, and the ways to call it that its tests and benchmarks share: walks, layouts, arguments left out."""

from __future__ import annotations

import importlib
import inspect
import itertools
import pkgutil
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .walk import Walk

GRIDS = {18: (2, 3, 3), 30: (5, 3, 2), 140: (7, 4, 5)}  # a (t, h, w) for each length that a case walks
LAYOUTS = ("dense", "transposed", "sliced", "expanded")


class Case(Protocol):
    """What the cases of every scan have: `k` paths (0: no walks), `clips` the lengths of a packed row."""

    @property
    def l(self) -> int: ...  # noqa: E743
    @property
    def k(self) -> int: ...
    @property
    def clips(self) -> tuple[int, ...]: ...


class Call(NamedTuple):
    """One way to call an op: its options, the arguments to leave out, and those to make positive first."""

    options: Mapping[str, Any]
    without: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()


class Op(NamedTuple):
    """A public function of a folder of `ssmvid_kernels`, and its cases.

    A scan has a state: h0 goes in, h comes out, and `step` is the function that goes on from it. It takes walks, too.
    `cases` is the module `<folder>/cases.py` with EXACT and SPEED (cases by name), CALLS (`Call` by name, the fullest
    first), `make_inputs(case, dtype)` and `make_options(case)`.
    """

    name: str
    folder: str
    run: Callable[..., tuple[Tensor | None, ...]]
    step: Callable[..., tuple[Tensor, ...]] | None
    cases: ModuleType

    @property
    def layouts(self) -> tuple[str, ...]:
        """The layouts that `arguments` can make; "own x" has one x for each path."""
        return LAYOUTS if self.step is None else (*LAYOUTS, "own x")

    @property
    def strided_case(self) -> str:
        """Of EXACT, the one that every layout fits."""
        return self.among("two_paths", "two_groups")[0]

    def among(self, *names: str) -> list[str]:
        """Those cases that it has, for walks and packed clips are cases of scans, groups of channels of norms."""
        return [name for name in names if name in self.cases.EXACT]


def find_ops() -> dict[str, Op]:
    """Every op by name: that of its folder, or of its function where the folder has several."""
    package = importlib.import_module(__package__)
    found = {}
    for info in pkgutil.iter_modules(package.__path__):
        if info.ispkg:
            home = f"{package.__name__}.{info.name}"
            functions = [f for f in vars(package).values() if inspect.isfunction(f) and f.__module__ == home]
            steps = [f for f in functions if f.__name__.endswith("_step")]
            runs = [f for f in functions if f not in steps]
            for run in runs:
                name = info.name if len(runs) == 1 else run.__name__
                step = steps[0] if steps else None
                found[name] = Op(name, info.name, run, step, importlib.import_module(f"{home}.cases"))
    return found


def make_paths(case: Case) -> dict[str, Any]:
    """`walks` and `cu_seqlens` for `case`, where it has them: as many different paths as it asks for."""
    options: dict[str, Any] = {}
    if case.k:
        options["walks"] = _walks(case)
    if case.clips:
        options["cu_seqlens"] = torch.tensor([0, *itertools.accumulate(case.clips)], dtype=torch.int32)
    return options


def _walks(case: Case) -> tuple[Walk, ...]:
    """As it lies, backwards after one prefix token, time fastest, a table."""
    if case.clips:
        return tuple(shuffled(case.clips, seed) for seed in range(case.k))
    t, h, w = GRIDS[case.l]
    walks = (
        Walk((t, h, w), (h * w, w, 1)),
        Walk((case.l - 1, 1, 1), (1, 1, 1), reverse=True, prefix=1),
        Walk((h, w, t), (w, 1, h * w)),
        shuffled((case.l,), seed=0),
    )
    return walks[: case.k]


def shuffled(lengths: tuple[int, ...], seed: int) -> Walk:
    """A random path through clips of these lengths, each on its own stretch."""
    g = torch.Generator().manual_seed(seed)
    starts = itertools.accumulate((0, *lengths[:-1]))
    table = torch.cat([start + torch.randperm(size, generator=g) for start, size in zip(starts, lengths)])
    return Walk(table=table.int(), lengths=lengths)


def arguments(
    op: Op,
    case: Any,
    call: Call | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    layout: str = "dense",
    device: str = "cpu",
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, leaves that require gradients, and the options of one call; `call=None` is the op's fullest."""
    call = call or next(iter(op.cases.CALLS.values()))
    tensors = {}
    for name, tensor in op.cases.make_inputs(case, dtype).items():
        if name not in call.without:
            tensor = tensor.detach().to(device)
            tensors[name] = tensor.abs() if name in call.positive else tensor
    if layout == "own x":
        tensors["x"] = torch.stack([tensors["x"].roll(path, 1) for path in range(case.k)], 1)
    else:
        tensors = {name: lay_out(tensor, layout) for name, tensor in tensors.items()}
    options = {
        name: option.to(device) if isinstance(option, Tensor) else option
        for name, option in op.cases.make_options(case).items()
    }
    return {name: tensor.requires_grad_() for name, tensor in tensors.items()}, options | dict(call.options)


def lay_out(tensor: Tensor, layout: str) -> Tensor:
    """`tensor` with other strides: the same values, except that 'expanded' holds one row for all."""
    if layout == "transposed":
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "sliced":  # of a wider tensor, from an odd offset
        wide = tensor.new_zeros(*tensor.shape[:-1], tensor.shape[-1] + 3)
        wide[..., 1:-2] = tensor
        return wide[..., 1:-2]
    return tensor[:1].expand_as(tensor) if layout == "expanded" else tensor


def axis_of(op: Op, case: Any, size: str) -> dict[str, int]:
    """For each argument that grows with `case.<size>` ('b', 'l'), the axis that does."""
    smaller, larger = op.cases.make_inputs(case), op.cases.make_inputs(case._replace(**{size: getattr(case, size) + 1}))
    grown = {
        name: [axis for axis, (a, b) in enumerate(zip(smaller[name].shape, larger[name].shape)) if a != b]
        for name in smaller
    }
    return {name: axes[0] for name, axes in grown.items() if axes}
