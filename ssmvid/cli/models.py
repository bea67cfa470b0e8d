"""List the models, with their parameters."""

from __future__ import annotations

import argparse

import torch

import ssmvid


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", default="*", help="shell pattern of names, such as 'videomamba_*'")


def run(args: argparse.Namespace) -> int:
    names = ssmvid.list_models(args.pattern)
    if not names:
        raise ValueError(f"no model's name matches {args.pattern!r}; known: {', '.join(ssmvid.list_models())}")
    print(f"{'model':28} {'parameters':>12} {'width':>6}  frames  pixels")
    for name in names:
        with torch.device("meta"):  # sizes without memory
            model = ssmvid.create_model(name)
        count = sum(parameter.numel() for parameter in model.parameters())
        size = model.pretrained_cfg["input_size"][-1]
        print(f"{name:28} {count:12,} {model.num_features:6}  {model.num_frames:6}  {size}")
    return 0
