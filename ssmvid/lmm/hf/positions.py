"""M-RoPE: where on three axes each token of a prompt with images and videos stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ssmvid.scan import Grid


class Span(NamedTuple):
    """Soft tokens that follow one another in a prompt, and how far apart in time their frames stand."""

    grid: Grid
    interval: float = 1.0


def multimodal_positions(ids: Tensor, mask: Tensor, spans: Mapping[int, Iterable[Span]]) -> Tensor:
    """Text goes on by one on all axes; a span spreads over time, rows and columns from there, and text follows its end.

    transformers' own (`get_rope_index`) differs between its versions: 5.5 gives all frames of a video one time, later
    ones begin the text after a long video amid that video's times.

    Args:
        ids: prompts (b, l).
        mask: True where they are not padded, (b, l).
        spans: by placeholder, those of all prompts in order.

    Returns:
        int64 (3, b, l); 0 where padded.

    Source: Wang et al. 2024 (Qwen2-VL), arXiv:2409.12191, section 2.1; the interval: Bai et al. 2025 (Qwen2.5-VL),
        arXiv:2502.13923, section 2.1.
    """
    left = {token: iter(own) for token, own in spans.items()}
    positions = torch.zeros(3, *ids.shape, dtype=torch.long)
    for row, (own, there) in enumerate(zip(ids.tolist(), mask.bool().cpu())):
        tokens, parts, at, i = [token for token, kept in zip(own, there) if kept], [], 0, 0
        while i < len(tokens):
            grid, interval = next(left[tokens[i]]) if tokens[i] in left else Span(Grid(1, 1, 1))
            t, h, w = torch.meshgrid([torch.arange(size) for size in grid], indexing="ij")
            parts.append(torch.stack([(t * interval).long(), h, w]).flatten(1) + at)
            at, i = int(parts[-1].max()) + 1, i + grid.length
        positions[:, row, there] = torch.cat(parts, dim=1)
    return positions.to(ids.device)
