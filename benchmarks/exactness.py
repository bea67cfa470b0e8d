"""Hold every op on every backend to its reference over calls drawn at random, outputs and gradients both.

    python benchmarks/exactness.py                        # 180 calls an op and dtype, and 40 on interpreted Triton
    python benchmarks/exactness.py --calls 20 --seed 7

A call draws its sizes, walks, packed clips, options, arguments left out, strides of every tensor, parameters in fp32
beside 16-bit tokens, and which tensors require a gradient. A ratio is the error of one output or gradient over that of
the reference in the same dtype; 3 is allowed. A row of results/exactness.jsonl is one op, backend and dtype.

Exit status: 0 no ratio is over 3, 1 some are; each such call is printed and can be drawn again by its seed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ssmvid_kernels import Walk
from ssmvid_kernels.calls import LAYOUTS, Op, axis_of, find_ops, lay_out, shuffled
from ssmvid_kernels.testing import Tensors, errors_of, exact_and_plain, outputs_and_gradients, poisoned_empty

OUT = Path(__file__).resolve().parent / "results" / "exactness.jsonl"
DTYPES = ("float32", "bfloat16", "float16", "float64")
ALLOWED = 3.0
REDRAWN = 16
Sizes = Mapping[str, Sequence[int | None]]
SIZES: Sizes = {  # for each field of a case, what it is drawn from
    "b": (1, 2, 3),
    "l": range(1, 72),
    "d": range(1, 37),
    "n": (1, 2, 3, 5, 8, 13, 16, 17, 33),
    "k": (0, 0, 1, 2, 3, 4),
    "heads": (1, 2, 3, 4, 6),
    "g": (1, 2, 3),
    "groups": (1, 1, 2, 3, 7),
    "p": (1, 3, 5, 8, 17),
    "chunk": (None, 1, 5, 16, 32),
    "width": (2, 3, 4),
}
SMALL = SIZES | {  # for the interpreter, which takes milliseconds a program
    "b": (1, 2),
    "l": range(1, 20),
    "d": range(1, 9),
    "n": (1, 2, 3, 5),
    "k": (0, 0, 1, 2),
    "heads": (1, 2),
    "g": (1, 2),
    "p": (1, 3, 5),
    "chunk": (None, 5, 16),
}


class Drawn(NamedTuple):
    """One call: what it is in words, its tensors and its options."""

    words: str
    tensors: Tensors
    options: dict[str, Any]


class Outcome(NamedTuple):
    """The worst ratio of one call on one backend, and the output or gradient it belongs to."""

    op: str
    backend: str
    dtype: str
    ratio: float
    words: str


def draw(op: Op, dtype: str, seed: str, sizes: Sizes = SIZES, values: int = 0) -> Drawn:
    """The call that `seed` stands for; other `values` are other numbers in the same tensors."""
    rng = random.Random(f"{op.name} {dtype} {seed}")
    case = _draw_case(op, rng, sizes)
    call_name = rng.choice(list(op.cases.CALLS))
    call = op.cases.CALLS[call_name]
    k = case.k if op.step else 0  # scans have walks and packed clips
    options = op.cases.make_options(case._replace(k=0) if k else case) | dict(call.options)
    walks = [_draw_walk(case, rng) for _ in range(k)]
    if k > 1 and walks[0].table is None and rng.random() < 0.5:  # a pair, which shares its chunks
        walks[-1] = replace(walks[0], reverse=not walks[0].reverse)
    if walks:
        options["walks"] = walks

    mixed = dtype in ("bfloat16", "float16") and rng.random() < 0.3
    tokens = axis_of(op, op.cases.EXACT["ragged"], "l")
    tensors, layouts = {}, []
    for name, tensor in op.cases.make_inputs(case, torch.float64, rng.randrange(2**31) + values).items():
        if name not in call.without:
            tensor = tensor.detach().to(torch.float32 if mixed and name not in tokens else getattr(torch, dtype))
            layouts.append(rng.choice(LAYOUTS))
            tensors[name] = lay_out(tensor.abs() if name in call.positive else tensor, layouts[-1])
    if k and rng.random() < 0.3:
        layouts[0] = "own x"
        tensors["x"] = torch.stack([tensors["x"].roll(path, 1) for path in range(k)], 1)
    wanted = rng.sample(list(tensors), rng.randint(1, len(tensors))) if rng.random() < 0.5 else list(tensors)
    for name in wanted:
        tensors[name].requires_grad_()
    words = f"{op.name} {dtype} seed {seed}: {case}, {call_name}, {layouts}, mixed {mixed}, wanted {wanted}, {walks}"
    return Drawn(words, tensors, options)


def _draw_case(op: Op, rng: random.Random, sizes: Sizes) -> Any:
    case = next(iter(op.cases.EXACT.values()))
    case = case._replace(**{name: rng.choice(sizes[name]) for name in case._fields if name in sizes})
    for divisor, of in (("g", "heads"), ("groups", "d")):
        if divisor in case._fields:
            case = case._replace(**{of: getattr(case, of) * getattr(case, divisor)})
    if op.step and rng.random() < 0.3:
        borders = sorted(rng.randint(0, case.l) for _ in range(rng.randint(0, 3)))
        clips = tuple(end - start for start, end in zip([0, *borders], [*borders, case.l]))
        case = case._replace(b=1, clips=clips)
    return case


def _draw_walk(case: Any, rng: random.Random) -> Walk:
    """A table, clip by clip where clips are packed, or an affine walk: any grid, any order of its axes."""
    if len(case.clips) > 1 or rng.random() < 0.3:
        return shuffled(case.clips or (case.l,), rng.randrange(2**31))
    prefix = rng.randint(0, min(2, case.l - 1))
    divisor = lambda number: rng.choice([size for size in range(1, number + 1) if number % size == 0])
    t = divisor(case.l - prefix)
    h = divisor((case.l - prefix) // t)
    w = (case.l - prefix) // t // h
    sizes, strides = (t, h, w), (h * w, w, 1)
    order = rng.sample(range(3), 3)
    pick = lambda of: (of[order[0]], of[order[1]], of[order[2]])
    return Walk(pick(sizes), pick(strides), reverse=rng.random() < 0.5, prefix=prefix)


def measure(op: Op, dtype: str, seed: str, backends: Sequence[str], sizes: Sizes = SIZES) -> list[Outcome]:
    """Draw one call and hold each backend to the reference.

    A tensor of a few numbers is a poor sample of what rounding costs: a ratio over 3 is that of 16 draws together.
    """
    words = draw(op, dtype, seed, sizes).words
    errors = _errors(op, draw(op, dtype, seed, sizes), backends)
    outcomes = []
    for backend, of in errors.items():
        ratios = {name: _ratio([pair]) for name, pair in of.items()}
        if max(ratios.values()) > ALLOWED:
            draws = [_errors(op, draw(op, dtype, seed, sizes, values), [backend])[backend] for values in range(REDRAWN)]
            ratios = {name: _ratio([again[name] for again in draws]) for name in of}
        worst = max(ratios, key=lambda name: ratios[name])
        outcomes.append(Outcome(op.name, backend, dtype, ratios[worst], f"{worst} of {words}"))
    return outcomes


def _errors(op: Op, drawn: Drawn, backends: Sequence[str]) -> dict[str, dict[str, tuple[float, float]]]:
    """By backend and name: the error of an output or gradient, and that of the reference in the same dtype."""
    exact, plain = exact_and_plain(op.run, drawn.tensors, **drawn.options)
    errors = {}
    for backend in backends:
        with poisoned_empty():
            got = outputs_and_gradients(op.run, drawn.tensors, backend=backend, **drawn.options)
        for name, tensor in got.items():
            assert (tensor.shape, tensor.dtype) == (exact[name].shape, plain[name].dtype), f"{name} of {drawn.words}"
        errors[backend] = {name: errors_of(tensor, plain[name], exact[name]) for name, tensor in got.items()}
    return errors


def _ratio(errors: list[tuple[float, float]]) -> float:
    got, plain = (math.fsum(of) for of in zip(*errors))
    if math.isnan(got) or (got and not plain):
        return math.inf
    return got / plain if got else 0.0


def sweep(op: str, dtype: str, seed: int, calls: int, triton: bool) -> list[Outcome]:
    """`calls` calls of one op in one dtype; interpreted Triton has a process and small calls of its own."""
    torch.set_num_threads(1)
    backends, sizes = (("triton",), SMALL) if triton else (("torch", "cpu"), SIZES)
    run = find_ops()[op]
    return [outcome for i in range(calls) for outcome in measure(run, dtype, f"{seed}.{i}", backends, sizes)]


def as_row(outcomes: list[Outcome], seed: int) -> dict[str, Any]:
    """What one op, backend and dtype came to."""
    worst = max(outcomes, key=lambda outcome: outcome.ratio)
    return dict(
        op=worst.op,
        backend=worst.backend,
        dtype=worst.dtype,
        calls=len(outcomes),
        over=sum(outcome.ratio > ALLOWED for outcome in outcomes),
        worst=round(worst.ratio, 3),
        seed=seed,
        call=worst.words,
    )


def stamp() -> dict[str, str]:
    """What a row needs to be repeated."""
    import numba
    import triton

    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    return dict(
        torch=torch.__version__,
        triton=triton.__version__,
        numba=numba.__version__,
        python=platform.python_version(),
        commit=commit.stdout.strip() or "no git",
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=180, help="calls an op and dtype, on torch and cpu")
    parser.add_argument("--triton-calls", type=int, default=40, help="calls an op and dtype, on interpreted Triton")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    parser.add_argument("--out", type=Path, default=OUT, help="written anew")
    args = parser.parse_args(argv)

    os.environ["TRITON_INTERPRET"] = "1"  # read by the processes, before they import triton
    counts = {False: args.calls, True: args.triton_calls}
    tasks = [
        (op, dtype, args.seed, counts[triton], triton)
        for triton, op, dtype in product((True, False), find_ops(), DTYPES)
        if counts[triton]
    ]
    where, rows, total, wrong = stamp(), [], 0, 0
    print(f"{'op':10} {'backend':8} {'dtype':9} calls  worst")
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        for task, outcomes in zip(tasks, pool.map(sweep, *zip(*tasks))):
            for backend in dict.fromkeys(outcome.backend for outcome in outcomes):
                row = as_row([outcome for outcome in outcomes if outcome.backend == backend], args.seed)
                print(f"{row['op']:10} {backend:8} {row['dtype']:9} {row['calls']:5} {row['worst']:6.2f}", flush=True)
                rows.append(row | where)
            over = [outcome for outcome in outcomes if outcome.ratio > ALLOWED]
            for outcome in over:
                print(f"  {outcome.ratio:.2f} on {outcome.backend}: {outcome.words}", flush=True)
            total, wrong = total + task[3], wrong + len(over)
    args.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(f"\n{total} calls drawn, {wrong} results over {ALLOWED:g} x the reference: {args.out}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
