"""Check and time every op on a CUDA GPU, item by item; called again, it goes on where it stopped.

    python benchmarks/gpu_checklist.py                 # nine minutes of it; call it until nothing is left
    python benchmarks/gpu_checklist.py --minutes 30

Exactness first (every op, dtype, case and way to call it), then the first call, CUDA graphs, torch.compile, bitwise
repeats, offsets past 2^31 elements, and the speed table of bench.py. A finished item is a row in
results/checklist/<device>.jsonl: what was asked, what came of it, device, versions and commit. It is asked again only
where the sources, the device or a version differ.

Exit status: 0 all is finished and right, 1 something is wrong, 2 no GPU, 3 some is left: call it again.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby, product
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from ssmvid_kernels import warmup
from ssmvid_kernels.backends import interpreting
from ssmvid_kernels.calls import LAYOUTS, Op, arguments, axis_of, find_ops
from ssmvid_kernels.testing import assert_op_as_exact, poisoned_empty

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "checklist"
DTYPES = ("float32", "bfloat16", "float16", "float64")
TIMED = ("float32", "bfloat16")
FAR = 2**31
SAME_RUN = ("device", "torch", "triton", "sources")  # a row made where one of these differs counts no more

Item = dict[str, Any]


def list_items() -> list[Item]:
    """All there is to do, as plain data, in the order in which it is done."""
    ops = find_ops()
    bench = OmegaConf.load(ROOT / "benchmarks" / "bench.yaml")
    calls = [
        dict(check="exact", op=name, dtype=dtype, call=call, layout=LAYOUTS[0], case=case)
        for name, op in ops.items()
        for dtype, call, case in product(DTYPES, op.cases.CALLS, op.cases.EXACT)
    ]
    layouts = [
        dict(check="exact", op=name, dtype=dtype, call=next(iter(op.cases.CALLS)), layout=layout, case=op.strided_case)
        for name, op in ops.items()
        for dtype, layout in product(DTYPES, op.layouts[1:])
    ]
    return [
        *calls,
        *layouts,
        *(dict(check="first", op=op, dtype=dtype, case="clip", seconds=3) for op, dtype in product(ops, TIMED)),
        *(dict(check="capture", op=op, dtype=dtype, case="clip") for op, dtype in product(ops, TIMED)),
        *(dict(check="compile", op=op, dtype=dtype, case="clip") for op, dtype in product(ops, TIMED)),
        *(dict(check="repeats", op=op, dtype=dtype, case="clip", times=1000) for op, dtype in product(ops, TIMED)),
        *(
            dict(check="far", op=name, dtype=dtype, case=op.strided_case)
            for (name, op), dtype in product(ops.items(), TIMED)
        ),
        *(dict(check="large", op=op, dtype="bfloat16", case="image", elements=FAR) for op in ops),
        *(
            {"check": "speed", "op": op, "dtype": dtype, "case": case, "pass": which}
            for op, dtype, case, which in product(ops, TIMED, bench.case, bench["pass"])
        ),
    ]


def check_exact(item: Item, device: str) -> None:
    """Outputs and gradients are as exact as the reference, and none is left unwritten."""
    op = find_ops()[item["op"]]
    case, call = op.cases.EXACT[item["case"]], op.cases.CALLS[item["call"]]
    dtype = getattr(torch, item["dtype"])
    tensors, options = arguments(op, case, call, dtype=dtype, layout=item["layout"], device=device)
    with poisoned_empty():
        assert_op_as_exact(op.run, tensors, backend(device), **options)


def check_first(item: Item, device: str) -> None:
    """The first call of all, nothing compiled and nothing cached, is over soon."""
    op = find_ops()[item["op"]]
    tensors, options = arguments(op, op.cases.SPEED[item["case"]], dtype=getattr(torch, item["dtype"]), device=device)
    with tempfile.TemporaryDirectory() as empty, patch.dict(os.environ, TRITON_CACHE_DIR=empty):
        start = time.perf_counter()
        op.run(**tensors, **options, backend=backend(device))[0].sum().item()
        took = time.perf_counter() - start
    assert took < item["seconds"], f"the first call took {took:.1f} s, allowed {item['seconds']} s"


def check_capture(item: Item, device: str) -> None:
    """After a warm-up a forward and backward is captured, and replayed on other values."""
    op = find_ops()[item["op"]]
    tensors, options = arguments(op, op.cases.SPEED[item["case"]], dtype=getattr(torch, item["dtype"]), device=device)
    warmup(partial(op.run, backend=backend(device)), **tensors, **options)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = both_ways(op, tensors, options, device)
    with torch.no_grad():
        tensors["x"].mul_(2)
    graph.replay()
    for name, expected in both_ways(op, tensors, options, device).items():
        assert torch.equal(captured[name], expected), f"{name}: the replay differs from a call"


def check_compile(item: Item, device: str) -> None:
    """torch.compile compiles at most twice for five lengths, and what it makes is as exact."""
    op, counter = find_ops()[item["op"]], CompileCounterWithBackend("inductor")
    compiled = torch.compile(op.run, fullgraph=True, backend=counter)
    run = lambda **given: (op.run if given["backend"] == "reference" else compiled)(**given)
    for l in (137, 141, 192, 150, 183):  # over a chunk each: shorter ones are a compilation of their own
        case, dtype = op.cases.SPEED[item["case"]]._replace(l=l), getattr(torch, item["dtype"])
        tensors, options = arguments(op, case, dtype=dtype, device=device)
        assert_op_as_exact(run, tensors, backend(device), **options)
    assert counter.frame_count <= 2, f"{counter.frame_count} compilations for five lengths"


def check_repeats(item: Item, device: str) -> None:
    """A forward and backward gives the same bits every time."""
    op = find_ops()[item["op"]]
    tensors, options = arguments(op, op.cases.SPEED[item["case"]], dtype=getattr(torch, item["dtype"]), device=device)
    first = both_ways(op, tensors, options, device)
    for i in range(1, item["times"]):
        for name, again in both_ways(op, tensors, options, device).items():
            assert torch.equal(again, first[name]), f"{name}: run {i} differs from the first"


def check_far(item: Item, device: str) -> None:
    """Tokens that lie over 2^31 elements apart are read as well as dense ones."""
    op = find_ops()[item["op"]]
    case, dtype = op.cases.EXACT[item["case"]], getattr(torch, item["dtype"])
    tensors, options = arguments(op, case, dtype=dtype, layout="own x" if op.step else "dense", device=device)
    expected = both_ways(op, tensors, options, device)
    between = FAR // (case.l - 1) + 1
    memory = torch.zeros(case.l * between, dtype=dtype, device=device)
    start = 0
    for name, axis in axis_of(op, case, "l").items():
        tokens = tensors[name].detach().movedim(axis, 0).contiguous()
        far = memory.as_strided(tokens.shape, (between, *tokens.stride()[1:]), start).copy_(tokens)
        tensors[name] = far.movedim(0, axis).requires_grad_()
        start += tokens[0].numel()
    for name, got in both_ways(op, tensors, options, device).items():
        assert_same(name, got, expected[name])


def check_large(item: Item, device: str) -> None:
    """Of outputs with over 2^31 elements the last examples are what they are alone."""
    op = find_ops()[item["op"]]
    case, dtype = op.cases.SPEED[item["case"]]._replace(b=2), getattr(torch, item["dtype"])
    pair, options = arguments(op, case, dtype=dtype, device=device)
    pair.pop("z", None)  # gated in torch: it would only take memory
    times = math.ceil(item["elements"] / pair["x"].numel()) + 1
    along = {name: axis for name, axis in axis_of(op, case, "b").items() if name in pair}
    expected = both_ways(op, pair, options, device)
    tensors = dict(pair)
    for name, axis in along.items():
        repeats = [times if i == axis else 1 for i in range(pair[name].dim())]
        tensors[name] = pair[name].detach().repeat(repeats).requires_grad_()
    for name, got in both_ways(op, tensors, options, device, only=along).items():
        assert_same(name, got[-2:], expected[name])


def check_speed(item: Item, device: str) -> None:
    """bench.py times the op beside its peer, and writes the rows."""
    choice = [f"{name}={item[name]}" for name in ("op", "dtype")] + [f"case={item['case']}"]
    command = [sys.executable, "benchmarks/bench.py", *choice, f"pass={item['pass']}", f"device={device}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout, end="", flush=True)
    assert done.returncode == 0, done.stderr[-2000:]


CHECKS: dict[str, Callable[[Item, str], None]] = {
    "exact": check_exact,
    "first": check_first,
    "capture": check_capture,
    "compile": check_compile,
    "repeats": check_repeats,
    "far": check_far,
    "large": check_large,
    "speed": check_speed,
}
TOGETHER = ("exact",)  # checks that may share the GPU; most of their time is compiling, on the CPU


def backend(device: str) -> str:
    """What is checked: the kernels for `device`."""
    return "triton" if device == "cuda" or interpreting() else "cpu"


def both_ways(
    op: Op, tensors: dict[str, Tensor], options: dict[str, Any], device: str, only: Iterable[str] | None = None
) -> dict[str, Tensor]:
    """`{<output>..., d<argument>...}` for the sum of y; `only` names the arguments to take gradients of."""
    names = list(tensors if only is None else only)
    out = op.run(**tensors, **options, backend=backend(device))
    grads = torch.autograd.grad(out[0], [tensors[name] for name in names], torch.ones_like(out[0]))
    return out._asdict() | dict(zip((f"d{name}" for name in names), grads))


def assert_same(name: str, got: Tensor, expected: Tensor) -> None:
    """Equal but for rounding, which other strides may order differently; a wrong offset is wrong by far more."""
    torch.testing.assert_close(got, expected, msg=lambda found: f"{name}: {found}")


def stamp(device: str) -> dict[str, str]:
    """What a row needs to be repeated."""
    import triton

    files = [*ROOT.glob("kernels/ssmvid_kernels/**/*.py"), *ROOT.glob("benchmarks/*.py")]
    sources = b"".join(file.read_bytes() for file in sorted(files))
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return dict(
        device=torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        torch=torch.__version__,
        triton=triton.__version__,
        python=platform.python_version(),
        sources=hashlib.sha256(sources).hexdigest()[:12],
        commit=commit.stdout.strip() or "no git",
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def finished(file: Path, where: dict[str, str]) -> list[dict[str, Any]]:
    """The rows in `file` that were made on the same device by the same sources and versions."""
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [row for row in rows if all(row[name] == where[name] for name in SAME_RUN)]


def unfinished(items: list[Item], file: Path, where: dict[str, str]) -> list[Item]:
    done = [row["item"] for row in finished(file, where)]
    return [item for item in items if item not in done]


def finish(item: Item, outcome: dict[str, Any], file: Path, where: dict[str, str]) -> None:
    """Say and write down what came of `item`: one line in one write, for several processes append to the file."""
    row = {"item": item} | outcome | where
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a") as out:
        out.write(json.dumps(row) + "\n")
    print(describe(row), flush=True)


def describe(row: dict[str, Any]) -> str:
    asked = " ".join(str(value) for value in row["item"].values())
    return f"right  {asked}" if row["right"] else f"WRONG  {asked}\n       {row['error']}"


def work(items: list[Item], file: Path, where: dict[str, str], deadline: float, device: str) -> None:
    """Do the items one after the other, each with a row at its end, until time is up."""
    for item in items:
        check, start = CHECKS[item["check"]], time.time()
        if start > deadline:
            return
        outcome: dict[str, Any] = {"right": True}
        try:
            check(item, device)
        except Exception as error:  # whatever it is, it is what came of this item
            outcome = {"right": False, "error": f"{type(error).__name__}: {error}"}
        finish(item, outcome | {"seconds": round(time.time() - start, 2)}, file, where)
        if device == "cuda":
            torch.cuda.synchronize()  # after a fault this process has lost the device: it ends, another goes on


def work_as_process(*args: Any) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an exit and not an end: bench.py is ended with it
    work(*args)


def work_apart(items: list[Item], file: Path, where: dict[str, str], deadline: float, device: str) -> None:
    """`work` in a process of its own: where an item brings that down it is written down as wrong, and the rest goes on.

    An item that time cuts short begins again with the next call.
    """
    process = get_context("spawn").Process(target=work_as_process, args=(items, file, where, deadline, device))
    process.start()
    process.join(max(0.0, deadline - time.time()))
    if process.is_alive():
        process.terminate()
        process.join(10)
        process.kill()
        process.join()
    elif process.exitcode and (left := unfinished(items, file, where)):
        finish(left[0], {"right": False, "error": f"its process ended with status {process.exitcode}"}, file, where)


def run(items: list[Item], file: Path, where: dict[str, str], deadline: float, device: str, jobs: int) -> int:
    """Do what is unfinished, say what came of all, and return the exit status."""
    kind = lambda item: [item.get(name) for name in ("check", "op", "dtype", "call")]
    groups = [list(group) for _, group in groupby(unfinished(items, file, where), kind)]
    start = lambda group: work_apart(group, file, where, deadline, device) if time.time() < deadline else None
    with ThreadPoolExecutor(jobs) as pool:  # each thread waits for a process
        list(pool.map(start, [group for group in groups if group[0]["check"] in TOGETHER]))
    for group in groups:
        if group[0]["check"] not in TOGETHER:
            start(group)

    rows = [row for row in finished(file, where) if row["item"] in items]
    wrong = [row for row in rows if not row["right"]]
    left = len(items) - len(rows)
    print(f"\n{len(items)} items, {len(rows) - len(wrong)} right, {len(wrong)} wrong, {left} left: {file}")
    for row in wrong:
        print(describe(row))
    return 1 if wrong else 3 if left else 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9, help="how long this call may take")
    args = parser.parse_args(argv)
    if reason := why_not():
        print(f"gpu_checklist: {reason}", file=sys.stderr)
        return 2
    deadline = time.time() + 60 * args.minutes
    where = stamp("cuda")
    name = "".join(c if c.isalnum() else "-" for c in where["device"].lower())
    jobs = min(8, max(1, (os.cpu_count() or 1) // 2))
    return run(list_items(), RESULTS / f"{name}.jsonl", where, deadline, "cuda", jobs)


def why_not() -> str:
    """Why nothing can be checked here; empty where it can."""
    if not torch.cuda.is_available():
        return f"it needs a CUDA GPU, and torch {torch.__version__} sees none here"
    return "TRITON_INTERPRET=1 would run every kernel in Python: unset it" if interpreting() else ""


if __name__ == "__main__":
    sys.exit(main())
