"""Which of two events came first? What each connector can tell of time when its soft tokens are then averaged.

    python benchmarks/planted_events.py                          # every connector, three seeds, minutes on one core
    python benchmarks/planted_events.py --connectors storm mlp --seeds 0

Tokens are noise; in each clip two shapes cross a few frames at different times, each with a code of its own. A linear
layer reads the mean of the soft tokens: what is no longer in a token itself is lost. Averages and merging alone leave
chance, 50 %. Writes docs/lmm/planted_events.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn

from ssmvid.lmm import Connector
from ssmvid.scan import Grid

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "lmm" / "planted_events.md"
GRID = Grid(12, 3, 4)
LENGTH = 3  # frames of an event
DIM = LLM_DIM = 16
NOISE = 0.3
LR = 1e-2
BATCH, HELD_OUT = 32, 1000
# What does not fit the small tokens of the task as the configs have it.
SMALL: dict[str, dict[str, object]] = {
    "mambamia": {"frame": 12, "patches": 4, "state_size": 16, "head_dim": 8},
    "perceiver": {"queries": 8, "depth": 2, "head_dim": 8},
    "tome": {"reducer": {"keep": 4}},
}


class Task(NamedTuple):
    """`codes` (2, d): what a token of each shape is, beside the noise."""

    codes: Tensor
    generator: torch.Generator

    def draw(self, batch: int) -> tuple[Tensor, Tensor]:
        """Tokens (batch, l, d), and whether shape 0 came first, int64 (batch,)."""
        label = torch.arange(batch) % 2
        number = lambda high: torch.randint(high, (batch,), generator=self.generator)
        first = number(GRID.t - 2 * LENGTH + 1)
        second = (
            first + LENGTH + (torch.rand(batch, generator=self.generator) * (GRID.t - 2 * LENGTH - first + 1)).long()
        )
        starts = torch.where(label.bool(), torch.stack([first, second]), torch.stack([second, first]))
        clip = NOISE * torch.randn(batch, *GRID, len(self.codes[0]), generator=self.generator)
        each = torch.arange(batch)
        for code, start in zip(self.codes, starts):
            row, column, down = number(GRID.h - 1), number(GRID.w), number(2)
            for i in range(LENGTH):  # two tokens, one above the other, moving by one a frame
                for below in (0, 1):
                    place = ((row + below + down * i) % GRID.h, (column + (1 - down) * i) % GRID.w)
                    clip[each, start + i, *place] += code
        return clip.flatten(1, 3), label


class Result(NamedTuple):
    """Of one run: soft tokens of a clip, parameters, accuracy on fresh clips in %."""

    tokens: int
    parameters: int
    accuracy: float


def make(name: str) -> Connector:
    """A connector of the config group, small."""
    with initialize_config_dir(str(ROOT / "hydra_configs"), version_base="1.3"):
        cfg = compose(f"connector/{name}")
    return instantiate(cfg.connector, dim=DIM, llm_dim=LLM_DIM, **SMALL.get(name, {}))


def run(name: str, seed: int, steps: int) -> Result:
    """Train a connector and a linear layer on the task, and count what they get right."""
    torch.manual_seed(seed)
    connector, head = make(name), nn.Linear(LLM_DIM, 2)
    task = Task(F.normalize(torch.randn(2, DIM), dim=-1) * DIM**0.5, torch.Generator().manual_seed(seed))
    both = nn.ModuleList([connector, head])
    optimizer = torch.optim.AdamW(both.parameters(), lr=LR, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    logits = lambda tokens: head(connector(tokens, GRID).tokens.mean(1))
    for _ in range(steps):
        tokens, label = task.draw(BATCH)
        loss = F.cross_entropy(logits(tokens), label)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    both.eval()
    with torch.no_grad():
        tokens, label = task.draw(HELD_OUT)
        right = (logits(tokens).argmax(-1) == label).float().mean()
    parameters = sum(p.numel() for p in connector.parameters())
    return Result(connector.num_tokens(GRID), parameters, 100 * float(right))


def table(results: dict[str, Sequence[Result]], seeds: Sequence[int], steps: int) -> str:
    """The results as markdown."""
    lines = [
        "# Planted events: which of two came first?",
        "",
        f"`python benchmarks/planted_events.py`: {GRID.length} tokens of width {DIM}, {steps} steps of {BATCH} clips, "
        f"{HELD_OUT} fresh clips, chance 50 %. A linear layer reads the mean of the soft tokens.",
        "",
        "| connector | soft tokens | parameters | accuracy, % | " + " | ".join(f"seed {seed}" for seed in seeds) + " |",
        "|---|---|---|---|" + "---|" * len(seeds),
    ]
    for name, runs in results.items():
        each = [one.accuracy for one in runs]
        cells = [name, runs[0].tokens, f"{runs[0].parameters:,}", f"**{sum(each) / len(each):.1f}**"]
        lines.append("| " + " | ".join(map(str, [*cells, *(f"{one:.1f}" for one in each)])) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    names = sorted(path.stem for path in (ROOT / "hydra_configs" / "connector").glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connectors", nargs="+", default=names, choices=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    results = {}
    for name in args.connectors:
        results[name] = [run(name, seed, args.steps) for seed in args.seeds]
        print(name, *(f"{one.accuracy:.1f} %" for one in results[name]), flush=True)
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(table(results, args.seeds, args.steps))


if __name__ == "__main__":
    main()
