"""ssd_scan: what holds for it alone. Exactness of its implementations: test_ops.py and test_triton.py."""

from dataclasses import replace

import pytest
import torch

from ssmvid_kernels import Walk, ssd_scan
from ssmvid_kernels.calls import arguments, find_ops
from ssmvid_kernels.ssd import triton_scan
from ssmvid_kernels.ssd.cases import EXACT, Case, make_inputs, make_options
from ssmvid_kernels.ssd.triton_plan import Plan
from ssmvid_kernels.testing import assert_op_as_exact, device_of, outputs_and_gradients, poisoned_empty

SSD = find_ops()["ssd"]
TINY = Case(1, 18, 2, 3, 2, chunk=16)
on_each = pytest.mark.parametrize("backend", ["torch", "cpu", "triton"])


def test_is_the_recurrence_of_the_paper():
    x, dt, A, B, C, D, z, dt_bias, h = (t.detach() for t in make_inputs(Case(1, 6, 2, 3, 2), torch.float64).values())
    y, after = ssd_scan(x, dt, A, B, C, D, z=z, dt_bias=dt_bias, dt_softplus=True, h0=h, backend="reference")
    state = h[0].clone()
    for i in range(6):
        for head in range(2):
            step = torch.log1p(torch.exp(dt[0, i, head] + dt_bias[head]))
            state[head] = torch.exp(step * A[head]) * state[head] + step * torch.outer(x[0, i, head], B[0, i, 0])
            gate = z[0, i, head] / (1 + torch.exp(-z[0, i, head]))
            expected = (state[head] @ C[0, i, 0] + D[head] * x[0, i, head]) * gate
            torch.testing.assert_close(y[0, i, head], expected)
    torch.testing.assert_close(after[0], state)


@pytest.mark.parametrize("case", ["one_step", "two_paths"])
@on_each
def test_skip_weight_a_channel(backend, case):
    case = EXACT[case]
    tensors, options = arguments(SSD, case, device=device_of(backend))
    g = torch.Generator().manual_seed(2)
    tensors["D"] = torch.randn((*tensors["D"].shape, case.p), generator=g).to(tensors["x"].device).requires_grad_()
    assert_op_as_exact(ssd_scan, tensors, backend, **options)


@pytest.mark.parametrize("backend", ["reference", "torch", "cpu", "triton"])
def test_limited_steps_have_no_gradient_outside(backend):
    limit = (0.5, 1.5)
    tensors, options = arguments(SSD, TINY._replace(b=2), SSD.cases.CALLS["limited"], device=device_of(backend))
    y, _ = ssd_scan(**tensors, **options, backend=backend)
    (d_dt,) = torch.autograd.grad(y.sum(), tensors["dt"])
    dt = torch.nn.functional.softplus(tensors["dt"] + tensors["dt_bias"])
    outside = (dt < limit[0]) | (dt > limit[1])
    assert 0.2 < outside.float().mean() < 0.8
    assert (d_dt[outside] == 0).all()
    assert (d_dt[~outside] != 0).all()


@pytest.mark.parametrize("step", [-100.0, -20.0, 0.0, 20.0, 20.000001, 88.0, 1e4])
@on_each
def test_extreme_steps_stay_finite(backend, step):
    tensors, options = arguments(SSD, TINY, device=device_of(backend))
    with torch.no_grad():
        tensors["dt"].fill_(step)
    outputs = outputs_and_gradients(ssd_scan, tensors, backend=backend, **options)
    assert not [name for name, tensor in outputs.items() if not tensor.isfinite().all()]


@pytest.mark.parametrize("step", [0.0, 1e-6, 1.0, 87.0, 89.0, 1e30])
@on_each
def test_extreme_decays_are_exact(backend, step):
    tensors, options = arguments(SSD, EXACT["ragged"], SSD.cases.CALLS["bare"], device=device_of(backend))
    with torch.no_grad():
        tensors["dt"][:, 3::7] = step
        tensors["A"].fill_(-1.0)
        tensors["x"][:, 3::7] /= max(step, 1.0)
    assert_op_as_exact(ssd_scan, tensors, backend, **options)


@on_each
def test_same_bits_every_time(backend):
    tensors, options = arguments(SSD, EXACT["two_paths"], device=device_of(backend))
    runs = [outputs_and_gradients(ssd_scan, tensors, backend=backend, **options) for _ in range(2)]
    assert not [name for name in runs[0] if not torch.equal(runs[0][name], runs[1][name])]


@pytest.mark.parametrize(
    "case",
    [
        Case(2, 53, 6, 3, 3, g=2, chunk=7),
        Case(1, 30, 4, 5, 4, k=4, chunk=4),
        Case(1, 150, 6, 3, 3, clips=(100, 50), chunk=16),
        Case(1, 60, 6, 3, 3, clips=(60, 0), chunk=7),
    ],
    ids=["rows", "paths", "packed", "empty_clip"],
)
def test_chunks_that_pass_in_groups_are_exact(case, monkeypatch):
    monkeypatch.setattr(triton_scan, "LONGEST_LOOP", 2)
    tensors, options = arguments(SSD, case, device=device_of("triton"))
    with poisoned_empty():
        assert_op_as_exact(ssd_scan, tensors, "triton", **options)


