"""selective_scan_fn and mamba_inner_fn against the recurrence written in mamba_ssm's layout, in float64.

Shapes and tolerances marked so are those of github.com/state-spaces/mamba, tests/ops/test_selective_scan.py, 2.3.2.
"""

import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from ssmvid_kernels.compat import mamba_inner_fn, selective_scan_fn

SOURCE_LENGTHS = [128, *(pytest.param(l, marks=pytest.mark.slow) for l in (256, 512, 1024, 2048, 4096))]
TOLERANCES = {torch.float32: (6e-4, 2e-3), torch.float16: (3e-3, 5e-3), torch.bfloat16: (3e-2, 5e-2)}
FORMS = ["(d, n)", "(b, n, l)", "(b, 1, n, l)", "(b, 2, n, l)"]


def define(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
    """y and the last state, one step after the other."""
    (b, d, l), n = u.shape, A.shape[1]

    def each_channel(gate):
        if gate.dim() == 2:
            return gate[None, :, :, None].expand(b, d, n, l)
        gate = gate.unsqueeze(1) if gate.dim() == 3 else gate
        return gate.repeat_interleave(d // gate.shape[1], 1)

    B, C = each_channel(B), each_channel(C)
    dt = delta if delta_bias is None else delta + delta_bias[:, None]
    dt = F.softplus(dt) if delta_softplus else dt
    h, ys = u.new_zeros(b, d, n), []
    for i in range(l):
        h = torch.exp(dt[:, :, i, None] * A) * h + (dt * u)[:, :, i, None] * B[..., i]
        ys.append((h * C[..., i]).sum(-1))
    y = torch.stack(ys, -1)
    y = y if D is None else y + D[:, None] * u
    return y if z is None else y * F.silu(z), h


def make(l, form_B, form_C, dtype=torch.float32, b=2, d=4, n=8):
    torch.manual_seed(0)
    shapes = dict(zip(FORMS, [(d, n), (b, n, l), (b, 1, n, l), (b, 2, n, l)]))
    gate = lambda form: torch.randn(shapes[form], dtype=torch.float32 if form == "(d, n)" else dtype)
    return {
        "u": torch.randn(b, d, l, dtype=dtype),
        "delta": 0.5 * torch.rand(b, d, l, dtype=dtype),
        "A": -0.5 * torch.rand(d, n),
        "B": gate(form_B),
        "C": gate(form_C),
        "D": torch.randn(d),
        "z": torch.randn(b, d, l, dtype=dtype),
        "delta_bias": 0.5 * torch.rand(d),
    }


def assert_same(run, reference, tensors, rtol, atol):
    """Outputs, and gradients of a random mix of the first of them."""
    results = []
    for function, dtype in ((run, None), (reference, torch.float64)):
        leaves = {name: t.detach().to(dtype or t.dtype).requires_grad_() for name, t in tensors.items()}
        out = function(**leaves)
        weight = torch.randn(out[0].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        out[0].backward(weight.to(out[0].dtype))
        results.append([*out, *(leaf.grad for leaf in leaves.values())])
    for name, got, expected in zip(["y", "h"][: len(out)] + list(tensors), *results):
        say = partial("{}: {}".format, name)
        torch.testing.assert_close(got, expected.to(got.dtype), rtol=rtol, atol=atol, msg=say)


@pytest.mark.parametrize("form", FORMS[1::2])
@pytest.mark.parametrize("l", SOURCE_LENGTHS)
def test_shapes_and_tolerances_of_the_source(l, form):
    run = lambda **t: selective_scan_fn(**t, delta_softplus=True, return_last_state=True)
    reference = lambda **t: define(**t, delta_softplus=True)
    assert_same(run, reference, make(l, form, form), *TOLERANCES[torch.float32])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(
    ("form_B", "form_C"), [(B, C) for B, C in itertools.product(FORMS, FORMS) if "2" not in B + C or B == C]
)
def test_every_form_of_the_gates(form_B, form_C, dtype):
    run = lambda **t: selective_scan_fn(**t, delta_softplus=True, return_last_state=True)
    reference = lambda **t: define(**t, delta_softplus=True)
    assert_same(run, reference, make(17, form_B, form_C, dtype), *TOLERANCES[dtype])


@pytest.mark.parametrize("without", [("D",), ("z",), ("delta_bias",), ("D", "z", "delta_bias")])
@pytest.mark.parametrize("form", [FORMS[0], FORMS[1], FORMS[3]])
def test_each_optional_argument(form, without):
    tensors = {name: tensor for name, tensor in make(9, form, form).items() if name not in without}
    run = lambda **t: (selective_scan_fn(**t),)
    assert_same(run, lambda **t: define(**t)[:1], tensors, 1e-4, 1e-5)


def test_the_last_state_has_its_gradient():
    tensors = make(9, *FORMS[1:2] * 2)
    run = lambda **t: selective_scan_fn(**t, return_last_state=True)[::-1]
    used = {name: tensors[name] for name in ("u", "delta", "A", "B")}
    rest = {name: tensors[name] for name in ("C",)}
    assert_same(lambda **t: run(**t, **rest)[:1], lambda **t: define(**t, C=rest["C"].double())[1:], used, 1e-4, 1e-5)


def test_what_has_no_meaning_here_is_named():
    tensors = make(9, FORMS[1], FORMS[1])
    for name in ("A", "B", "C"):
        with pytest.raises(TypeError, match=f"selective_scan_fn: {name} must be real, got torch.complex64"):
            selective_scan_fn(**tensors | {name: tensors[name].to(torch.complex64)})
    with pytest.raises(ValueError, match=r"B must be \(b, n, l\) = \(2, 8, 9\), got \(2, 9, 8\)"):
        selective_scan_fn(**tensors | {"B": tensors["B"].mT})
    with pytest.raises(ValueError, match=r"delta must be \(b, d, l\) = \(2, 4, 9\)"):
        selective_scan_fn(**tensors | {"delta": tensors["delta"].mT})
    with pytest.raises(ValueError, match=r"B and C must have the same groups"):
        selective_scan_fn(**make(9, FORMS[3], FORMS[1]))
    with pytest.raises(ValueError, match=r"the groups of B must divide the channels of u: got g = 3, d = 4"):
        selective_scan_fn(**tensors | {"B": torch.ones(2, 3, 8, 9)})


def define_inner(
    xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, out_proj_weight, A, B=None, C=None,
    B_proj_bias=None, C_proj_bias=None, b_rms_weight=None, c_rms_weight=None, dt_rms_weight=None, **rest,
):  # fmt: skip
    x, z = xz.chunk(2, 1)
    d, width = x.shape[1], conv1d_weight.shape[-1]
    x = F.silu(F.conv1d(x, conv1d_weight, conv1d_bias, padding=width - 1, groups=d)[..., : x.shape[2]])
    rank, n = delta_proj_weight.shape[1], A.shape[1]
    projected = x_proj_weight @ x
    norm = lambda t, weight: t if weight is None else F.rms_norm(t.mT, weight.shape, weight, 1e-6).mT
    delta = norm(delta_proj_weight @ projected[:, :rank], dt_rms_weight)
    gate = lambda t, bias, weight: norm(t if bias is None else t + bias[:, None], weight)
    B = gate(projected[:, rank : rank + n], B_proj_bias, b_rms_weight) if B is None else B
    C = gate(projected[:, -n:], C_proj_bias, c_rms_weight) if C is None else C
    return (define(x, delta, A, B, C, z=z, delta_softplus=True, **rest)[0].mT @ out_proj_weight.mT,)


def make_inner(fixed, l=128, d=768, n=8, rank=48):
    torch.manual_seed(0)
    draw = lambda *shape: torch.randn(shape)
    scaled = lambda *shape: torch.randn(shape) / shape[-1] ** 0.5  # the source's unit weights make outputs of 1e4
    projected = 2 - len(fixed)
    return {
        "xz": draw(2, 2 * d, l),
        "conv1d_weight": draw(d, 1, 3),
        "conv1d_bias": draw(d),
        "x_proj_weight": scaled(rank + projected * n, d),
        "delta_proj_weight": scaled(d, rank),
        "out_proj_weight": scaled(d // 2, d),
        "A": -0.5 * torch.rand(d, n),
        "D": draw(d),
        "delta_bias": 0.5 * torch.rand(d),
    } | {name: draw(d, n) for name in fixed}


@pytest.mark.parametrize("fixed", ["", "B", "C", "BC"])
def test_mamba_inner_has_the_shapes_and_tolerances_of_the_source(fixed):
    run = lambda **t: (mamba_inner_fn(**t, out_proj_bias=None),)
    assert_same(run, define_inner, make_inner(fixed), 1e-3, 2e-3)


def test_mamba_inner_with_biases_and_norms():
    tensors = make_inner("", l=19, d=24, rank=3)
    extras = {"B_proj_bias": 8, "C_proj_bias": 8, "b_rms_weight": 8, "c_rms_weight": 8, "dt_rms_weight": 24}
    tensors |= {name: torch.randn(size) for name, size in extras.items()}
    assert_same(lambda **t: (mamba_inner_fn(**t, out_proj_bias=None),), define_inner, tensors, 1e-3, 1e-4)


def test_mamba_inner_names_what_it_would_not_read():
    with pytest.raises(ValueError, match=r"mamba_inner_fn: B is given, so B_proj_bias and its rms_weight must be None"):
        mamba_inner_fn(**make_inner("B", l=4, d=8), out_proj_bias=None, b_rms_weight=torch.ones(8))
    with pytest.raises(TypeError, match=r"mamba_inner_fn: A must be real"):
        mamba_inner_fn(**make_inner("", l=4, d=8) | {"A": torch.ones(8, 8).to(torch.complex64)}, out_proj_bias=None)
