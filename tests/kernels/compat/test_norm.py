"""rmsnorm_fn against the formula in float64.

Shapes and tolerances are those of github.com/state-spaces/mamba, tests/ops/triton/test_layernorm_gated.py, 2.3.2; there
16 x 1024 rows.
"""

import pytest
import torch
import torch.nn.functional as F

from ssmvid_kernels.compat import rmsnorm_fn


def define(x, weight, bias, z, group_size, before):
    s = x if z is None or before else x * F.silu(z)
    groups = s.unflatten(-1, (-1, group_size or x.shape[-1]))
    y = (groups / (groups.square().mean(-1, keepdim=True) + 1e-5).sqrt()).flatten(-2) * weight
    y = y if bias is None else y + bias
    return y if z is None or not before else y * F.silu(z)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("group_size", [None, 64])
@pytest.mark.parametrize("has_z", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("d", [2048, 4096])
def test_shapes_and_tolerances_of_the_source(d, has_bias, has_z, group_size, before):
    torch.manual_seed(0)
    tensors = {"x": torch.randn(2, 16, d).half(), "weight": torch.randn(d)}
    tensors |= {"bias": torch.randn(d)} if has_bias else {}
    tensors |= {"z": torch.randn(2, 16, d).half()} if has_z else {}
    results = []
    for wide in (False, True):
        leaves = {name: (t.double() if wide else t).detach().requires_grad_() for name, t in tensors.items()}
        given = {"bias": None, "z": None} | leaves
        if wide:
            y = define(**given, group_size=group_size, before=before)
        else:
            y = rmsnorm_fn(**given, eps=1e-5, group_size=group_size, norm_before_gate=before)
        y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype))
        results.append([y, *(leaf.grad for leaf in leaves.values())])
    for got, expected in zip(*results):
        torch.testing.assert_close(got, expected.to(got.dtype), rtol=2e-3, atol=8e-3)
