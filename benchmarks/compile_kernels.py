"""Compile every Triton kernel in every configuration for every target, without a GPU, and hold it to its budget.

    python benchmarks/compile_kernels.py             # the table; exit status 1 where a figure is worse than its budget
    python benchmarks/compile_kernels.py --update    # write today's figures down as the budget

A kernel is found through `compile_cases()` in a module `ssmvid_kernels/<op>/triton_*.py`: launches on tensors without
memory, run here with a driver that compiles and starts nothing. So what is compiled is what a launch would compile,
pointer alignment included. Triton's interpreter must be off: TRITON_INTERPRET unset.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

BUDGET = Path(__file__).resolve().parent.parent / "tests" / "kernels" / "compile_budget.json"
TARGETS = ("cuda:80", "cuda:90", "cuda:100", "hip:gfx942")
FIGURES = ("registers", "spill", "shared")


class Compiled(NamedTuple):
    """One kernel for one target: registers a thread, spilled bytes (cuda) or registers (hip) a thread, shared bytes.

    `matmuls`: tensor-core instructions, None where no 16-bit factors are multiplied.
    """

    kernel: str
    target: str
    registers: int
    spill: int
    shared: int
    seconds: float
    matmuls: int | None = None


def op_modules() -> Iterator[tuple[str, Any]]:
    """Every op's name and module with `compile_cases`."""
    import ssmvid_kernels

    for info in pkgutil.walk_packages(ssmvid_kernels.__path__, "ssmvid_kernels."):
        *_, op, module = info.name.split(".")
        if module.startswith("triton_"):
            found = importlib.import_module(info.name)
            if hasattr(found, "compile_cases"):
                yield op, found


def compile_target(target: str) -> list[Compiled]:
    """Every kernel of every op for `target`; run it in a process of its own, for it replaces Triton's driver."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.runtime.jit import JITFunction

    backend, arch = target.split(":")
    gpu = GPUTarget("cuda", int(arch), 32) if backend == "cuda" else GPUTarget("hip", arch, 64)
    triton.runtime.driver.set_active(_driver(gpu))
    launch, compiled = JITFunction.run, []
    case = ""

    def compile_only(kernel: Any, *args: object, grid: object, warmup: bool, **options: object) -> None:
        start = time.perf_counter()
        binary = launch(kernel, *args, grid=grid, warmup=True, **options)
        figures = _cuda_figures(binary) if backend == "cuda" else _hip_figures(binary)
        seconds = round(time.perf_counter() - start, 1)
        compiled.append(Compiled(f"{case} {kernel.__name__}", target, *figures, seconds, _matmuls(binary)))

    JITFunction.run = compile_only
    for op, module in op_modules():
        for name, launches in module.compile_cases().items():
            case = f"{op} {name}"
            launches()
    return compiled


def _driver(gpu: Any) -> Any:
    """A driver that names a target and has no device."""
    from triton.backends.driver import DriverBase

    class NoDevice(DriverBase):
        def __init__(self) -> None: ...

        @classmethod
        def is_active(cls) -> bool:
            return True

        def map_python_to_cpp_type(self, ty: str) -> str:
            return ty

        def get_current_target(self) -> Any:
            return gpu

        def get_active_torch_device(self) -> str:
            return "meta"

        def get_benchmarker(self) -> Callable[..., list[float]]:
            return lambda *args, **kwargs: [1.0, 1.0, 1.0]

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: int | None = None) -> int:
            return 0

    return NoDevice()


def _matmuls(binary: Any) -> int | None:
    if not re.search(r"tt\.dot .*: tensor<\d+x\d+xb?f16>", binary.asm["ttir"]):
        return None
    code = binary.asm["ptx"] if "ptx" in binary.asm else binary.asm["amdgcn"]
    return len(re.findall(r"^\s*(?:@\S+ )?(?:mma\.sync|wgmma\.mma_async|tcgen05\.mma|v_mfma)", code, re.MULTILINE))


def _cuda_figures(binary: Any) -> tuple[int, int, int]:
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        usage = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True)
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage.stdout)
    assert found, usage.stdout
    registers, stack, local = map(int, found.groups())
    return registers, stack + local, binary.metadata.shared


def _hip_figures(binary: Any) -> tuple[int, int, int]:
    count = lambda key: int(re.search(rf"\.{key}:\s+(\d+)", binary.asm["amdgcn"])[1])  # type: ignore[index]
    return count("vgpr_count"), count("vgpr_spill_count"), binary.metadata.shared


def compile_everything(jobs: int) -> list[Compiled]:
    """All targets, `jobs` processes side by side."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        return [row for rows in pool.map(compile_target, TARGETS) for row in rows]


def as_budget(rows: list[Compiled]) -> dict[str, Any]:
    """What `--update` writes. Registers are rounded up to eight: the hardware hands them out in eights."""
    import triton

    kernels: dict[str, dict[str, dict[str, int]]] = {}
    for row in rows:
        figures = {"registers": -(-row.registers // 8) * 8, "spill": row.spill, "shared": row.shared}
        limits = kernels.setdefault(row.kernel, {}).setdefault(row.target, figures)
        limits |= {name: max(limits[name], figures[name]) for name in FIGURES}  # a kernel may be launched in two ways
    return {"triton": triton.__version__, "kernels": kernels}


def breaches(rows: list[Compiled], budget: dict[str, Any]) -> list[str]:
    """One line for every figure above its budget, matmul off the tensor cores, and kernel in one of the lists only."""
    worse = []
    compiled = {(row.kernel, row.target) for row in rows}
    for row in rows:
        limits = budget["kernels"].get(row.kernel, {}).get(row.target)
        if limits is None:
            worse.append(f"{row.kernel}, {row.target}: not in the budget")
            continue
        if row.matmuls == 0:
            worse.append(f"{row.kernel}, {row.target}: multiplies 16-bit factors without tensor cores")
        for name in FIGURES:
            if getattr(row, name) > limits[name]:
                worse.append(f"{row.kernel}, {row.target}: {name} {getattr(row, name)}, budget {limits[name]}")
    for kernel, targets in budget["kernels"].items():
        worse += [
            f"{kernel}, {target}: in the budget, not compiled" for target in targets if (kernel, target) not in compiled
        ]
    return worse


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the figures as the new budget")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    args = parser.parse_args(argv)

    rows = compile_everything(args.jobs)
    width = max(len(row.kernel) for row in rows)
    print(f"{'kernel':{width}}  {'target':10} registers  spill  shared  matmuls  seconds")
    for row in sorted(rows, key=lambda row: row[:-1]):
        print(
            f"{row.kernel:{width}}  {row.target:10} {row.registers:9} {row.spill:6} {row.shared:7}"
            f" {'-' if row.matmuls is None else row.matmuls:>8} {row.seconds:8.1f}"
        )
    if args.update:
        BUDGET.write_text(json.dumps(as_budget(rows), indent=1) + "\n")
        print(f"wrote {BUDGET}")
        return 0
    budget = json.loads(BUDGET.read_text())
    worse = breaches(rows, budget)
    if worse:
        made_with = f"made with triton {budget['triton']}; --update accepts today's figures"
        print(f"\nworse than the budget ({made_with}):", *worse, sep="\n  ")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
