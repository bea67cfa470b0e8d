"""Which implementation of an op runs: chosen here, in one place, for every op."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

import torch

from .transforms import transforming

BACKENDS = ("auto", "triton", "cpu", "torch", "reference", "mamba_ssm")
_FASTEST_FIRST = ("triton", "cpu", "torch", "reference")
_default: ContextVar[str] = ContextVar("ssmvid_backend", default="auto")


class BackendError(RuntimeError):
    """A backend that was asked for and cannot run here; the message holds every reason."""


@dataclass(frozen=True)
class Choice:
    """What `backend="auto"` takes for an op on a device, and why not the others.

    `backend` is the name that runs; `reasons` holds, for each backend that cannot run there, every reason.
    """

    op: str
    device: str
    backend: str
    reasons: Mapping[str, tuple[str, ...]]

    def __str__(self) -> str:
        lines = [f"{self.op} on {self.device}: {self.backend}"]
        lines += [f"  not {name}: {'; '.join(why)}" for name, why in self.reasons.items()]
        return "\n".join(lines)


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run every op inside the block on `name`: 'auto', 'triton', 'cpu', 'torch', 'reference' or 'mamba_ssm'.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.

    >>> with use_backend("reference"):
    ...     logits = model(clip)
    """
    check_name(name)
    token = _default.set(name)
    try:
        yield
    finally:
        _default.reset(token)


def check_name(name: str) -> None:
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}: expected one of {', '.join(BACKENDS)}")


def interpreting() -> bool:
    """Whether Triton runs its kernels in Python on the CPU (its own switch, read before triton is imported)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def why_not(backend: str, device: torch.device) -> tuple[str, ...]:
    """Every reason `backend` cannot run on `device`; empty where it can."""
    reasons = []
    if backend == "triton":
        if find_spec("triton") is None:
            reasons.append("triton is not installed (pip install triton)")
        if device.type not in ("cuda", "xpu") and not interpreting():
            reasons.append(f"triton needs a GPU, the tensors are on {device.type}")
    if backend == "cpu":
        if find_spec("numba") is None:
            reasons.append("numba is not installed (pip install numba)")
        if device.type != "cpu":
            reasons.append(f"the tensors are on {device.type}")
    if backend in ("triton", "cpu", "mamba_ssm") and transforming():
        reasons.append("torch.func and forward-mode AD do not reach into a fused kernel (use backend='torch')")
    if backend == "mamba_ssm":
        if find_spec("mamba_ssm") is None:
            reasons.append("mamba_ssm is not installed (pip install mamba-ssm)")
        if device.type != "cuda":
            reasons.append(f"mamba_ssm needs a CUDA device, the tensors are on {device.type}")
    return tuple(reasons)


def reasons_of(*cases: tuple[bool, str]) -> tuple[str, ...]:
    """The reasons of the cases that hold."""
    return tuple(reason for holds, reason in cases if holds)


def choose(op: str, device: torch.device) -> Choice:
    """What "auto" takes for `op` on `device`, and every reason against each backend that cannot run."""
    reasons = {name: why for name in _FASTEST_FIRST if (why := why_not(name, device))}
    # An interpreted kernel is a proof, not a fast path: it runs only where it is asked for.
    able = [name for name in _FASTEST_FIRST if name not in reasons and not (name == "triton" and device.type == "cpu")]
    return Choice(op, str(device), able[0], reasons)


def pick(
    op: str,
    implementations: Mapping[str, Callable[..., Any]],
    backend: str | None,
    device: torch.device,
    limits: Mapping[str, Callable[[], tuple[str, ...]]] = MappingProxyType({}),
) -> Callable[..., Any]:
    """The implementation of `op` to run on `device`. An explicit choice runs or is refused, never swapped.

    Args:
        op: its name.
        implementations: by backend.
        backend: the one asked for. None: as `use_backend` says.
        device: of the tensors.
        limits: for a backend that cannot take every call, what says every reason against this one.

    Raises:
        ValueError: the name is unknown.
        BackendError: the backend cannot run here; the message holds every reason.
    """
    name = _asked(backend)
    reasons = limits[name]() if name in limits else ()
    if name != "auto" and name not in implementations:
        reasons = (f"{name} has no {op}",)
    return implementations[_resolve(op, name, device, reasons)]


# A compiled function keeps the choice it was traced with.
@torch.compiler.assume_constant_result
def _asked(backend: str | None) -> str:
    name = backend or _default.get()
    check_name(name)
    return name


@torch.compiler.assume_constant_result
def _resolve(op: str, name: str, device: torch.device, reasons: tuple[str, ...]) -> str:
    if name == "auto":
        choice = choose(op, device)
        if device.type == "cuda" and choice.backend != "triton":
            _warn_slow(str(choice))
        return choice.backend
    if reasons := why_not(name, device) + reasons:
        raise BackendError(
            f"{op}: backend {name!r} was asked for and cannot run:\n"
            + "".join(f"  - {reason}\n" for reason in reasons)
            + "Use backend='auto' to run the fastest one that can."
        )
    return name


_warned: set[str] = set()


def _warn_slow(choice: str) -> None:
    if choice not in _warned:
        _warned.add(choice)
        warnings.warn(f"a slow implementation runs on a GPU.\n{choice}", stacklevel=4)
