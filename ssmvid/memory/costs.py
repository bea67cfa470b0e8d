"""What a stack keeps for its backward, by a look at two short clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from ssmvid.backbones.base import Backbone, Stream
from ssmvid.backbones.multiscan import MultiScan
from ssmvid.blocks import Block
from ssmvid.layers import token_chunks
from ssmvid.memory.cells import Costs
from ssmvid.memory.saved import SavedBytes

PROBE = 1024  # tokens: enough that what a scan keeps once a chunk is seen several times


def measure_costs(
    model: Backbone, size: tuple[int, int, int, int], *, streaming: bool = False, tokens: int | None = None
) -> Costs:
    """The bytes of each layer, from the tensors that it saves on clips of about 1024 and 2048 tokens.

    Args:
        model: on the device and in the dtype it is to train in.
        size: b, T, H, W of the clip, or of all that are packed.
        streaming: count layers that carry a state, segment by segment.
        tokens: count layers inside which parts are recomputed, as `Cells.tokens`.

    Raises:
        ValueError: `streaming`, and a layer is not causal in time.
    """
    batch, frames, height, width = size
    unit = frames_of_segment(model)
    segment = cast(Any, model.patch_embed.grid((unit, height, width))).length  # tokens
    count = -(-PROBE // segment)
    clips = [torch.zeros(1, model.patch_embed.channels, n * unit, height, width) for n in (count, 2 * count)]
    like = next(model.parameters())
    drawn_on = [like.device] if like.is_cuda else []
    with torch.random.fork_rng(drawn_on), token_chunks(tokens):  # stochastic depth draws in the looks, too
        short, long = (_look(model, clip.to(like), streaming) for clip in clips)
    slopes = [(b - a) / count for a, b in zip(short[0], long[0])]
    fixed = [max(2 * a - b, 0) for a, b in zip(short[0], long[0])]
    return Costs(
        segments=-(-frames // unit),
        boundary=batch * (long[1] - short[1]) / count,
        state=batch * long[2],
        inside=tuple(batch * slope for slope in slopes[1:-1]),
        fixed=tuple(number * (1 if tokens is None else batch) for number in fixed[1:-1]),  # then it is one chunk of all
        embed=batch * slopes[0],
        finish=batch * slopes[-1],
    )


def frames_of_segment(model: Backbone) -> int:
    """Frames of a clip that one segment takes; of one token where the model sees all of time."""
    causal = model.causal_frames if isinstance(model, MultiScan) else None
    return model.patch_embed.tubelet[0] * (causal or 1)


def _look(model: Backbone, clip: Tensor, streaming: bool) -> tuple[list[int], float, int]:
    """Bytes inside the embedding, each layer and the final norm; of a boundary, the mean; and of all states."""
    kept: list[int] = []
    boundary = 0

    def count(part: Callable[..., Any], *inputs: Any, known: Sequence[Tensor | None] = ()) -> Any:
        here = [clip, *model.parameters(), *(tensor for tensor in known if tensor is not None)]
        with torch.enable_grad(), SavedBytes(here) as saved:
            output = part(*inputs)
        kept.append(saved.total)
        return output

    states = cast(MultiScan, model).init_state(1, clip.shape[3:]) if streaming else None
    stream: Stream = count(model.embed, clip)
    for index, layer in enumerate(model.layers):
        known = stream[:2] if index else ()  # what was embedded is no boundary: it lies inside the first cell
        if states is None:
            stream = count(model.advance, index, stream, known=known)
        else:
            step, state = cast(Block, layer).step, states[index]
            tokens, residual, _ = count(step, *stream, state, known=(*known, *state))
            stream = Stream(tokens, residual, stream.grid)
        boundary += sum(tensor.nbytes for tensor in stream[:2] if tensor is not None)
    count(model.finish, stream, known=stream[:2])
    carried = sum(tensor.nbytes for state in states or () for tensor in state)
    return kept, boundary / len(model.layers), carried
