"""Runs in processes of their own: to be killed, or to be ranks. A fork server imports torch once for all of them."""

from __future__ import annotations

import multiprocessing
import socket
from pathlib import Path
from typing import Any

from tests.engine.fakes import fit, fit_rank

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.engine.fakes", "matplotlib.figure"])


def start(folder: Path, **settings: Any) -> Any:
    """A run that can be killed."""
    process = _context.Process(target=fit, args=(folder,), kwargs=settings)
    process.start()
    return process


def run_ranks(folder: Path, world_size: int, **settings: Any) -> None:
    """One run on several ranks, to its end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [
        _context.Process(target=fit_rank, args=(rank, world_size, port, folder, settings)) for rank in range(world_size)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0] * world_size
