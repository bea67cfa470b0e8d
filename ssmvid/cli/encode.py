"""Encode a video of any length to visual tokens, in memory that does not grow with the file."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

import ssmvid
from ssmvid.backbones import load_checkpoint
from ssmvid.data import eval_transform, probe
from ssmvid.encode import iter_tokens, write_tokens


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", type=Path, help="a local video file")
    parser.add_argument("--model", required=True, help="a name of `ssmvid models`")
    parser.add_argument("--out", required=True, type=Path, help="the safetensors file to write")
    parser.add_argument("--checkpoint", type=Path, help="weights of the model (.safetensors or .pth); random without it")
    parser.add_argument("--fps", type=float, default=4.0, help="frames taken a second (default 4)")
    parser.add_argument("--frames", type=int, help="frames of a clip (default: what the model is made for)")
    parser.add_argument("--size", type=int, help="rows and columns of pixels (default: what the model is made for)")
    parser.add_argument("--device", help="cpu, cuda ... (default: a GPU where there is one)")


def run(args: argparse.Namespace) -> int:
    info = probe(args.video)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = ssmvid.create_model(args.model)
    cfg = model.pretrained_cfg
    if args.checkpoint:
        load_checkpoint(model, args.checkpoint)
    else:
        print("ssmvid encode: no --checkpoint, so the weights are random: good for a test of speed only")
    model.reset_classifier(0)
    model.to(device).eval()
    frames, size = args.frames or model.num_frames, args.size or cfg["input_size"][-1]
    clips = iter_tokens(
        model,
        args.video,
        fps=args.fps,
        frames=frames,
        transform=eval_transform(size=size, mean=cfg["mean"], std=cfg["std"]),
    )
    expected = None if info.duration_s is None else max(1, round(info.duration_s * args.fps / frames))
    metadata = dict(
        model=args.model, video=args.video.name, fps=str(args.fps), size=str(size), checkpoint=str(args.checkpoint or "")
    )
    shape = write_tokens(tqdm(clips, total=expected, unit="clip"), args.out, metadata)
    print(f"{args.out}: tokens {shape} (t, h, w, d), times ({shape[0]},)")
    return 0
