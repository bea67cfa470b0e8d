"""ssd_scan: every implementation is as exact as the reference, outputs and gradients both."""

import pytest
import torch

from ssmvid_kernels import Walk, ssd_scan, ssd_step
from ssmvid_kernels.ssd.cases import EXACT, Case, make_inputs, make_options
from ssmvid_kernels.testing import assert_op_as_exact, outputs_and_gradients, poisoned_empty

FAST = ["torch", "cpu"]  # the Triton kernels: test_ssd_triton.py
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", EXACT.values(), ids=EXACT.keys())
@pytest.mark.parametrize("backend", FAST)
def test_as_exact_as_the_reference(backend, case, dtype):
    assert_op_as_exact(ssd_scan, make_inputs(case, dtype), backend, dt_softplus=True, **make_options(case))


@pytest.mark.parametrize("merge", ["mean", None])
@pytest.mark.parametrize("own_x", [False, True], ids=["shared x", "x of its own"])
@pytest.mark.parametrize("backend", FAST)
def test_paths_apart_and_averaged(backend, own_x, merge):
    case = EXACT["four_paths"]
    inputs = make_inputs(case)
    if merge is None:
        del inputs["z"]
    if own_x:
        g = torch.Generator().manual_seed(2)
        shape = (case.b, case.k, case.l, case.heads, case.p)
        inputs["x"] = torch.randn(shape, generator=g).requires_grad_()
    assert_op_as_exact(ssd_scan, inputs, backend, dt_softplus=True, merge=merge, **make_options(case))


@pytest.mark.parametrize("left_out", [("D",), ("z",), ("dt_bias",), ("h0",), ("D", "z", "dt_bias", "h0")], ids=str)
@pytest.mark.parametrize("backend", FAST)
def test_optional_arguments(backend, left_out):
    inputs = make_inputs(EXACT["ragged"])
    with torch.no_grad():
        inputs["dt"].abs_()  # without softplus the step size itself must be positive
    kept = {name: tensor for name, tensor in inputs.items() if name not in left_out}
    assert_op_as_exact(ssd_scan, kept, backend)


@pytest.mark.parametrize("case", ["ragged", "two_paths"])
@pytest.mark.parametrize("backend", FAST)
def test_skip_weight_a_channel(backend, case):
    case = EXACT[case]
    inputs = make_inputs(case)
    g = torch.Generator().manual_seed(2)
    inputs["D"] = torch.randn((*inputs["D"].shape, case.p), generator=g).requires_grad_()
    assert_op_as_exact(ssd_scan, inputs, backend, dt_softplus=True, **make_options(case))


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_limited_steps_have_no_gradient_outside(backend):
    case = EXACT["ragged"]
    inputs = make_inputs(case)
    limit = (0.5, 1.5)
    assert_op_as_exact(ssd_scan, inputs, backend, dt_softplus=True, dt_limit=limit, chunk=16)
    y, _ = ssd_scan(**inputs, dt_softplus=True, dt_limit=limit, chunk=16, backend=backend)
    (d_dt,) = torch.autograd.grad(y.sum(), inputs["dt"])
    dt = torch.nn.functional.softplus(inputs["dt"] + inputs["dt_bias"])
    outside = (dt < limit[0]) | (dt > limit[1])
    assert 0.2 < outside.float().mean() < 0.8
    assert (d_dt[outside] == 0).all()
    assert (d_dt[~outside] != 0).all()


