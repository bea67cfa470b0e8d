"""Offsets have 64 bits: every kernel reads tensors whose batch rows, paths and tokens lie over 2^31 elements apart."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ssmvid_kernels.backends import interpreting
from ssmvid_kernels.calls import Op, arguments, axis_of
from tests.kernels.test_ops import each_op

FAR = 2**31
SPACING = 4096  # elements from one tensor to the next; each row is shorter


class Expanse:
    """Room for tensors that lie far apart: a sparse file, of which only the pages that are touched exist."""

    def __init__(self, file: Path, elements: int) -> None:
        self.memory = torch.from_file(str(file), shared=True, size=elements, dtype=torch.float32)
        file.unlink()
        self.next = FAR  # an offset that wraps around reads a wrong number here, not memory of somebody else

    def spread(self, tensor: Tensor) -> Tensor:
        """A copy with dense rows along the last axis, and FAR or more between the ends of every other."""
        *sizes, width = tensor.shape
        assert width < SPACING
        strides = [FAR // (size - 1) + (i + 1) * 1_000_003 for i, size in enumerate(sizes)]
        far = self.memory.as_strided(tensor.shape, (*strides, 1), self.next)
        assert all((size - 1) * stride > FAR for size, stride in zip(sizes, strides))
        self.next += SPACING
        return far.copy_(tensor.detach()).requires_grad_()


def run_both_ways(op: Op, tensors: dict[str, Tensor], weight: Tensor, **options: object) -> list[Tensor]:
    y, other = op.run(**tensors, **options)
    return [y, other, *torch.autograd.grad(y, list(tensors.values()), weight)]


@each_op
@pytest.mark.parametrize("backend", ["cpu", "triton"] if interpreting() else ["cpu"])  # for a GPU: gpu_checklist.py
def test_far_tensors_give_the_same_bits(backend, op, tmp_path):
    case = op.cases.EXACT[op.strided_case]
    tensors, options = arguments(op, case, layout="own x" if op.step else "dense")
    options["backend"] = backend
    if op.step:
        tensors.pop("z", None)  # the gate of a scan is torch's own, whose bits depend on strides
    y = op.run(**tensors, **options)[0]
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    expected = run_both_ways(op, tensors, weight, **options)

    expanse = Expanse(tmp_path / "memory", 6 * FAR)
    tokens = {name: expanse.spread(tensors[name]) for name in axis_of(op, case, "l") if name in tensors}
    got = run_both_ways(op, tensors | tokens, expanse.spread(weight).detach(), **options)
    assert [torch.equal(a, b) for a, b in zip(got, expected)] == [True] * len(expected)