def test_chunks_pass_in_groups_past_512_of_them_unless_clips_are_many():
    call = lambda slots, clips, rows=1: triton_scan.groups_of(Plan(slots, rows * slots, clips, *[None] * 11))
    assert call(512, 1) == (512, 1)
    assert call(16384, 1) == (128, 128)
    assert call(16384, 8, rows=8) == (128, 128)
    assert call(16384, 64) == (128, 128)
    assert call(16384, 512) == (16384, 1)
    assert call(0, 1) == (0, 1)


@pytest.mark.parametrize("backend", ["cpu", "triton"])
def test_affine_walks_and_tables_agree(backend):
    tensors, options = arguments(SSD, EXACT["two_paths"], device=device_of(backend))
    there = options["walks"][0]
    walks = (there, replace(there, reverse=True))  # in both forms they share their chunks
    tables = tuple(Walk(table=walk.rows()) for walk in walks)
    affine = ssd_scan(**tensors, **options | {"walks": walks}, backend=backend)
    tabled = ssd_scan(**tensors, **options | {"walks": tables}, backend=backend)
    assert torch.equal(affine.y, tabled.y)
    assert torch.equal(affine.h, tabled.h)


def test_more_heads_than_a_task_takes():
    tensors, options = arguments(SSD, Case(2, 70, 14, 20, 3, g=2, chunk=32))
    expected = ssd_scan(**tensors, **options, backend="torch")
    got = ssd_scan(**tensors, **options, backend="cpu")
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", ["cpu", "triton"])
def test_registered_as_torch_expects(backend):
    case = Case(1, 18, 1, 3, 2, k=2, chunk=16)
    tensors, options = arguments(SSD, case, device=device_of(backend))
    x, dt, A, B, C, _, _, dt_bias, h0 = tensors.values()
    D = torch.randn(2, 1, 3, device=x.device).requires_grad_()
    paths = torch.stack([walk.rows() for walk in options["walks"]]).to(x.device)
    args = (x.detach()[:, None].requires_grad_(), dt, A, B, C, D, dt_bias, h0, paths, None, [])
    operator = getattr(torch.ops.ssmvid, f"ssd_scan_{backend}").default
    torch.library.opcheck(operator, (*args, True, [0.1, 2.0], 16, True, True))


def test_no_gradient_keeps_no_states():
    x, dt, A, B, C, *_ = make_inputs(Case(1, 64, 8, 4, 2)).values()
    args = (x[:, None], dt[:, None], A[None], B[:, None], C[:, None], None, None, None, None, None, [], True, None, 16)
    *_, kept = torch.ops.ssmvid.ssd_scan_cpu(*args, True, True)
    *_, states = torch.ops.ssmvid.ssd_scan_cpu(*args, True, False)
    assert kept.numel() == 5 * 8 * 4 * 2
    assert states.numel() == 0


def test_wrong_arguments_are_named():
    inputs = make_inputs(Case(2, 8, 4, 3, 5, g=2))
    wrong = {
        r"B must be \(b, l, g, n\), got \(2, 8, 5\)": {"B": torch.zeros(2, 8, 5)},
        r"the groups of B must divide the heads of x: got g = 3, heads = 4": {"B": torch.zeros(2, 8, 3, 5)},
        r"C must be \(b, l, g, n\) = \(2, 8, 2, 5\), got \(2, 8, 1, 5\)": {"C": torch.zeros(2, 8, 1, 5)},
        r"A must be \(heads,\) = \(4,\), got \(4, 5\)": {"A": torch.zeros(4, 5)},
        r"D must be \(heads,\) = \(4,\), got \(3,\)": {"D": torch.zeros(3)},
        r"D must be \(heads, p\) = \(4, 3\), got \(4, 4\)": {"D": torch.zeros(4, 4)},
        r"merge must be 'sum', 'mean' or None, got 'max'": {"merge": "max"},
        r"dt_limit must be \(low, high\) with low <= high, got \(2.0, 1.0\)": {"dt_limit": (2.0, 1.0)},
        r"chunk must be at least 1, got 0": {"chunk": 0},
    }
    for message, change in wrong.items():
        with pytest.raises(ValueError, match=f"^ssd_scan: {message}"):
            ssd_scan(**inputs | change)
    packed = EXACT["packed_paths"]
    with pytest.raises(ValueError, match=r"ssd_scan: z gates the merged y, so it needs merge='sum' or 'mean'"):
        ssd_scan(**make_inputs(packed), **make_options(packed), merge=None)
    tensors, options = arguments(SSD, TINY, device=device_of("triton"))
    with pytest.raises(ValueError, match=r"chunk must be at most 256 on backend 'triton', got 300"):
        ssd_scan(**tensors, **options | {"chunk": 300}, backend="triton")


def test_on_the_meta_device_it_gives_shapes():
    x, gate = torch.empty(2, 5, 4, 8, device="meta"), torch.empty(2, 5, 1, 3, device="meta")
    y, h = ssd_scan(x, x[..., 0], x[0, 0, :, 0], gate, gate)
    assert (y.device.type, y.shape, h.shape) == ("meta", (2, 5, 4, 8), (2, 4, 8, 3))
