"""Memory and step time of the four policies of `ssmvid.memory`, against layers and length.

python benchmarks/memory.py              # a small MultiScan on this machine: rows, docs/memory.png
python benchmarks/memory.py --published  # the plan for the two sizes of Video-Ma2mba, computed; nothing of it is run
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine
import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

import ssmvid
from ssmvid.memory import Cells, Costs, SavedBytes, measure_costs, plan, run
from ssmvid.memory.budget import plan_from

ROOT = Path(__file__).resolve().parent.parent
SMALL = dict(dim=64, num_classes=0, img_size=64, tubelet=(1, 8, 8), state_size=16, head_dim=32, registers=0)
FRAME = 64  # tokens a frame
LENGTHS, DEPTH = (1024, 2048, 4096, 8192), 8  # tokens; layers of the sweep over them
DEPTHS, LENGTH = (4, 8, 16, 32), 2048
TIMED = (DEPTH, 8192)
# Width, layers, tokens: arXiv:2411.19460, section 4.1 and table 3.
PUBLISHED = {"370M": (1024, 48, 2**21), "2.7B": (2560, 64, 2**19)}
BUDGET = 80e9
SHOWN = ("off", "every_layer", "nested_sqrt", "multi_axis x2", "multi_axis")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=0.0, help="on one timing, about; at least 5 runs")
    args = parser.parse_args()
    if args.published:
        print("\n\n".join(published(args.device)))
        return
    torch.set_num_threads(1)
    rows = list(measured(args.device, args.seconds))
    machine.save(rows, ROOT / "benchmarks" / "results", args.device)
    draw(rows, ROOT / "docs" / "memory.png")


def measured(device: str, seconds: float) -> Iterator[dict[str, Any]]:
    for depth, tokens in dict.fromkeys([*((DEPTH, l) for l in LENGTHS), *((d, LENGTH) for d in DEPTHS)]):
        torch.manual_seed(0)
        model = make(depth).to(device)
        clip = torch.randn(1, 3, tokens // FRAME, 64, 64, device=device)
        first = None
        for name, cells, planned in cuts(model, clip):
            with SavedBytes([clip, *model.parameters()]) as saved:
                loss(model, clip, cells)
            row: dict[str, Any] = dict(
                op="memory", policy=name, layers=depth, l=tokens, d=64, cut=dataclasses.asdict(cells), dtype="float32",
                saved_mib=saved.total / 2**20, planned_mib=planned / 2**20,
            )  # fmt: skip
            if (depth, tokens) == TIMED:
                step = lambda cells=cells: loss(model, clip, cells).backward()
                fast, median, slow = machine.measure(step, device, seconds)
                first = first or median
                row |= dict(step_ms=median, p20=fast, p80=slow, times_off=median / first, threads=1)
                row["peak_mib"] = machine.peak_mib(step, device)
            print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)
            yield row


def make(depth: int) -> nn.Module:
    return ssmvid.create_model("multiscan_tiny", **SMALL, depth=depth, hybrid="MMMW", causal_frames=1, window=2)


def cuts(model: nn.Module, clip: Tensor) -> Iterator[tuple[str, Cells, float]]:
    """The cut of each policy and what it is planned to keep; of multi_axis the least, and for twice as many bytes."""
    size = (1, *clip.shape[2:])
    least = plan(model, size)
    yield from ((row.policy, row.cells, row.total) for row in least.rows if row.cells)
    twice = plan(model, size, budget=2 * least["multi_axis"].total)["multi_axis"]
    yield "multi_axis x2", twice.cells or Cells(None), twice.total


def loss(model: nn.Module, clip: Tensor, cells: Cells) -> Tensor:
    return run(model, clip, lambda x, at: x.square().sum(), cells=cells)


def published(device: str) -> Iterator[str]:
    """A stack of Mamba-2 of each size in bf16, tokens of 576 a segment; costs are those of two of its layers."""
    for name, (dim, depth, tokens) in PUBLISHED.items():
        frames = -(-tokens // 576)
        model = ssmvid.create_model(
            "multiscan_tiny", dim=dim, depth=2, hybrid="M", orders=["thw"], schedule="same", causal_frames=1,
            registers=0, num_classes=0, img_size=384, state_size=128, head_dim=64,
        ).to(device, torch.bfloat16)  # fmt: skip
        whole, chunked = (
            deeper(measure_costs(model, (1, frames, 384, 384), streaming=streaming), depth)
            for streaming in (False, True)
        )
        yield f"{name}, {tokens:,} tokens, least:\n{plan_from(whole, chunked)}"
        weights = sum(parameter.numel() for parameter in model.layers.parameters()) * depth / 2
        room = (
            BUDGET - 16 * weights
        )  # mixed precision with AdamW: bf16 weights and gradients, fp32 copy and two moments
        yield f"{name}, within {room / 1e9:.1f} GB: 80 less weights, gradients and AdamW's state\n" + str(
            plan_from(whole, chunked, budget=room)
        )


def deeper(costs: Costs, depth: int) -> Costs:
    """The costs of so many layers like the last one."""
    state = costs.state * depth / costs.layers
    return dataclasses.replace(costs, state=state, inside=costs.inside[-1:] * depth, fixed=costs.fixed[-1:] * depth)


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for name in SHOWN:
        for axes, key, fixed in ((left, "l", ("layers", DEPTH)), (right, "layers", ("l", LENGTH))):
            line = [(row[key], row["saved_mib"]) for row in rows if row["policy"] == name and row[fixed[0]] == fixed[1]]
            axes.plot(*zip(*sorted(line)), marker="o", label=name)
    left.set(xlabel=f"tokens, {DEPTH} layers", ylabel="MiB kept for the backward", xscale="log", yscale="log")
    right.set(xlabel=f"layers, {LENGTH} tokens", xscale="log")
    left.legend(fontsize=8)
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
