"""Where the tokens of a sequence of words and soft tokens stand, for a language model that turns by position."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ROPE_BASE = 10000.0
AXES = 3
# What V2PE is trained with, one drawn for each clip; 1 is the language model's own positions.
V2PE_DELTAS = tuple(2.0**-i for i in range(9))


def token_positions(visual: Tensor, delta: float | Tensor = 1.0) -> Tensor:
    """V2PE: a word stands 1 after the token before it, a soft token `delta`; the first token at 0.

    With delta 1 they are the language model's own, 0 to l - 1. The released code rounds up behind each clip.

    Args:
        visual: (b, l), True for soft tokens.
        delta: step of a soft token, > 0; one for all, or (b,).

    Returns:
        float64 (b, l), rising; for Hugging Face's models `position_ids`.

    Raises:
        ValueError: a delta is not positive.

    Source: Ge et al. 2024 (V2PE), arXiv:2412.09616, section 3.2.

    >>> model(inputs_embeds=embedded, position_ids=token_positions(ids == placeholder, delta=1 / 16))
    """
    steps = torch.as_tensor(delta, dtype=torch.float64, device=visual.device)
    if not (steps > 0).all():
        raise ValueError(f"token_positions: delta must be > 0, got {delta}")
    steps = torch.where(visual, steps.view(-1, 1), 1.0)
    return steps.cumsum(1) - steps[:, :1]


def rotary_table(positions: Tensor, dim: int, *, base: float = ROPE_BASE) -> tuple[Tensor, Tensor]:
    """The cosines and sines that queries and keys of a head are turned by.

    Args:
        positions: (b, l), whole or not.
        dim: channels of a head, even; channel i is turned with channel i + dim / 2.
        base: what the slowest turn is slow by.

    Returns:
        Cosines and sines, fp32 (b, l, dim); in Hugging Face's models `position_embeddings`.

    Source: Su et al. 2021 (RoPE), arXiv:2104.09864, section 3.2.2, with the halves of Llama's released code.
    """
    rates = base ** -(torch.arange(0, dim, 2, dtype=torch.float64, device=positions.device) / dim)
    angles = (positions[..., None].double() * rates).repeat(1, 1, 2)
    return angles.cos().float(), angles.sin().float()


def absolute_positions(positions: Tensor, dim: int) -> Tensor:
    """Sines and cosines to add to soft tokens: where in the video each lies, by second, row and column.

    Args:
        positions: (b, m, 3), as `VisualTokenEncoder` gives them.
        dim: width of a soft token; each axis has 2 * (dim // 6) channels, what is left over is zero.

    Returns:
        fp32 (b, m, dim).

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5, one axis after another.
    """
    channels = 2 * (dim // (2 * AXES))
    rates = ROPE_BASE ** -(torch.arange(0, channels, 2, dtype=torch.float64, device=positions.device) / channels)
    angles = positions[..., None].double() * rates  # (b, m, 3, channels / 2)
    table = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(2)
    return F.pad(table, (0, dim - table.shape[-1])).float()
