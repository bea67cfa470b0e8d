"""Every op's Triton kernels, interpreted where there is no GPU: as exact as the reference, outputs and gradients both.

Memory that a kernel does not write is NaN here, so what it forgets is seen as an error.
"""

import pytest
import torch

from ssmvid_kernels.calls import LAYOUTS, arguments
from ssmvid_kernels.testing import assert_op_as_exact, device_of, poisoned_empty
from tests.kernels.test_ops import each_case, each_op


def assert_triton_as_exact(op, case, call=None, run=None, **how):
    tensors, options = arguments(op, case, call, device=device_of("triton"), **how)
    with poisoned_empty():
        assert_op_as_exact(run or op.run, tensors, "triton", **options)


@each_case
def test_as_exact_as_the_reference(op, case):
    assert_triton_as_exact(op, case)


@each_op
@pytest.mark.parametrize("case", ["two_paths", "packed"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_every_dtype(dtype, case, op):
    assert_triton_as_exact(op, op.cases.EXACT[case], dtype=dtype)


@each_op
@pytest.mark.parametrize("case", ["one_step", "two_paths", "packed"])
def test_every_other_way_to_call(case, op):
    for call in list(op.cases.CALLS.values())[1:]:
        assert_triton_as_exact(op, op.cases.EXACT[case], call)


@each_op
@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_any_strides(layout, op):
    assert_triton_as_exact(op, op.cases.EXACT["two_paths"], layout=layout)


@each_op
@pytest.mark.parametrize("output", [0, 1], ids=["y", "h"])
def test_the_gradient_of_one_output_alone(output, op):
    case = op.cases.EXACT["packed"]
    assert_triton_as_exact(op, case, run=lambda **given: op.run(**given)[output : output + 1])
