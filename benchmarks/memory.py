"""Memory and step time of the four policies of `ssmvid.memory`, against layers and length.

python benchmarks/memory.py                      # a small MultiScan on this machine: rows, docs/memory.png
python benchmarks/memory.py --long 16384 65536   # a step at each of these lengths: rows
python benchmarks/memory.py --slopes             # of the rows of --long: the table, slopes, docs/memory_long.png
python benchmarks/memory.py --published          # the plan for the two sizes of Video-Ma2mba, computed; nothing is run
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import machine
import matplotlib.pyplot as plt
import torch
from plots import exponent
from torch import Tensor, nn

import ssmvid
from ssmvid.memory import Cells, Costs, SavedBytes, measure_costs, plan, run
from ssmvid.memory.budget import plan_from
from ssmvid.memory.cells import TOKENS

ROOT = Path(__file__).resolve().parent.parent
SMALL = dict(dim=64, num_classes=0, img_size=64, tubelet=(1, 8, 8), state_size=16, head_dim=32, registers=0)
FRAME = 64  # tokens a frame
LENGTHS, DEPTH = (1024, 2048, 4096, 8192), 8  # tokens; layers of the sweep over them
DEPTHS, LENGTH = (4, 8, 16, 32), 2048
LONG_DEPTH = 4  # layers, as experiment=long_video has
TIMED, ROUNDS = (DEPTH, 4096), 3
# Width, layers, tokens: arXiv:2411.19460, section 4.1 and table 3.
PUBLISHED = {"370M": (1024, 48, 2**21), "2.7B": (2560, 64, 2**19)}
BUDGET = 80e9
SHOWN = ("off", "every_layer", "nested_sqrt", "token_chunks", "multi_axis x2", "multi_axis")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--long", type=int, nargs="+", metavar="TOKENS")
    parser.add_argument("--policies", nargs="+", default=SHOWN, choices=SHOWN)
    parser.add_argument("--slopes", action="store_true")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    results = ROOT / "benchmarks" / "results"
    if args.published:
        print("\n\n".join(published(args.device)))
        return
    if args.slopes:
        report(machine.rows(results, args.device), ROOT / "docs" / "memory_long.png")
        return
    torch.set_num_threads(1)
    if args.long:
        machine.save(lengthened(args.long, args.policies, args.device), results, args.device)
        return
    rows = list(measured(args.device))
    machine.save([*rows, *timed(args.device)], results, args.device)
    draw(rows, ROOT / "docs" / "memory.png")


def measured(device: str) -> Iterator[dict[str, Any]]:
    """A row a policy, length and depth; peak memory where the step is timed, too."""
    for depth, tokens in dict.fromkeys([*((DEPTH, l) for l in LENGTHS), *((d, LENGTH) for d in DEPTHS)]):
        model, clip = make(depth, tokens, device)
        for name, cells, planned in cuts(model, clip):
            with SavedBytes([clip, *model.parameters()]) as saved:
                loss(model, clip, cells)
            sizes = dict(saved_mib=saved.total / 2**20, planned_mib=planned / 2**20)
            yield described(name, depth, tokens, cells) | sizes
            print(name, depth, tokens, cells, sizes, flush=True)


def timed(device: str) -> Iterator[dict[str, Any]]:
    """A row a policy: seconds of a step, the least of some rounds. On the CPU they are those of its own thread."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    model, clip = make(*TIMED, device)
    cut = list(cuts(model, clip))
    seconds: dict[str, list[float]] = {name: [] for name, *_ in cut}
    for _ in range(ROUNDS):
        for name, cells, _ in cut:
            machine.synchronize(device)
            start = clock()
            train(model, clip, cells)
            machine.synchronize(device)
            seconds[name].append(clock() - start)
    for name, cells, _ in cut:
        times = dict(step_s=min(seconds[name]), times_off=min(seconds[name]) / min(seconds["off"]), threads=1)
        peak = machine.peak_mib(partial(train, model, clip, cells), device)
        yield described(name, *TIMED, cells) | times | dict(peak_mib=peak)
        print(name, TIMED, cells, times, peak, flush=True)


