"""Functions run as gloo ranks, in processes of their own. A fork server imports torch once for all of them."""

from __future__ import annotations

import multiprocessing
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.parallel.cases"])


def run(size: int, function: Callable[..., Any], *args: Any) -> None:
    """`function(*args)` on so many ranks; what a rank raises is printed there and fails here."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [_context.Process(target=_rank, args=(rank, size, port, function, args)) for rank in range(size)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(300)  # the first ranks of a fresh checkout compile the CPU kernels
        process.kill()
    assert [process.exitcode for process in ranks] == [0] * size


def _rank(rank: int, size: int, port: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    try:
        function(*args)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        dist.destroy_process_group()


@contextmanager
def counted_bytes() -> Iterator[list[int]]:
    """The bytes this rank hands to each collective inside."""
    counts: list[int] = []
    originals = {name: getattr(dist, name) for name in ("all_gather", "reduce_scatter")}

    def all_gather(parts: list[torch.Tensor], own: torch.Tensor, **options: Any) -> Any:
        counts.append(own.nbytes)
        return originals["all_gather"](parts, own, **options)

    def reduce_scatter(own: torch.Tensor, parts: list[torch.Tensor], **options: Any) -> Any:
        counts.append(sum(part.nbytes for part in parts))
        return originals["reduce_scatter"](own, parts, **options)

    dist.all_gather, dist.reduce_scatter = all_gather, reduce_scatter
    try:
        yield counts
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)
