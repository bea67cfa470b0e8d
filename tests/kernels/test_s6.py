"""selective_scan: what holds for it alone. Exactness of its implementations: test_ops.py and test_triton.py."""

import pytest
import torch

from ssmvid_kernels import Walk, selective_scan
from ssmvid_kernels.calls import arguments, find_ops
from ssmvid_kernels.s6.cases import EXACT, Case, make_inputs, make_options
from ssmvid_kernels.testing import assert_op_as_exact, device_of, outputs_and_gradients
from ssmvid_kernels.walk import encode

S6 = find_ops()["s6"]


def operands(backend: str) -> tuple:
    """Arguments of an implementation, as `selective_scan` hands them over."""
    inputs = make_inputs(Case(1, 2, 3, 2, k=1)).values()
    x, dt, A, B, C, D, _, dt_bias, h0 = (t.detach().to(device_of(backend)).requires_grad_() for t in inputs)
    paths = encode([Walk((2, 1, 1), reverse=True)], x.device)
    return x.detach()[:, None].requires_grad_(), dt, A, B, C, D, dt_bias, h0, paths, None


def test_is_the_recurrence_of_the_paper():
    x, dt, A, B, C, D, z, dt_bias, h = (t.detach() for t in make_inputs(Case(1, 6, 3, 2), torch.float64).values())
    y, after = selective_scan(x, dt, A, B, C, D, z=z, dt_bias=dt_bias, dt_softplus=True, h0=h, backend="reference")
    state = h[0].clone()
    for i in range(6):
        for c in range(3):
            step = torch.log1p(torch.exp(dt[0, i, c] + dt_bias[c]))
            state[c] = torch.exp(step * A[c]) * state[c] + step * B[0, i] * x[0, i, c]
            gate = z[0, i, c] / (1 + torch.exp(-z[0, i, c]))
            expected = (torch.dot(C[0, i], state[c]) + D[c] * x[0, i, c]) * gate
            torch.testing.assert_close(y[0, i, c], expected)
    torch.testing.assert_close(after[0], state)


@pytest.mark.parametrize("backend", ["torch", "cpu", "triton"])
@pytest.mark.parametrize("step", [-100.0, -20.0, 0.0, 20.0, 20.000001, 88.0, 1e4])
def test_extreme_steps_stay_finite(backend, step):
    inputs, options = arguments(S6, EXACT["one_step"], device=device_of(backend))
    with torch.no_grad():
        inputs["dt"].fill_(step)
    outputs = outputs_and_gradients(selective_scan, inputs, backend=backend, **options)
    assert not [name for name, tensor in outputs.items() if not tensor.isfinite().all()]


@pytest.mark.parametrize("backend", ["reference", "torch", "cpu", "triton"])
def test_nan_in_a_step_size_is_not_hidden(backend):
    inputs, options = arguments(S6, EXACT["one_step"], device=device_of(backend))
    with torch.no_grad():
        inputs["dt"][..., 1] = float("nan")
    y, h = selective_scan(**inputs, **options, backend=backend)
    assert y[..., 1].isnan().all()
    assert y[..., ::2].isfinite().all()
    assert h[:, 1].isnan().all()


@pytest.mark.parametrize("n", [4, 5, 17, 257])
def test_every_tile_of_the_triton_kernels(n):
    inputs, options = arguments(S6, Case(1, 3, 5, n), device=device_of("triton"))
    assert_op_as_exact(selective_scan, inputs, "triton", **options)


@pytest.mark.parametrize("backend", ["cpu", "triton"])
def test_registered_as_torch_expects(backend):
    op = getattr(torch.ops.ssmvid, f"selective_scan_{backend}").default
    torch.library.opcheck(op, (*operands(backend), True, True, True))


def test_no_gradient_keeps_no_states():
    *_, states = torch.ops.ssmvid.selective_scan_cpu(*operands("cpu"), True, True, False)
    assert states.numel() == 0


def test_wrong_arguments_are_named():
    inputs = make_inputs(Case(2, 8, 4, 3))
    with pytest.raises(ValueError, match=r"B must be \(b, l, n\) = \(2, 8, 3\), got \(2, 8, 5\)"):
        selective_scan(**inputs | {"B": torch.zeros(2, 8, 5)})
    with pytest.raises(ValueError, match=r"A must be \(d, n\), got \(1, 4, 3\)"):
        selective_scan(**inputs | {"A": inputs["A"][None]})
    with pytest.raises(ValueError, match=r"merge must be 'sum', 'mean' or None, got 'max'"):
        selective_scan(**inputs, merge="max")
    with_paths = make_inputs(EXACT["two_paths"])
    with pytest.raises(ValueError, match=r"z gates the merged y, so it needs merge='sum' or 'mean', got merge=None"):
        selective_scan(**with_paths, **make_options(EXACT["two_paths"]), merge=None)
