"""A video of any length to visual tokens, clip by clip: memory is bounded by the clip, not by the file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ssmvid.data import iter_frames
from ssmvid.scan import Grid

# safetensors: 8 bytes of header length, the header, the data. Its size is kept free until the shapes are known.
HEADER_BYTES = 4096


class ClipTokens(NamedTuple):
    """`tokens` (t, h, w, d) of one clip, and `times` (t,): seconds of the first frame of each row of tokens."""

    tokens: Tensor
    times: Tensor


def iter_tokens(
    model: torch.nn.Module,
    path: str | Path,
    *,
    fps: float,
    frames: int,
    transform: Callable[[Tensor], Tensor],
) -> Iterator[ClipTokens]:
    """Encode a video, `frames` frames at a time.

    Args:
        model: a backbone with `forward_tokens`; it is used as it stands (device, dtype, eval).
        path: a local video file.
        fps: frames taken a second.
        frames: frames of a clip; the last clip is shorter where the video ends, down to a multiple of the tubelet:
            then its last frame is repeated up to one.
        transform: uint8 (T, c, H, W) to the model's input (c, T, H, W).

    Yields:
        ClipTokens, on the CPU, in the model's dtype.

    Raises:
        VideoError: the file is no usable video; kind and hint say why.
        ValueError: `frames` does not fit the model's tubelet.
    """
    step = model.patch_embed.tubelet[0]
    if frames < 1 or frames % step:
        raise ValueError(f"encode: frames must be a multiple of the model's tubelet ({step} frames), got {frames}")
    parameter = next(model.parameters())
    for clip, times in _clips(iter_frames(path, fps=fps), frames, step):
        with torch.inference_mode():
            tokens, grid = model.forward_tokens(transform(clip)[None].to(parameter))
        yield ClipTokens(_on_grid(tokens[0], grid).cpu(), times[::step])


def _clips(shown: Iterable[tuple[Tensor, float]], frames: int, step: int) -> Iterator[tuple[Tensor, Tensor]]:
    """uint8 (T, c, H, W) and its times (T,), T = frames but for the last."""
    images: list[Tensor] = []
    times: list[float] = []
    for image, time in shown:
        images.append(image)
        times.append(time)
        if len(images) == frames:
            yield torch.stack(images), torch.tensor(times)
            images, times = [], []
    if images:
        short = -len(images) % step
        images, times = images + images[-1:] * short, times + times[-1:] * short
        yield torch.stack(images), torch.tensor(times)


def _on_grid(tokens: Tensor, grid: Grid) -> Tensor:
    return tokens.unflatten(0, (grid.t, grid.h, grid.w))


def write_tokens(clips: Iterable[ClipTokens], out: str | Path, metadata: dict[str, str]) -> tuple[int, ...]:
    """Write the clips one after the other as one safetensors file: `tokens` (t, h, w, d) and `times` (t,).

    The file takes its name only when it is whole; one clip is in memory at a time.

    Returns:
        The shape of `tokens`.

    Raises:
        OSError: `out` cannot be written.
        ValueError: two clips differ in h, w or d.
    """
    out = Path(out)
    partial = out.with_name(f".{out.name}.partial")
    shape: tuple[int, ...] = ()
    times: list[Tensor] = []
    try:
        with open(partial, "wb") as file:
            file.seek(HEADER_BYTES)
            for tokens, clip_times in clips:
                if shape and tuple(tokens.shape[1:]) != shape[1:]:
                    raise ValueError(f"encode: a clip has tokens {tuple(tokens.shape)}, the ones before it {shape}")
                shape = (tokens.shape[0] + (shape[0] if shape else 0), *tokens.shape[1:])
                file.write(tokens.float().contiguous().numpy().tobytes())
                times.append(clip_times.float())
            file.write(torch.cat(times).numpy().tobytes() if times else b"")
            file.seek(0)
            file.write(_header(shape, metadata))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return shape


def _header(shape: tuple[int, ...], metadata: dict[str, str]) -> bytes:
    """The first HEADER_BYTES of the file; the format lets a header end in spaces."""
    size = 4 * torch.Size(shape).numel()
    header = {
        "__metadata__": metadata,
        "tokens": {"dtype": "F32", "shape": list(shape), "data_offsets": [0, size]},
        "times": {"dtype": "F32", "shape": [shape[0]], "data_offsets": [size, size + 4 * shape[0]]},
    }
    room = HEADER_BYTES - 8
    return room.to_bytes(8, "little") + json.dumps(header).encode().ljust(room)
