"""A video of any length to visual tokens, clip by clip: memory is bounded by the clip, not by the file."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ssmvid.backbones.base import Backbone
from ssmvid.data import iter_frames

SUFFIX = ".safetensors"
THREADS = 0  # of decoding: one a core
# What a header needs beside its metadata: two names, dtypes, shapes and offsets, each number at most 20 digits.
HEADER_ROOM = 512


class ClipTokens(NamedTuple):
    """`tokens` (t, h, w, d) of one clip, and `times` (t,): seconds of the first frame of each row of tokens."""

    tokens: Tensor
    times: Tensor


def iter_tokens(
    model: Backbone,
    path: str | Path,
    *,
    fps: float,
    frames: int,
    transform: Callable[[Tensor], Tensor],
) -> Iterator[ClipTokens]:
    """Encode a video, `frames` frames at a time.

    Args:
        model: a backbone; it is used as it stands (device, dtype, training or not).
        path: a local video file.
        fps: frames taken a second.
        frames: frames of a clip, a multiple of the model's tubelet. The last clip is shorter where the video ends;
            where that is no multiple, its last frame is repeated up to one.
        transform: uint8 (T, c, H, W) to the model's input (c, T, H, W), each frame by itself.

    Yields:
        ClipTokens, on the CPU, in the model's dtype.

    Raises:
        VideoError: the file is no usable video; kind and hint say why.
        ValueError: `frames` does not fit the model's tubelet, or fps is not positive.
    """
    step = model.patch_embed.tubelet[0]
    if frames < 1 or frames % step:
        raise ValueError(f"encode: frames must be a multiple of the model's tubelet ({step} frames), got {frames}")
    clips = _clips(iter_frames(path, fps=fps, threads=THREADS), frames, step, transform)
    return _encoded(model, clips, step)  # apart, so that a refusal comes with the call


def _encoded(model: Backbone, clips: Iterable[tuple[Tensor, Tensor]], step: int) -> Iterator[ClipTokens]:
    weight = next(model.parameters())
    for clip, times in clips:
        with torch.inference_mode():
            tokens, grid = model.forward_tokens(clip[None].to(weight))
        yield ClipTokens(tokens[0].unflatten(0, (grid.t, grid.h, grid.w)).cpu(), times[::step])


def _clips(
    shown: Iterable[tuple[Tensor, float]], frames: int, step: int, transform: Callable[[Tensor], Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """(c, T, H, W) and times (T,), T = frames but for the last clip."""
    images: list[Tensor] = []
    times: list[float] = []
    for image, time in shown:
        images.append(transform(image[None]))  # at once: the frames as decoded may be a hundred times as large
        times.append(time)
        if len(images) == frames:
            yield torch.cat(images, dim=1), torch.tensor(times)
            images, times = [], []
    if images:
        short = -len(images) % step
        yield torch.cat(images + images[-1:] * short, dim=1), torch.tensor(times + times[-1:] * short)


def check_out(out: str | Path) -> Path:
    """Refuse a file that could not be written, before any work is done for it.

    Raises:
        ValueError: its suffix is not .safetensors.
        FileNotFoundError: its folder is missing.
    """
    out = Path(out)
    if out.suffix != SUFFIX:
        raise ValueError(f"encode: the file to write must end in {SUFFIX}, got {str(out)!r}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"encode: there is no folder {str(out.parent)!r} to write {out.name} into: make it")
    if out.is_dir():
        raise IsADirectoryError(f"encode: {str(out)!r} is a folder: give the name of a file")
    return out


def write_tokens(clips: Iterable[ClipTokens], out: str | Path, metadata: Mapping[str, str]) -> tuple[int, ...]:
    """Write the clips one after the other as one safetensors file: `tokens` (t, h, w, d), `times` (t,), both float32.

    One clip is in memory at a time. The file takes its name only when it is whole and on the disk; whatever goes wrong
    before, an older file of that name stays as it was and nothing else is left.

    Args:
        clips: at least one, all with the same h, w and d.
        out: the file, *.safetensors.
        metadata: is kept in the file's header.

    Returns:
        The shape of `tokens`.

    Raises:
        OSError: `out` cannot be written.
        ValueError: another suffix, no clip, or two clips differ in h, w or d.
    """
    out = check_out(out)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    # The header comes first in the file, and is known last.
    room = 8 + -(-(len(_json({"__metadata__": dict(metadata)})) + HEADER_ROOM) // 8) * 8
    try:
        with open(partial, "wb") as file:
            file.seek(room)
            shape: tuple[int, ...] = ()
            # Not a tensor a clip: small blocks that stay would break up the memory in which clips come and go.
            times = array("f")
            for tokens, clip_times in clips:
                if shape and tokens.shape[1:] != shape[1:]:
                    raise ValueError(f"encode: a clip has tokens {tuple(tokens.shape)}, those before it {shape}")
                shape = (len(tokens) + (shape[0] if shape else 0), *tokens.shape[1:])
                file.write(_bytes(tokens))
                times.extend(clip_times.tolist())
            if not shape:
                raise ValueError("encode: there is no clip to write")
            file.write(times.tobytes())
            file.seek(0)
            file.write(_header(shape, metadata, room))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return shape


def _bytes(tensor: Tensor) -> bytes:
    return tensor.float().contiguous().numpy().tobytes()


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _header(shape: tuple[int, ...], metadata: Mapping[str, str], room: int) -> bytes:
    """The first `room` bytes of the file: the header's length, the header, and blanks, which the format allows.

    Source: https://github.com/huggingface/safetensors#format.
    """
    size = 4 * torch.Size(shape).numel()
    header = {
        "__metadata__": dict(metadata),
        "tokens": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]},
        "times": {"dtype": "F32", "shape": shape[:1], "data_offsets": [size, size + 4 * shape[0]]},
    }
    length = room - 8
    return length.to_bytes(8, "little") + _json(header).ljust(length)
