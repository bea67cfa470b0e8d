"""What a mixer that is causal in time carries from one segment of a stream to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from ssmvid.scan import Grid, ScanPattern


class MambaState(NamedTuple):
    """Of a scan, k paths; fp32 (fp64 where the parameters are).

    `conv` (b, k, d, width - 1): the last inputs of each path's convolution.
    `ssm`: the state of each path's scan, (b, k, d, n) for S6, (b, k, heads, p, n) for SSD.
    """

    conv: Tensor
    ssm: Tensor


class KeyValues(NamedTuple):
    """Of windowed attention: the last `l` keys and values.

    `k`, `v` (b, heads, l, p). `valid` (b, l): which of them a token has filled.
    """

    k: Tensor
    v: Tensor
    valid: Tensor


State = MambaState | KeyValues | tuple[()]


class StreamingMixer(Protocol):
    """A mixer that may be causal in time. Prefix tokens then lie before each segment, not before the grid."""

    def init_state(self, batch: int, grid: Grid, prefix: int = 0) -> State:
        """The state before the first segment of `batch` streams, a segment being of `grid` and `prefix` tokens.

        Raises:
            ValueError: the mixer is not causal in time, or its state would grow.
        """

    def step(self, tokens: Tensor, grid: Grid | Sequence[Grid], state: State) -> tuple[Tensor, State]:
        """The next segments of the streams mixed, one or several, and the state after them."""


def refuse_stream(mixer: nn.Module, pattern: ScanPattern) -> None:
    """Raise unless the pattern is causal in time."""
    if pattern.causal_frames is None:
        raise ValueError(
            f"{type(mixer).__name__}: cannot stream, as its scans go through all of time both ways or at once: "
            "set causal_frames, the frames of one segment of the stream"
        )
