"""CUDA graphs: everything is compiled before one is captured, or the capture says what was not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

Launcher = TypeVar("Launcher", bound=Callable[..., Any])


def warmup(run: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Call `run` once, forward and backward, so that all it needs is compiled: a CUDA graph may then be captured.

    Nothing but a module's own buffers is left changed: no `.grad` is written and no random number drawn. Kernels are
    compiled for dtypes, state sizes and options, never for b or l, and their tiles come from tables: nothing is tuned.
    Under `torch.no_grad()` only the forward is called.

    Args:
        run: an op, a model or any other function of tensors.
        args, options: what it will be called with; of other b and l if need be.

    Source: what torch asks of a capture, https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """
    given = [leaf for leaf in tree_leaves((args, options)) if isinstance(leaf, Tensor)]
    parameters = list(run.parameters()) if isinstance(run, nn.Module) else []
    cuda = {tensor.device for tensor in (*given, *parameters) if tensor.is_cuda}
    with torch.random.fork_rng(cuda), _side_streams(cuda):
        outputs = [leaf for leaf in tree_leaves(run(*args, **options)) if isinstance(leaf, Tensor)]
        ends = [output for output in outputs if output.requires_grad]
        wanted = [tensor for tensor in (*given, *parameters) if tensor.requires_grad]
        if ends and wanted:
            torch.autograd.grad(ends, wanted, [torch.zeros_like(end) for end in ends], allow_unused=True)


@contextmanager
def _side_streams(devices: set[torch.device]) -> Iterator[None]:
    """A stream of its own on each device: what the default stream does lazily, a captured one may not."""
    if not devices:
        yield
        return
    device = devices.pop()
    stream, before = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(before)
    with torch.cuda.stream(stream), _side_streams(devices):
        yield
    before.wait_stream(stream)


def refusing_to_compile(name: str, launcher: Launcher) -> Launcher:
    """`launcher` of the operator `name`, which raises where it would compile a kernel while a CUDA graph is captured.

    Raises:
        RuntimeError: by the launcher; the message names the kernel, and `warmup`.
    """

    @wraps(launcher)
    def launch(*args: Any) -> Any:
        if not (args[0].is_cuda and torch.cuda.is_current_stream_capturing()):
            return launcher(*args)
        from triton import knobs

        with knobs.runtime.scope():
            knobs.runtime.jit_cache_hook = refuse
            return launcher(*args)

    def refuse(*, repr: str, **_: Any) -> None:
        raise RuntimeError(
            f"{name}: a CUDA graph is being captured and {repr.partition('[')[0]} is not compiled yet: call "
            "ssmvid_kernels.warmup(...) before, with tensors of the same dtypes and the same options"
        )

    return launch  # type: ignore[return-value]
