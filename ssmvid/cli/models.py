"""List the models, with their parameters."""

from __future__ import annotations

import argparse

import torch

import ssmvid
from ssmvid.backbones.build import suggest
from ssmvid.registry import create_backbone


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", default="*", help="shell pattern of names, such as 'videomamba_*'")


def run(args: argparse.Namespace) -> int:
    """A line a model.

    Raises:
        ValueError: no name matches.
    """
    names = ssmvid.list_models(args.pattern)
    if not names:
        known = ssmvid.list_models()
        hint = suggest(args.pattern, known) or f"known are {', '.join(known)}"
        raise ValueError(f"no model's name matches {args.pattern!r}: {hint}")
    print(f"{'model':32} {'parameters':>12} {'width':>6} {'frames':>7} {'pixels':>9}")
    for name in names:
        with torch.device("meta"):  # sizes without memory
            model = create_backbone(name)
        count = sum(parameter.numel() for parameter in model.parameters())
        _, height, width = model.pretrained_cfg["input_size"]
        print(f"{name:32} {count:12,} {model.num_features:6} {model.num_frames:7} {f'{height} x {width}':>9}")
    return 0