def strided(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values, laid out otherwise."""
    if layout == "transposed":
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "sliced":  # of a wider tensor, from an odd offset
        wide = tensor.new_zeros(*tensor.shape[:-1], tensor.shape[-1] + 3)
        wide[..., 1:-2] = tensor
        return wide[..., 1:-2]
    return tensor[:1].expand_as(tensor)  # "expanded": one row for all


@pytest.mark.parametrize("layout", ["transposed", "sliced", "expanded"])
@pytest.mark.parametrize("backend", FAST)
def test_any_strides(backend, layout):
    case = EXACT["two_paths"]
    inputs = make_inputs(case)
    inputs = {name: strided(tensor.detach(), layout).requires_grad_() for name, tensor in inputs.items()}
    assert_op_as_exact(ssd_scan, inputs, backend, dt_softplus=True, **make_options(case))


@pytest.mark.parametrize("case", EXACT.values(), ids=EXACT.keys())
@pytest.mark.parametrize("backend", FAST)
def test_every_output_is_written(backend, case):
    with poisoned_empty():
        outputs = outputs_and_gradients(
            ssd_scan, make_inputs(case), backend=backend, dt_softplus=True, **make_options(case)
        )
    assert not [name for name, tensor in outputs.items() if tensor.isnan().any()]


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_two_halves_make_a_whole(backend):
    whole = make_inputs(Case(2, 41, 4, 3, 2))
    part = lambda s: {name: t[:, s] if name in ("x", "dt", "B", "C", "z") else t for name, t in whole.items()}
    options = dict(dt_softplus=True, chunk=16, backend=backend)
    first = ssd_scan(**part(slice(17)), **options)
    second = ssd_scan(**part(slice(17, None)) | {"h0": first.h}, **options)
    y, h = ssd_scan(**whole, **options)
    torch.testing.assert_close(torch.cat([first.y, second.y], dim=1), y, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(second.h, h, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_steps_make_a_whole(backend):
    whole = make_inputs(Case(2, 6, 4, 3, 2, g=2))
    h, shared = whole.pop("h0"), {name: whole.pop(name) for name in ("A", "D", "dt_bias")}
    options = dict(dt_softplus=True, dt_limit=(0.1, 3.0), backend=backend)
    expected = ssd_scan(**whole, **shared, h0=h, **options)
    ys = []
    for i in range(4):
        tokens = {name: tensor[:, i] for name, tensor in whole.items()}
        y, h = ssd_step(**tokens, **shared, h=h, **options)
        ys.append(y)
    y, h = ssd_step(**{name: tensor[:, 4:] for name, tensor in whole.items()}, **shared, h=h, **options)
    torch.testing.assert_close(torch.cat([torch.stack(ys, dim=1), y], dim=1), expected.y, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(h, expected.h, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_packed_clips_do_not_leak(backend):
    case = EXACT["packed_paths"]
    inputs, options = make_inputs(case), make_options(case)
    with torch.no_grad():
        inputs["x"][:, : case.clips[0]] = float("nan")
    y, h = ssd_scan(**inputs, **options, dt_softplus=True, backend=backend)
    assert y[:, : case.clips[0]].isnan().all()
    assert y[:, case.clips[0] :].isfinite().all()
    assert h[1].isfinite().all()


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("step", [-100.0, -20.0, 0.0, 20.0, 20.000001, 88.0, 1e4])
def test_extreme_steps_stay_finite(backend, step):
    inputs = make_inputs(EXACT["ragged"])
    with torch.no_grad():
        inputs["dt"].fill_(step)
    outputs = outputs_and_gradients(ssd_scan, inputs, backend=backend, dt_softplus=True, chunk=16)
    assert not [name for name, tensor in outputs.items() if not tensor.isfinite().all()]


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("step", [0.0, 1e-6, 1.0, 87.0, 89.0, 1e30])
def test_extreme_decays_are_exact(backend, step):
    inputs = {name: tensor for name, tensor in make_inputs(EXACT["ragged"]).items() if name != "dt_bias"}
    with torch.no_grad():
        inputs["dt"][:, 3::7] = step
        inputs["dt"].abs_()
        inputs["A"].fill_(-1.0)
        inputs["x"][:, 3::7] /= max(step, 1.0)
    assert_op_as_exact(ssd_scan, inputs, backend, chunk=16)


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_gradients_match_finite_differences(backend):
    inputs = make_inputs(Case(1, 4, 1, 2, 2), torch.float64)
    run = lambda *tensors: ssd_scan(**dict(zip(inputs, tensors)), dt_softplus=True, chunk=3, backend=backend)
    assert torch.autograd.gradcheck(run, tuple(inputs.values()))


@pytest.mark.parametrize("backend", FAST)
def test_only_wanted_gradients(backend):
    inputs = make_inputs(EXACT["ragged"])
    for name in ("dt", "B", "h0"):
        inputs[name] = inputs[name].detach()
    got = outputs_and_gradients(ssd_scan, inputs, backend=backend, dt_softplus=True)
    expected = outputs_and_gradients(ssd_scan, inputs, backend="reference", dt_softplus=True)
    assert got.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", FAST)
def test_same_bits_every_time(backend):
    case = EXACT["four_paths"]
    runs = [
        outputs_and_gradients(ssd_scan, make_inputs(case), backend=backend, dt_softplus=True, **make_options(case))
        for _ in range(2)
    ]
    assert not [name for name in runs[0] if not torch.equal(runs[0][name], runs[1][name])]


def test_more_batch_rows_than_are_in_work_at_a_time():
    case = Case(7, 20, 24, 64, 3, chunk=32)
    inputs = {name: tensor.detach() for name, tensor in make_inputs(case).items()}
    expected = ssd_scan(**inputs, dt_softplus=True, chunk=case.chunk, backend="torch")
    got = ssd_scan(**inputs, dt_softplus=True, chunk=case.chunk, backend="cpu")
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", ["cpu", "triton"])
def test_registered_as_torch_expects(backend):
    case = Case(1, 18, 1, 3, 2, k=2, chunk=16)
    inputs = make_inputs(case)
    x, dt, A, B, C, _, _, dt_bias, h0 = inputs.values()
    D = torch.randn(2, 1, 3).requires_grad_()
    paths = torch.stack([walk.rows() for walk in make_options(case)["walks"]])
    args = (x.detach()[:, None].requires_grad_(), dt, A, B, C, D, dt_bias, h0, paths, None)
    operator = getattr(torch.ops.ssmvid, f"ssd_scan_{backend}").default
    torch.library.opcheck(operator, (*args, True, [0.1, 2.0], 16, True, True))


@pytest.mark.parametrize("backend", FAST)
def test_compiles_without_graph_breaks(backend):
    inputs = make_inputs(EXACT["ragged"])
    run = lambda **tensors: ssd_scan(**tensors, dt_softplus=True, dt_limit=(0.1, 2.0), chunk=16, backend=backend)
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(**inputs), run(**inputs), rtol=1e-5, atol=1e-5)


def test_no_gradient_keeps_no_states():
    x, dt, A, B, C, *_ = make_inputs(Case(1, 64, 8, 4, 2)).values()
    args = (x[:, None], dt[:, None], A[None], B[:, None], C[:, None], None, None, None, None, None, True, None, 16)
    *_, kept = torch.ops.ssmvid.ssd_scan_cpu(*args, True, True)
    *_, states = torch.ops.ssmvid.ssd_scan_cpu(*args, True, False)
    assert kept.numel() == 5 * 8 * 4 * 2
    assert states.numel() == 0


def test_autocast_keeps_states_in_fp32():
    inputs = {name: tensor.detach() for name, tensor in make_inputs(EXACT["ragged"]).items()}
    inputs["x"] = inputs["x"].bfloat16()
    expected = ssd_scan(**inputs, dt_softplus=True)
    with torch.autocast("cpu", torch.bfloat16):
        y, h = ssd_scan(**inputs, dt_softplus=True)
    assert y.dtype == torch.bfloat16
    assert h.dtype == torch.float32
    torch.testing.assert_close(h, expected.h, rtol=1e-6, atol=1e-6)


def test_wrong_arguments_are_named():
    inputs = make_inputs(Case(2, 8, 4, 3, 5, g=2))
    wrong = {
        r"B must be \(b, l, g, n\), got \(2, 8, 5\)": {"B": torch.zeros(2, 8, 5)},
        r"the groups of B must divide the heads of x: got g = 3, heads = 4": {"B": torch.zeros(2, 8, 3, 5)},
        r"C must be \(b, l, g, n\) = \(2, 8, 2, 5\), got \(2, 8, 1, 5\)": {"C": torch.zeros(2, 8, 1, 5)},
        r"A must be \(heads,\) = \(4,\), got \(4, 5\)": {"A": torch.zeros(4, 5)},
        r"D must be \(heads,\) = \(4,\), got \(3,\)": {"D": torch.zeros(3)},
        r"D must be \(heads, p\) = \(4, 3\), got \(4, 4\)": {"D": torch.zeros(4, 4)},
        r"h0 must be \(b, heads, p, n\) = \(2, 4, 3, 5\), got \(2, 4, 5, 3\)": {"h0": torch.zeros(2, 4, 5, 3)},
        r"x must be \(b, l, heads, p\), or \(b, k, l, heads, p\) with walks, got \(2, 8, 12\)": {
            "x": torch.zeros(2, 8, 12)
        },
        r"merge must be 'sum', 'mean' or None, got 'max'": {"merge": "max"},
        r"dt_limit must be \(low, high\) with low <= high, got \(2.0, 1.0\)": {"dt_limit": (2.0, 1.0)},
        r"chunk must be at least 1, got 0": {"chunk": 0},
        r"cu_seqlens packs clips in one row, so b must be 1, got b = 2": {
            "cu_seqlens": torch.tensor([0, 8], dtype=torch.int32)
        },
    }
    for message, change in wrong.items():
        with pytest.raises(ValueError, match=f"^ssd_scan: {message}"):
            ssd_scan(**inputs | change)
    with pytest.raises(TypeError, match=r"ssd_scan: x must be a real floating-point tensor, got torch.int64"):
        ssd_scan(**inputs | {"x": torch.zeros(2, 8, 4, 3, dtype=torch.int64)})


def test_wrong_walks_are_refused():
    case = EXACT["packed_paths"]
    inputs, options = make_inputs(case), make_options(case)
    with pytest.raises(ValueError, match=r"ssd_scan: walks\[0\] has 6 steps, x has l = 24 tokens"):
        ssd_scan(**inputs, **options | {"walks": (Walk((6, 1, 1)),) * 2})
    with pytest.raises(ValueError, match=r"ssd_scan: walks\[0\] is a path through 1 clip\(s\), cu_seqlens packs 2"):
        ssd_scan(**inputs, **options | {"walks": (Walk((24, 1, 1)),) * 2})
    with pytest.raises(ValueError, match=r"ssd_scan: z gates the merged y, so it needs merge='sum' or 'mean'"):
        ssd_scan(**inputs, **options, merge=None)
