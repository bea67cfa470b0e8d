"""What 'agrees with the reference' means, for every op and every dtype."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
from torch import Tensor

from .backends import interpreting

Tensors = dict[str, Tensor]


def errors_of(got: Tensor, plain: Tensor, exact: Tensor) -> tuple[float, float]:
    """How far `got` is from `exact`, and how far `plain` is, with one rounding of the largest value added."""
    if not got.numel():
        return 0.0, 0.0
    farthest = lambda tensor: (tensor.detach().double() - exact.detach()).abs().max().item()
    return farthest(got), farthest(plain) + torch.finfo(got.dtype).eps * exact.detach().abs().max().item()


def assert_as_exact(name: str, got: Tensor, plain: Tensor, exact: Tensor, factor: float = 3.0) -> None:
    """`got` may be at most `factor` times as far from `exact` as `plain` is.

    `exact` is the reference in float64, `plain` the reference in got's own dtype: the
    tolerance is what the dtype costs, not a number someone picked. (The rule of
    FlashAttention's tests, Dao et al. 2022.)
    """
    assert got.shape == exact.shape, f"{name}: shape {tuple(got.shape)}, expected {tuple(exact.shape)}"
    assert got.dtype == plain.dtype, f"{name}: {got.dtype}, expected {plain.dtype}"
    error, allowed = errors_of(got, plain, exact)
    assert error <= factor * allowed, (
        f"{name}: off by {error:.2e}, allowed {factor * allowed:.2e} ({factor:g} x the reference in {got.dtype})"
    )


def assert_op_as_exact(
    op: Callable[..., tuple[Tensor | None, ...]], tensors: Tensors, backend: str, **options: object
) -> None:
    """Outputs and gradients of `op` on `backend` agree with its reference, as `assert_as_exact` means it."""
    exact, plain = exact_and_plain(op, tensors, **options)
    for name, got in outputs_and_gradients(op, tensors, backend=backend, **options).items():
        assert_as_exact(name, got, plain[name], exact[name])


def exact_and_plain(
    op: Callable[..., tuple[Tensor | None, ...]], tensors: Tensors, **options: object
) -> tuple[Tensors, Tensors]:
    """Outputs and gradients of the reference, in float64 and in the tensors' own dtype.

    float64 cannot be held to something finer: what it costs is the error of float32 times the ratio of their eps.
    """
    doubles = {name: tensor.detach().double().requires_grad_() for name, tensor in tensors.items()}
    exact = outputs_and_gradients(op, doubles, backend="reference", **options)
    if next(iter(tensors.values())).dtype != torch.float64:
        return exact, outputs_and_gradients(op, tensors, backend="reference", **options)
    ratio = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
    singles = {name: tensor.detach().float().requires_grad_() for name, tensor in tensors.items()}
    exact32, plain32 = exact_and_plain(op, singles, **options)
    return exact, {name: exact[name] + ratio * (plain32[name].double() - exact32[name]) for name in exact}


def outputs_and_gradients(op: Callable[..., tuple[Tensor | None, ...]], tensors: Tensors, **options: object) -> Tensors:
    """`{y, h, d<argument>...}`: the outputs by name, or y alone, and the gradient of a fixed random mix of them."""
    returned = op(**tensors, **options)
    named = {name: t for name, t in zip(getattr(returned, "_fields", ("y",)), returned) if t is not None}
    out = list(named.values())
    g = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=g, dtype=torch.float64).to(t) for t in out]
    wanted = {name: tensor for name, tensor in tensors.items() if tensor.requires_grad}
    used = [(t, weight) for t, weight in zip(out, weights) if t.requires_grad]  # not so where nothing was run
    grads = torch.autograd.grad(
        [t for t, _ in used], list(wanted.values()), [weight for _, weight in used], materialize_grads=True
    )
    return named | dict(zip((f"d{name}" for name in wanted), grads))


def device_of(backend: str) -> str:
    """Where a test runs `backend`: on a GPU what needs one, unless it is interpreted."""
    return "cuda" if backend == "triton" and not interpreting() else "cpu"


@contextmanager
def poisoned_empty() -> Iterator[None]:
    """Uninitialised memory is NaN inside: an output a kernel forgets to write is seen."""
    with ExitStack() as stack:
        for owner, name in ((torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")):
            make = getattr(owner, name)

            def poisoned(*args: object, _make: Callable[..., Tensor] = make, **kwargs: object) -> Tensor:
                tensor = _make(*args, **kwargs)
                return tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor

            stack.enter_context(patch.object(owner, name, poisoned))
        yield
