"""The most memory a run held."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

_MIB = 2**20
_STATUS, _MARKS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """The most memory since the last look: on a GPU all that torch allocated, on the CPU what the process has added.

    Args:
        device: what to look at. On the CPU what the process holds now is not counted.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cpu" and _MARKS.exists():
            ctypes.CDLL(None).malloc_trim(0)  # freed memory that is still resident would hide what is added
            self._before = _resident("VmRSS")
        self._restart()

    def mib(self) -> float | None:
        """MiB; None where the system cannot tell."""
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device) / _MIB
        elif self.device.type == "cpu" and _MARKS.exists():
            peak = (_resident("VmHWM") - self._before) / 1024
        else:
            return None
        self._restart()
        return peak

    def _restart(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif self.device.type == "cpu" and _MARKS.exists():
            _MARKS.write_text("5")  # the high-water mark falls to what is resident now


def _resident(name: str) -> int:
    """A line of the process's status, KiB."""
    return next(int(line.split()[1]) for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
