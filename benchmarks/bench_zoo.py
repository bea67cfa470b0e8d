"""Milliseconds of a forward pass of every registered model, of one clip of the size it is made for, on this CPU.

python benchmarks/bench_zoo.py                       # all of them, minutes: then python docs/make_models.py
python benchmarks/bench_zoo.py vim_tiny vmamba_*     # those whose names match
"""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import measure, save
from torch import Tensor

import ssmvid
from ssmvid.backbones import Backbone

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))
from make_models import made_for, names  # noqa: E402

THREADS = 2
SECONDS = 1  # spent on one model, about; at least 5 passes, 2 where one takes longer


def timed(patterns: list[str]) -> Iterator[dict[str, Any]]:
    """A row a model."""
    for name in names():
        if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            continue
        model = ssmvid.create_model(name).eval()
        clip = torch.randn(1, model.patch_embed.channels, *made_for(model))
        fast, median, slow = measure(partial(forward, model, clip), "cpu", SECONDS)
        print(f"{name:34} {median:10.1f} ms  ({fast:.1f}-{slow:.1f})", flush=True)
        yield dict(op="zoo", model=name, threads=THREADS, dtype="float32", ms=median, p20=fast, p80=slow)


@torch.inference_mode()
def forward(model: Backbone, clip: Tensor) -> Tensor:
    return model.forward_head(model.forward_features(clip))


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    save(timed(sys.argv[1:] or ["*"]), ROOT / "benchmarks" / "results", "cpu")
