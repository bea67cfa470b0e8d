"""Encode a video of any length to visual tokens, in memory that does not grow with the file."""

from __future__ import annotations

import argparse
import math
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import timm
import torch
from huggingface_hub.utils import logging as hub_logging
from tqdm import tqdm

from ssmvid.backbones import load_checkpoint
from ssmvid.backbones.base import Backbone
from ssmvid.data import eval_transform, probe
from ssmvid.encode import check_out, iter_tokens, write_tokens
from ssmvid.registry import create_backbone


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", type=Path, help="a local video file")
    parser.add_argument("--model", required=True, help="a name of `ssmvid models`")
    parser.add_argument("--out", required=True, type=Path, help="the .safetensors file to write")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--checkpoint", type=Path, help="a file of weights, .safetensors or .pth; random without it")
    weights.add_argument("--pretrained", action="store_true", help="load the official weights from the hub")
    parser.add_argument("--fps", type=float, default=4.0, help="frames taken a second (default 4)")
    parser.add_argument("--frames", type=int, help="frames of a clip (default: what the model is made for)")
    parser.add_argument("--size", type=int, help="rows and columns of pixels (default: what the model is made for)")
    parser.add_argument("--device", help="cpu, cuda ... (default: a GPU where there is one)")


def run(args: argparse.Namespace) -> int:
    """Write `tokens` (t, h, w, d) and `times` (t,).

    Raises:
        VideoError: the file is no usable video.
        ValueError, OSError, RuntimeError: an argument cannot be used; the message says which, and what to do.
    """
    check_out(args.out)
    info = probe(args.video)
    device = _device(args.device)
    model = _model(args.model, args.checkpoint, args.pretrained)
    model.to(device).eval()
    cfg = model.pretrained_cfg
    frames = model.num_frames if args.frames is None else args.frames
    size = cfg["input_size"][-1] if args.size is None else args.size
    transform = eval_transform(size=size, mean=cfg["mean"], std=cfg["std"])
    clips = iter_tokens(model, args.video, fps=args.fps, frames=frames, transform=transform)
    expected = None if info.duration_s is None else math.ceil(info.duration_s * args.fps / frames)
    metadata = {
        "model": args.model,
        "weights": "pretrained" if args.pretrained else str(args.checkpoint or "random"),
        "video": args.video.name,
        "fps": str(args.fps),
        "frames": str(frames),
        "size": str(size),
    }
    with _termination_raises():
        shape = write_tokens(tqdm(clips, total=expected, unit="clip", disable=None), args.out, metadata)
    print(f"{args.out}: tokens {shape} (t, h, w, d), times {shape[:1]}, float32")
    return 0


def _model(name: str, checkpoint: Path | None, pretrained: bool) -> Backbone:
    """The backbone with its weights and without a classifier: tokens come from before it."""
    model = _pretrained(name) if pretrained else create_backbone(name)
    model.reset_classifier(0)
    if checkpoint is not None:
        load_checkpoint(model, checkpoint, new_head=True)
    elif not pretrained:
        print("ssmvid: the weights are random: give --pretrained or --checkpoint FILE", file=sys.stderr)
    return model


def _pretrained(name: str) -> Backbone:
    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()  # it tells of each of its attempts; one message at the end says it all
    try:
        return create_backbone(name, pretrained=True)
    except OSError as error:  # of the network, the hub or its cache
        cfg = timm.get_pretrained_cfg(name)
        source = f"{cfg.hf_hub_id}, {cfg.hf_hub_filename}" if cfg else "the hub"
        raise OSError(
            f"the weights of {name} ({source}) could not be loaded: {str(error).strip()} "
            "Or copy the file here from where there is a network, and give it with --checkpoint."
        ) from None
    finally:
        hub_logging.set_verbosity(verbosity)


def _device(name: str | None) -> torch.device:
    """The device, once it has been shown to hold a tensor and give it back."""
    wanted = name or torch.accelerator.current_accelerator(check_available=True) or "cpu"
    try:
        device = torch.device(wanted)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:  # which one depends on what torch was built with
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"device {str(wanted)!r} cannot be used here ({reason}): see `ssmvid doctor`") from None
    return device


@contextmanager
def _termination_raises() -> Iterator[None]:
    """SIGTERM, inside the block, ends the program by an exception, as Ctrl-C does: what is half done is removed."""

    def stop(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
