"""No offset of any Triton kernel is computed in 32 bits: every one is driven past 2^31 elements, without the memory.

A kernel is started as for its compile table, on tensors without memory, and its last programs are interpreted at huge
sizes and strides (probe.py). Arithmetic that never wraps gives the offset it gives at small sizes, where
test_triton.py compares the numbers.
"""

import ast
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from numba import njit

from benchmarks.compile_kernels import op_modules
from ssmvid_kernels.backends import interpreting
from ssmvid_kernels.s6 import triton_scan
from tests.kernels.probe import Launch, farthest, record

FAR = 2**31
STRIDE = 2**30 + 1  # fits 32 bits, twice it does not
LONG = FAR // 4 + 4096 - 5  # steps of a packed row of four walks; the odd rest leaves steps in its last chunk
SHORT = 67  # steps of a row where there are many rows: a segment of s6 and three steps
SEGMENT = 2**24  # of s6 in a long row
LAST = LONG - 3 - (LONG // SEGMENT) * SEGMENT  # where the last of three clips starts: its last segment has three steps
WALK = (0, 1024, 1024, 1 << 20, 1024, 1, 0, 0)  # in order
# Cases with every argument between them.
FULLEST = ("bfloat16 walks", "bfloat16 bundles", "=384 bfloat16 add", "=384 bfloat16 gate")
# One number a program, of this kernel or of the one that made it: a grid has fewer than 2^31.
BOUNDED = {
    ("chunk_states", "decay_ptr"),
    ("pass_states", "decay_ptr"),
    ("step_gradients", "across_ptr"),
    ("step_gradients", "dA_ptr"),
    ("pass_states", "across_ptr"),
    ("pass_states", "total_ptr"),
}
INTEGERS = {
    "cu_seqlens": lambda at: np.select([at >= 3, at == 2], [LONG, LAST], 0),
    "clip_of": lambda at: np.full(at.shape, 2),
}
AFFINE = {"paths": lambda at: np.array(WALK)[at % 8]}
TABLE = {"paths": lambda at: at % LONG}
TABLES = {"paths": torch.empty(0, dtype=torch.int32)}

pytestmark = pytest.mark.skipif(not interpreting(), reason="probed in Triton's interpreter, off where there is a GPU")
OPS = dict(op_modules())
each_op = pytest.mark.parametrize("op", OPS)


@pytest.fixture(autouse=True)
def cut_s6(monkeypatch):
    monkeypatch.setattr(triton_scan, "segment_steps", lambda l, *_: 64 if l <= SHORT else SEGMENT)


def launches(op: str, packed: bool) -> Iterator[Launch]:
    """Every kernel of an op with every argument: for many short rows, or for clips packed in a long one."""
    cases = [case for name, case in OPS[op].compile_cases().items() if name.endswith(FULLEST)]
    sizes = {"l": LONG if packed else SHORT} | ({"b": 3} if op == "norm" and not packed else {})
    for launch in chain.from_iterable(record(partial(case, **sizes)) for case in cases):
        given = launch.arguments
        if not packed:
            given |= {name: None for name in ("cu_seqlens", "clip_of") if name in given}
            given |= {"slots": -(-SHORT // given["chunk"])} if "slots" in given else {}
        of_gates = "groups" in given and "span" not in given  # and not of chunks
        given |= {"groups": 3} if of_gates else {}
        times = 3 if "parts" in given or "rows" in given else 1  # such a grid is one of groups
        if given.get("GATE_FIRST"):  # the other way round the gate's gradient needs the bias too
            given |= {"GATE_FIRST": False, "bias_ptr": given["w_ptr"], "bias_stride": given["w_stride"]}
        yield launch._replace(arguments=given, programs=launch.programs * times)


def integers(launch: Launch, paths: dict[str, Any]) -> dict[str, Any]:
    """What tensors of integers hold, walks as in `paths`; chunks as if each path went alone, the last one leading."""
    slots, length, steps = (launch.arguments.get(name, 1) for name in ("slots", "length", "chunk"))
    own = lambda at: at // 4 % slots
    fields = (
        lambda at: (at // 4 // slots + 1) % 4,
        own,
        lambda at: np.minimum(own(at) * steps, length - 1),
        lambda at: length,
    )
    return (
        INTEGERS
        | paths
        | {
            "chunks": lambda at: np.choose(at % 4, [field(at) for field in fields]),
            "bundles": lambda at: 2 * at,
            "places": lambda at: at % length,
        }
    )


def last_programs(launch: Launch, times: int) -> Iterator[int]:
    """Some of the last programs of so many grids: some at the end of a row, some at its start."""
    return (launch.programs * times - 1 - back for back in (0, 1, 3, 5, 16))


def stride_of(pointer: str) -> str:
    return pointer.removesuffix("_ptr") + "_stride"


def pointers_of(kernel: Any) -> set[str]:
    """The arguments of a kernel that are pointers, by how they are named."""
    return {name for name in kernel.arg_names if name.endswith("_ptr") or name in ("paths", "places")}


@each_op
def test_every_kernel_is_started(op):
    folder = Path(OPS[op].__file__).parent
    # A kernel says what not to specialise; a function that kernels call has nothing to say.
    kernels = {
        node.name
        for module in folder.glob("triton_*.py")
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.FunctionDef) and any("do_not_specialize" in ast.unparse(d) for d in node.decorator_list)
    }
    assert {launch.kernel.__name__ for launch in launches(op, packed=True)} == kernels


@each_op
def test_every_stride_of_every_argument(op):
    wanted, proven = set(), set()
    for launch in launches(op, packed=False):
        kernel, strides = launch.kernel.__name__, {name for name in launch.kernel.arg_names if name.endswith("_stride")}
        assert strides <= {stride_of(name) for name in pointers_of(launch.kernel)}
        for name in launch.pointers:
            axes = len(launch.arguments.get(stride_of(name)) or ())
            for axis in range(axes):
                far = {stride_of(name): tuple(STRIDE if i == axis else 0 for i in range(axes))}
                wanted.add((kernel, name, axis))
                runs = (
                    farthest(launch, program, integers(launch, AFFINE), **far)
                    for program in last_programs(launch, 1 if op == "norm" else 3)
                )
                if any(reached.get(name, 0) >= FAR for reached in runs):
                    proven.add((kernel, name, axis))
    print(f"{op}: {len(proven)} of {len(wanted)} strides past 2^31")
    assert sorted(wanted - proven) == []


@each_op
def test_every_dense_tensor(op):
    wanted, proven = set(), set()
    for packed in (False, True):
        for launch in launches(op, packed):
            kernel = launch.kernel
            dense = {name for name in pointers_of(kernel) if stride_of(name) not in kernel.arg_names}
            dense = {(kernel.__name__, name) for name in dense} - BOUNDED
            tables = packed and "paths" in kernel.arg_names
            for program in last_programs(launch, 1 if packed else FAR // launch.programs):
                held = integers(launch, TABLE if tables else AFFINE)
                reached = farthest(launch, program, held, **TABLES if tables else {})
                proven |= {(name, pointer) for name, pointer in dense if reached.get(pointer, 0) >= FAR}
            wanted |= dense
    print(f"{op}: {len(proven)} of {len(wanted)} dense tensors past 2^31")
    assert sorted(wanted - proven) == []


@triton.jit(do_not_specialize=["stride"])
def wrong(x_ptr, stride, n, NARROW: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0).to(tl.int64) * stride
    if NARROW:
        at = at.to(tl.int32)
    tl.store(x_ptr + at + (n - 1) * stride, 1.0)


def start(program: int, stride: int, n: int, narrow: bool = False) -> dict[str, int]:
    x = torch.empty(0, device="meta")
    (launch,) = record(lambda: wrong[program + 1,](x, stride, n, NARROW=narrow))
    return farthest(launch, program, {})


def test_the_largest_offset_is_told():
    assert start(program=5, stride=STRIDE, n=2) == {"x_ptr": 6 * STRIDE}


def test_an_offset_in_32_bits_is_found():
    with pytest.raises(AssertionError, match="int32 overflow detected for operation mul"):
        start(program=0, stride=STRIDE, n=3)


def test_a_narrowed_offset_is_found():
    with pytest.raises(AssertionError, match="int32 cannot hold it"):
        start(program=5, stride=STRIDE, n=2, narrow=True)


def test_a_grid_of_two_axes_is_refused():
    with pytest.raises(AssertionError, match="use x alone"):
        record(lambda: wrong[1, 1](torch.empty(0, device="meta"), 1, 1, NARROW=False))


def test_numba_multiplies_in_64_bits_whatever_the_array_holds():
    @njit
    def product(values):  # type: ignore[no-untyped-def]
        return values[0] * values[1]

    assert product(np.array([2**30, 6], dtype=np.int32)) == 6 * 2**30
