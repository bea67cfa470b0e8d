"""causal_conv1d: what holds for it alone. Exactness of its implementations: test_ops.py and test_triton.py."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ssmvid_kernels import Walk, causal_conv1d
from ssmvid_kernels.calls import arguments, find_ops
from ssmvid_kernels.conv import triton_conv
from ssmvid_kernels.conv.cases import EXACT, Case, make_inputs, make_options
from ssmvid_kernels.testing import assert_op_as_exact, device_of
from ssmvid_kernels.walk import encode

CONV = find_ops()["conv"]
BACKENDS = ["reference", "torch", "cpu", "triton"]


@pytest.mark.parametrize("width", [2, 3, 4])
def test_is_the_convolution_of_torch(width):
    x, weight, bias, _ = make_inputs(Case(2, 9, 5, width), torch.float64).values()
    y, h = causal_conv1d(x, weight, bias, backend="reference")
    expected = F.conv1d(x.mT, weight[:, None], bias, padding=width - 1, groups=5)[..., :9].mT
    torch.testing.assert_close(y, expected)
    assert torch.equal(h, x[:, 10 - width :].mT)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_clip_shorter_than_the_state_keeps_some_of_it(backend):
    inputs, options = arguments(CONV, Case(1, 1, 3, 4), device=device_of(backend))
    _, h = causal_conv1d(**inputs, **options, backend=backend)
    assert torch.equal(h, torch.cat([inputs["h0"][..., 1:], inputs["x"].mT], -1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_extreme_sums_stay_finite_through_silu(backend):
    inputs, options = arguments(CONV, EXACT["one_step"], device=device_of(backend))
    with torch.no_grad():
        inputs["bias"].copy_(torch.tensor([-1e4, 0.0, 1e4]))
    with np.errstate(over="ignore"):  # exp(1e4) is inf on the way to 1 / inf; the interpreter is numpy
        y, _ = causal_conv1d(**inputs, **options, backend=backend)
        grads = torch.autograd.grad(y.sum(), list(inputs.values()))
    assert y.isfinite().all()
    assert all(grad.isfinite().all() for grad in grads)
    assert abs(y[0, 0, 0]) < 1e-30


@pytest.mark.parametrize("steps", sorted({steps for _, steps in triton_conv.STEPS}))
def test_every_length_of_the_triton_kernels_stripes(monkeypatch, steps):
    monkeypatch.setattr(triton_conv, "STEPS", ((0, steps),))
    inputs, options = arguments(CONV, Case(1, 4 * steps + 1, 33, 3), device=device_of("triton"))
    assert_op_as_exact(causal_conv1d, inputs, "triton", **options)


@pytest.mark.parametrize("backend", ["cpu", "triton"])
def test_registered_as_torch_expects(backend):
    inputs = make_inputs(Case(1, 2, 3, 2, k=1)).values()
    x, weight, bias, h0 = (tensor.detach().to(device_of(backend)).requires_grad_() for tensor in inputs)
    paths = encode([Walk((2, 1, 1), reverse=True)], x.device)
    args = (x.detach()[:, None].requires_grad_(), weight, bias, h0, paths, None, True)
    torch.library.opcheck(getattr(torch.ops.ssmvid, f"causal_conv1d_{backend}").default, args)


def test_wrong_arguments_are_named():
    inputs = make_inputs(Case(2, 8, 4, 3))
    with pytest.raises(ValueError, match=r"weight must be \(d, width\) with width 2, 3 or 4, got \(4, 5\)"):
        causal_conv1d(**inputs | {"weight": torch.zeros(4, 5)})
    with pytest.raises(ValueError, match=r"weight must be \(d, width\) = \(4, 3\), got \(7, 3\)"):
        causal_conv1d(**inputs | {"weight": torch.zeros(7, 3)})
    with pytest.raises(ValueError, match=r"bias must be \(d,\) = \(4,\), got \(5,\)"):
        causal_conv1d(**inputs | {"bias": torch.zeros(5)})
    with pytest.raises(ValueError, match=r"activation must be 'silu' or None, got 'gelu'"):
        causal_conv1d(**inputs, activation="gelu")
    with pytest.raises(ValueError, match=r"weight must be \(k, d, width\) with width 2, 3 or 4, got \(4, 3\)"):
        causal_conv1d(**inputs, **make_options(Case(2, 18, 4, 3, k=1)))
