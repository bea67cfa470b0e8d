"""Hybrid patterns: which mixer each layer has, as one string over depth."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ssmvid.mixers.attention import Attention
from ssmvid.mixers.mamba import Mamba
from ssmvid.mixers.mamba2 import Mamba2
from ssmvid.mixers.mlp import MLP
from ssmvid.scan import ScanPattern, patterns_by_layer

LETTERS = {
    "M": "Mamba-2 (SSD)",
    "S": "Mamba (selective scan)",
    "A": "attention over all tokens, or all segments before",
    "W": "attention over a window of frames",
    "F": "MLP",
}
SCANS = "MS"


def hybrid_pattern(pattern: str, depth: int) -> str:
    """The letter of each of `depth` layers: the pattern again and again.

    `M`: a pure Mamba-2; `MMMA`: one layer in four attends; `SFWF` is Samba's (Ren et al. 2024, arXiv:2406.07522),
    `SF` * i + `AF` * j a stage of MambaVision's (Hatamizadeh & Kautz 2024, arXiv:2407.08083, attention in its last
    layers).

    Raises:
        ValueError: the pattern is empty, a letter is unknown, or depth is no multiple of its length.
    """
    unknown = sorted(set(pattern) - set(LETTERS))
    if unknown or not pattern:
        known = ", ".join(f"{letter} {meaning}" for letter, meaning in LETTERS.items())
        raise ValueError(f"hybrid pattern {pattern!r}: expected letters of {known}; got {', '.join(unknown) or 'none'}")
    if depth % len(pattern):
        raise ValueError(
            f"hybrid pattern {pattern!r}: depth must be a multiple of its {len(pattern)} letters, got {depth}"
        )
    return pattern * (depth // len(pattern))


def hybrid_mixers(
    letters: str,
    dim: int,
    *,
    orders: Sequence[str] | Sequence[Sequence[str]],
    schedule: str = "same",
    causal_frames: int | None = None,
    window: int | None = None,
    state_size: int = 128,
    expand: int = 2,
    head_dim: int = 64,
) -> list[nn.Module]:
    """The mixer of each layer.

    Args:
        letters: one a layer, as `hybrid_pattern` gives them.
        dim: width of a token.
        orders: the scan orders of every scanning layer, or several such lists, for `schedule`.
        schedule: which list a scanning layer takes, counted among the scanning ones; as in `patterns_by_layer`.
        causal_frames: frames of a segment, for layers that are causal in time.
        window: frames of the window of `W`; as in `Attention`.
        state_size: n of `M`; `S` has 16.
        expand: inner width over `dim`, of `M` and `S`.
        head_dim: channels of a head, of `M`, `A` and `W`.

    Raises:
        ValueError: an order or schedule is unknown, sizes do not fit, or `W` has no window.
    """
    if "W" in letters and window is None:
        raise ValueError("hybrid pattern: letter W needs a window, in frames, got None")
    scans = patterns_by_layer(orders, schedule, sum(letters.count(letter) for letter in SCANS))
    patterns = iter(ScanPattern(scan.orders, scan.merge, scan.place, causal_frames) for scan in scans)

    def make(letter: str) -> nn.Module:
        match letter:
            case "M":
                return Mamba2(dim, pattern=next(patterns), state_size=state_size, expand=expand, head_dim=head_dim)
            case "S":
                return Mamba(dim, pattern=next(patterns), expand=expand)
            case "A":
                return Attention(dim, head_dim=head_dim, causal_frames=causal_frames)
            case "W":
                return Attention(dim, head_dim=head_dim, causal_frames=causal_frames, window=window)
        return MLP(dim)

    return [make(letter) for letter in letters]
