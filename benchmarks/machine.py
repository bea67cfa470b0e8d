"""What a measurement needs of the machine: its name, its clock, its peaks, its memory, and a file of rows."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import torch
import triton

from ssmvid.engine.peak import PeakMemory

MIB = 2**20


class Peaks(NamedTuple):
    """What this device was measured to do at best: bytes a second of a copy, FLOP a second of a matmul."""

    bandwidth: float
    flops: float

    def floor_ms(self, moved: int, flops: int) -> float:
        """No implementation that moves `moved` bytes and makes `flops` operations takes fewer milliseconds."""
        return 1e3 * max(moved / self.bandwidth, flops / self.flops)


@lru_cache
def peaks(device: str, dtype: torch.dtype) -> Peaks:
    """The best of a few copies too large for any cache, and of a few square matmuls in `dtype`."""
    large = torch.zeros(2**28 if device == "cuda" else 2**26, dtype=torch.uint8, device=device)
    other = torch.empty_like(large)
    side = 8192 if device == "cuda" else 2048
    square = torch.ones(side, side, dtype=dtype, device=device)
    copy = min(durations(lambda: other.copy_(large), device, 0.5))
    matmul = min(durations(lambda: square @ square, device, 0.5))
    return Peaks(2 * large.numel() / copy, 2 * side**3 / matmul)


def measure(run: Callable[[], object], device: str, seconds: float) -> tuple[float, float, float]:
    """The 20th, 50th and 80th percentile of the milliseconds of one call, after one that is not counted."""
    run()
    times = [1e3 * duration for duration in durations(run, device, seconds)]
    fast, _, _, slow = quantiles(times, n=5, method="inclusive")
    return fast, median(times), slow


def durations(run: Callable[[], object], device: str, seconds: float) -> list[float]:
    """Seconds of each call, for about `seconds`: at least 5 calls, or 2 where one takes longer than all of it."""
    times: list[float] = []
    while len(times) < (2 if times and times[0] > seconds else 5) or sum(times) < seconds:
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return times


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peak_mib(run: Callable[[], object], device: str) -> float | None:
    """MiB that one call adds to what is in use at its highest; None where the system cannot tell."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    peak = PeakMemory(torch.device(device))
    run()
    return peak.mib()


def free_bytes(device: str) -> float:
    """What a run may still take; on the CPU as the system reckons, infinite where it does not say."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    memory = Path("/proc/meminfo")
    lines = memory.read_text().splitlines() if memory.exists() else []
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), float("inf"))


def device_name(device: str) -> str:
    """A CPU's with its vector instructions: one name is sold with and without AVX-512."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine())
    return f"{name} {torch.backends.cpu.get_cpu_capability()}"


def save(rows: Iterator[dict[str, Any]] | list[dict[str, Any]], folder: Path, device: str) -> None:
    """Append each row to <device>.jsonl as it comes, with what it takes to repeat it."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    where = dict(
        device=device_name(device),
        torch=torch.__version__,
        triton=triton.__version__,
        python=platform.python_version(),
        commit=commit,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        with open(_results(folder, device), "a") as file:
            file.write(json.dumps(row | where) + "\n")


def rows(folder: Path, device: str) -> list[dict[str, Any]]:
    """All rows of this device, in the order they were saved."""
    return [json.loads(line) for line in _results(folder, device).read_text().splitlines()]


def _results(folder: Path, device: str) -> Path:
    name = "".join(c if c.isalnum() else "-" for c in device_name(device).lower())
    return folder / f"{name}.jsonl"