def lengthened(lengths: list[int], policies: list[str], device: str) -> Iterator[dict[str, Any]]:
    """A row a length and policy, of one step; of a policy that would keep more than is free, without a time."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    train(*make(LONG_DEPTH, 256, device), Cells(1, 1))  # compiles
    for tokens in lengths:
        model, clip = make(LONG_DEPTH, tokens, device)
        for name, cells, planned in cuts(model, clip):
            if name not in policies:
                continue
            row = described(name, LONG_DEPTH, tokens, cells) | dict(op="memory_long", planned_mib=planned / 2**20)
            if planned < 0.7 * machine.free_bytes(device):  # passing tensors and gradients take their part
                start = clock()
                peak = machine.peak_mib(partial(train, model, clip, cells), device)
                seconds = clock() - start
                row |= dict(step_s=seconds, tokens_per_s=tokens / seconds, peak_mib=peak, threads=1)
            model.zero_grad()
            print(row, flush=True)
            yield row


def described(name: str, depth: int, tokens: int, cells: Cells) -> dict[str, Any]:
    cut = dataclasses.asdict(cells)
    return dict(op="memory", policy=name, layers=depth, l=tokens, d=SMALL["dim"], cut=cut, dtype="float32")


def make(depth: int, tokens: int, device: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    options = SMALL | dict(depth=depth, hybrid="MMMW", causal_frames=1, window=2)
    model = ssmvid.create_model("multiscan_tiny", **options).to(device)
    return model, torch.randn(1, 3, tokens // FRAME, 64, 64, device=device)


def cuts(model: nn.Module, clip: Tensor) -> Iterator[tuple[str, Cells, float]]:
    """The cut of each policy and what it is planned to keep; of multi_axis the least, and for twice as many bytes."""
    size = (1, *clip.shape[2:])
    least = plan(model, size)
    yield from ((row.policy, row.cells, row.total) for row in least.rows if row.cells)
    twice = plan(model, size, budget=2 * least["multi_axis"].total)["multi_axis"]
    yield "multi_axis x2", twice.cells or Cells(None), twice.total


def loss(model: nn.Module, clip: Tensor, cells: Cells) -> Tensor:
    return run(model, clip, lambda x, at: x.square().sum(), cells=cells)


def train(model: nn.Module, clip: Tensor, cells: Cells) -> None:
    loss(model, clip, cells).backward()


def published(device: str) -> Iterator[str]:
    """A stack of Mamba-2 of each size in bf16, tokens of 576 a segment; costs are those of two of its layers."""
    for name, (dim, depth, tokens) in PUBLISHED.items():
        frames = -(-tokens // 576)
        model = ssmvid.create_model(
            "multiscan_tiny", dim=dim, depth=2, hybrid="M", orders=["thw"], schedule="same", causal_frames=1,
            registers=0, num_classes=0, img_size=384, state_size=128, head_dim=64,
        ).to(device, torch.bfloat16)  # fmt: skip
        size = (1, frames, 384, 384)
        looks: tuple[dict[str, Any], ...] = ({}, dict(tokens=TOKENS), dict(streaming=True))
        costs = [deeper(measure_costs(model, size, **look), depth) for look in looks]
        yield f"{name}, {tokens:,} tokens, least:\n{plan_from(*costs)}"
        weights = sum(parameter.numel() for parameter in model.layers.parameters()) * depth / 2
        room = (
            BUDGET - 16 * weights
        )  # mixed precision with AdamW: bf16 weights and gradients, fp32 copy and two moments
        yield f"{name}, within {room / 1e9:.1f} GB: 80 less weights, gradients and AdamW's state\n" + str(
            plan_from(*costs, budget=room)
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


def report(rows: list[dict[str, Any]], file: Path) -> None:
    """The rows of `lengthened` as a table of tokens a second and peaks, their slopes against length, and a plot."""
    rows = [row for row in rows if row["op"] == "memory_long"]
    lengths = sorted({row["l"] for row in rows})
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    print("| policy | " + " | ".join(f"{l:,}" for l in lengths) + " | slope of peak | of time |")
    print("|---" * (len(lengths) + 3) + "|")
    for name in SHOWN:
        own = {row["l"]: row for row in rows if row["policy"] == name}
        run = [own[l] for l in lengths if l in own and "step_s" in own[l]]
        if not run:
            continue
        for axes, key in ((left, "peak_mib"), (right, "step_s")):
            axes.plot([row["l"] for row in run], [row[key] for row in run], marker="o", label=name)
        shown = [cell(own[l]) if l in own else "" for l in lengths]
        print(f"| `{name}` | {' | '.join(shown)} | {slope(run, 'peak_mib'):.2f} | {slope(run, 'step_s'):.2f} |")
    both = dict(xlabel=f"tokens, {LONG_DEPTH} layers", xscale="log", yscale="log")
    left.set(ylabel="MiB that a step adds at its peak", **both)
    right.set(ylabel="CPU seconds of a step", **both)
    left.legend(fontsize=8)
    figure.savefig(file, dpi=120)


def cell(row: dict[str, Any]) -> str:
    if "step_s" not in row:
        return f"not run: keeps {row['planned_mib']:,.0f} MiB"
    return f"{row['peak_mib']:,.0f} MiB, {row['tokens_per_s']:,.0f}/s"


def slope(rows: list[dict[str, Any]], key: str) -> float:
    """The exponent of a number against the length."""
    return exponent([row["l"] for row in rows], [row[key] for row in rows])


if __name__ == "__main__":
    main()
