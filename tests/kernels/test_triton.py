"""Every op's Triton kernels, interpreted where there is no GPU: as exact as the reference, outputs and gradients both.

Memory that a kernel does not write is NaN here, so what it forgets is seen as an error.
"""

import pytest
import torch

from ssmvid_kernels.calls import arguments
from ssmvid_kernels.testing import assert_op_as_exact, device_of, poisoned_empty
from tests.kernels.test_ops import each_case, each_layout, each_op


def assert_triton_as_exact(op, case, call=None, run=None, **how):
    tensors, options = arguments(op, case, call, device=device_of("triton"), **how)
    with poisoned_empty():
        assert_op_as_exact(run or op.run, tensors, "triton", **options)


@each_case
def test_as_exact_as_the_reference(op, case):
    assert_triton_as_exact(op, case)


@each_op
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_every_dtype(dtype, op):
    for case in op.among("two_paths", "packed", "two_groups"):
        assert_triton_as_exact(op, op.cases.EXACT[case], dtype=dtype)


@each_op
def test_every_other_way_to_call(op):
    for call in list(op.cases.CALLS.values())[1:]:
        for case in op.among("one_step", "two_paths", "packed", "many_groups"):
            assert_triton_as_exact(op, op.cases.EXACT[case], call)


@each_layout
def test_any_strides(op, layout):
    assert_triton_as_exact(op, op.cases.EXACT[op.strided_case], layout=layout)


@each_op
@pytest.mark.parametrize("output", [0, 1], ids=["first", "second"])
def test_the_gradient_of_one_output_alone(output, op):
    case = op.cases.EXACT[op.among("packed", "two_groups")[0]]
    assert_triton_as_exact(op, case, run=lambda **given: op.run(**given)[output : output + 1])
