"""Every Triton kernel compiles for every GPU target, without a GPU, and stays inside its budget."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.compile_kernels import BUDGET, TARGETS, Compiled, as_budget, breaches
from ssmvid_kernels.calls import find_ops

SCRIPT = BUDGET.parents[2] / "benchmarks" / "compile_kernels.py"
ROW = Compiled("op case kernel", "cuda:90", registers=61, spill=0, shared=512, seconds=1.0)


@pytest.mark.slow  # four targets, minutes of two cores
def test_every_kernel_keeps_to_its_budget():
    # In a process of its own: the interpreter of this one cannot be switched off again.
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, SCRIPT], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_budget_holds_every_op_and_target():
    kernels = json.loads(BUDGET.read_text())["kernels"]
    assert {name.split()[0] for name in kernels} == {op.folder for op in find_ops().values()}
    assert all(targets.keys() == set(TARGETS) for targets in kernels.values())


def test_a_figure_at_its_budget_is_no_breach():
    budget = as_budget([ROW])
    assert budget["kernels"] == {"op case kernel": {"cuda:90": {"registers": 64, "spill": 0, "shared": 512}}}
    assert breaches([ROW], budget) == []
    assert breaches([ROW._replace(registers=64)], budget) == []


@pytest.mark.parametrize(("figure", "worse"), [("registers", 65), ("spill", 8), ("shared", 1024)])
def test_a_figure_above_its_budget_is_named(figure, worse):
    limit = as_budget([ROW])["kernels"]["op case kernel"]["cuda:90"][figure]
    found = breaches([ROW._replace(**{figure: worse})], as_budget([ROW]))
    assert found == [f"op case kernel, cuda:90: {figure} {worse}, budget {limit}"]


def test_a_matmul_off_the_tensor_cores_is_named():
    budget = as_budget([ROW])
    assert breaches([ROW._replace(matmuls=8)], budget) == []
    found = breaches([ROW._replace(matmuls=0)], budget)
    assert found == ["op case kernel, cuda:90: multiplies 16-bit factors without tensor cores"]


def test_kernels_without_a_budget_and_budgets_without_a_kernel_are_named():
    other = ROW._replace(target="hip:gfx942")
    assert breaches([ROW, other], as_budget([ROW])) == ["op case kernel, hip:gfx942: not in the budget"]
    assert breaches([ROW], as_budget([ROW, other])) == ["op case kernel, hip:gfx942: in the budget, not compiled"]
    renamed = ROW._replace(kernel="op other kernel")
    assert breaches([renamed], as_budget([ROW])) == [
        "op other kernel, cuda:90: not in the budget",
        "op case kernel, cuda:90: in the budget, not compiled",
    ]
