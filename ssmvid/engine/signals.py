"""A signal asks a run to stop; the run does so at the next step, with a checkpoint."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopFlag:
    """Remembers, inside its `with` block, the first SIGTERM, SIGINT or SIGUSR1.

    The handler does nothing else: what it interrupts (an allocation, a write, a collective) must not be entered again.
    A second SIGINT raises KeyboardInterrupt, for a user who will not wait.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopFlag:
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
