"""rms_norm and layer_norm: what holds for them alone. Exactness of all implementations: test_ops.py, test_triton.py."""

import pytest
import torch
import torch.nn.functional as F

from ssmvid_kernels import layer_norm, rms_norm
from ssmvid_kernels.calls import arguments, find_ops
from ssmvid_kernels.norm import triton_norm
from ssmvid_kernels.norm.cases import CALLS, EXACT, Case, make_inputs
from ssmvid_kernels.testing import assert_op_as_exact, device_of

NORMS = [find_ops()[name] for name in ("rms_norm", "layer_norm")]
BACKENDS = ["reference", "torch", "cpu", "triton"]
each_norm = pytest.mark.parametrize("op", NORMS, ids=lambda op: op.name)


@pytest.fixture
def tokens():
    return make_inputs(EXACT["two_groups"], torch.float64)


def test_are_the_norms_of_torch(tokens):
    x, weight, bias, residual, _ = tokens.values()
    y, stream = layer_norm(x, weight, bias, residual=residual, eps=1e-3, backend="reference")
    assert torch.equal(stream, x + residual)
    torch.testing.assert_close(y, F.layer_norm(stream, (10,), weight, bias, 1e-3))
    y, nothing = rms_norm(x, weight, eps=1e-3, backend="reference")
    torch.testing.assert_close(y, F.rms_norm(x, (10,), weight, 1e-3))
    assert nothing is None


def test_a_gate_before_or_after_the_norm_of_each_group(tokens):
    x, weight, _, _, z = tokens.values()
    alone = lambda u: F.rms_norm(u.unflatten(-1, (2, 5)), (5,), eps=1e-5).flatten(-2) * weight
    gated = lambda before: rms_norm(x, weight, z=z, group_size=5, norm_before_gate=before, backend="reference").y
    torch.testing.assert_close(gated(True), alone(x) * F.silu(z))
    torch.testing.assert_close(gated(False), alone(x * F.silu(z)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_number_of_axes(backend):
    x = torch.randn(2, 3, 4, 5, device=device_of(backend))
    y, stream = rms_norm(x, residual=x, backend=backend)
    for flat in (x.reshape(6, 4, 5), x.reshape(24, 5)):
        again = rms_norm(flat, residual=flat, backend=backend)
        assert torch.equal(again.y, y.reshape(flat.shape))
        assert torch.equal(again.residual, stream.reshape(flat.shape))
    assert torch.equal(rms_norm(x[0, 0, 0], residual=x[0, 0, 0], backend=backend).y, y[0, 0, 0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_residual_keeps_its_precision_beside_narrow_tokens(backend):
    x = torch.full((1, 2, 8), 2.0**-10, dtype=torch.bfloat16, device=device_of(backend))
    residual = torch.ones(1, 2, 8, device=x.device)
    y, stream = rms_norm(x, residual=residual, backend=backend)
    assert (y.dtype, stream.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(stream, torch.full_like(stream, 1 + 2.0**-10))
    assert rms_norm(x, residual=residual.double(), backend=backend).residual.dtype == torch.float64


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mean_far_from_zero_does_not_swallow_the_variance(backend):
    x = 1000 + torch.randn(1, 3, 257, generator=torch.Generator().manual_seed(0))
    exact = layer_norm(x.double(), backend="reference").y
    y = layer_norm(x.to(device_of(backend)), backend=backend).y.cpu()
    torch.testing.assert_close(y.double(), exact, rtol=0, atol=1e-3)  # an ulp of 1000 is 6e-5


@each_norm
@pytest.mark.parametrize("call", CALLS)
def test_rows_wider_than_a_block_and_programs_of_many_tiles(monkeypatch, call, op):
    monkeypatch.setattr(triton_norm, "BLOCK", 16)
    monkeypatch.setattr(triton_norm, "TILE", 32)
    monkeypatch.setattr(triton_norm, "PROGRAMS", 4)
    case = Case(2, 7, 74, groups=2)  # blocks of 16, 16 and 5 channels
    tensors, options = arguments(op, case, CALLS[call], device=device_of("triton"))
    assert_op_as_exact(op.run, tensors, "triton", **options)


@pytest.mark.parametrize("backend", ["cpu", "triton"])
def test_registered_as_torch_expects(backend):
    tensors = [
        tensor.detach().to(device_of(backend)).requires_grad_() for tensor in make_inputs(Case(1, 2, 6)).values()
    ]
    operator = getattr(torch.ops.ssmvid, f"norm_{backend}").default
    torch.library.opcheck(operator, (*tensors, 2, True, False, 1e-5))


@each_norm
def test_wrong_arguments_are_named(op):
    tensors = make_inputs(Case(2, 8, 6))
    run = lambda **changed: op.run(**tensors | changed)
    with pytest.raises(TypeError, match=rf"{op.name}: x must be a real floating-point tensor, got torch.int64"):
        run(x=torch.zeros(2, 8, 6, dtype=torch.int64))
    with pytest.raises(ValueError, match=rf"{op.name}: x must be \(\.\.\., d\), got \(\)"):
        run(x=torch.zeros(()))
    with pytest.raises(ValueError, match=r"weight must be \(d,\) = \(6,\), got \(4,\)"):
        run(weight=torch.zeros(4))
    with pytest.raises(ValueError, match=r"z must be \(\.\.\., d\) = \(2, 8, 6\), got \(8, 6\)"):
        run(z=torch.zeros(8, 6))
    with pytest.raises(ValueError, match=r"residual is on meta, x on cpu: move it there"):
        run(residual=torch.zeros(2, 8, 6, device="meta"))
    with pytest.raises(ValueError, match=r"group_size must be a divisor of d = 6, got 4"):
        run(group_size=4)
