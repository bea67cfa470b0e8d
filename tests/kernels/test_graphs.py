"""warmup, and captures that would compile. Capture and replay themselves: benchmarks/gpu_checklist.py."""

import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from ssmvid_kernels import Walk, warmup
from ssmvid_kernels.calls import arguments
from ssmvid_kernels.walk import encode
from tests.kernels.test_ops import each_op

ROOT = Path(__file__).resolve().parents[2]


@each_op
def test_warmup_runs_both_ways_and_leaves_nothing_behind(op):
    tensors, options = arguments(op, op.cases.EXACT["ragged"])
    state = torch.get_rng_state()
    directions = []
    tensors["x"].register_hook(lambda grad: directions.append("backward"))
    warmup(lambda **values: torch.dropout(op.run(**values, **options)[0], 0.5, True), **tensors)
    assert directions == ["backward"]
    assert all(tensor.grad is None for tensor in tensors.values())
    assert torch.equal(torch.get_rng_state(), state)


def test_warmup_of_a_module_reaches_its_parameters():
    layer, x = nn.Linear(3, 2), torch.randn(4, 3)
    seen = []
    layer.weight.register_hook(seen.append)
    warmup(layer, x)
    assert len(seen) == 1
    assert layer.weight.grad is None
    with torch.no_grad():
        warmup(layer, x)
    assert len(seen) == 1


def test_the_first_call_after_warmup_compiles_nothing():
    code = """
import torch
from ssmvid_kernels import causal_conv1d, warmup
from ssmvid_kernels.conv import cases, cpu_kernels
inputs = cases.make_inputs(cases.EXACT["ragged"])
warmup(causal_conv1d, **inputs, backend="cpu")
kernels = (cpu_kernels.conv_forward, cpu_kernels.conv_backward)
before = [len(kernel.signatures) for kernel in kernels]
longer = cases.make_inputs(cases.EXACT["ragged"]._replace(b=3, l=50))
causal_conv1d(**longer, backend="cpu").y.sum().backward()
print(before, [len(kernel.signatures) for kernel in kernels])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[1, 1] [1, 1]\n"


def test_a_capture_that_would_compile_names_kernel_and_remedy():
    """A kernel compiled for a named GPU, in a process where torch says that a graph is being captured."""
    code = """
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction
from benchmarks.compile_kernels import _driver
from ssmvid_kernels.conv import triton_conv
from ssmvid_kernels.graphs import refusing_to_compile
triton.runtime.driver.set_active(_driver(GPUTarget("cuda", 90, 32)))
launch = JITFunction.run
JITFunction.run = lambda kernel, *args, grid, warmup, **rest: launch(kernel, *args, grid=grid, warmup=True, **rest)
class OnGPU:
    is_cuda = True
first, *_ = triton_conv.compile_cases().values()
compile_it = refusing_to_compile("causal_conv1d_triton", lambda _: first())
for capturing in (True, False, True):
    torch.cuda.is_current_stream_capturing = lambda: capturing
    try:
        compile_it(OnGPU())
        print("ran")
    except RuntimeError as error:
        print(error)
assert triton.knobs.runtime.jit_cache_hook is None
"""
    env = {"PATH": "", "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    refused, ran, again = done.stdout.splitlines()
    assert refused.startswith("causal_conv1d_triton: a CUDA graph is being captured and conv_forward is not compiled")
    assert refused.endswith(
        "call ssmvid_kernels.warmup(...) before, with tensors of the same dtypes and the same options"
    )
    assert (ran, again) == ("ran", "ran")


def test_a_device_is_sent_a_walk_once():
    walks = (Walk((2, 3, 3), (9, 3, 1)), Walk(table=torch.arange(18, dtype=torch.int32).flip(0)))
    for which, entries in ((walks[:1], 1), (walks, 2), (walks, 2)):
        assert encode(which, torch.device("meta")).shape == ((1, 8) if len(which) == 1 else (2, 18))
        assert len(walks[0]._sent) == entries
    assert encode(walks, torch.device("cpu")).device.type == "cpu"
    assert walks[0] == Walk((2, 3, 3), (9, 3, 1))
