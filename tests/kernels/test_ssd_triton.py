"""ssd_scan on Triton, interpreted where there is no GPU: as exact as the reference, over the shapes that are small."""

import pytest
import torch

from ssmvid_kernels import Walk, ssd_scan, ssd_step
from ssmvid_kernels.ssd.cases import EXACT, Case, make_inputs, make_options
from ssmvid_kernels.testing import assert_op_as_exact, outputs_and_gradients, poisoned_empty

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SMALL = {
    "no_batch": Case(0, 4, 1, 2, 2, chunk=16),
    "empty": Case(1, 0, 2, 2, 2, chunk=16),
    "one_step": Case(1, 1, 2, 5, 3, chunk=16),
    "many_chunks": Case(1, 53, 1, 5, 3, chunk=16),
    "odd_chunk": Case(1, 16, 2, 3, 4, g=2, chunk=7),
    "wide": Case(1, 17, 1, 65, 66, chunk=16),
    "groups": Case(2, 17, 4, 3, 2, g=2, chunk=16),
    "two_paths": EXACT["two_paths"]._replace(b=1, heads=2),
    "four_paths": EXACT["four_paths"]._replace(heads=2, g=1),
    "packed": Case(1, 23, 1, 5, 3, clips=(4, 0, 1, 18, 0), chunk=16),
    "packed_paths": EXACT["packed_paths"]._replace(heads=1),
}


def on_device(tensors):
    return {name: tensor.detach().to(DEVICE).requires_grad_() for name, tensor in tensors.items()}


def options_of(case: Case) -> dict:
    options = make_options(case)
    if "cu_seqlens" in options:
        options["cu_seqlens"] = options["cu_seqlens"].to(DEVICE)
    return options


@pytest.mark.parametrize("case", SMALL.values(), ids=SMALL.keys())
def test_as_exact_as_the_reference(case):
    inputs = on_device(make_inputs(case))
    with poisoned_empty():  # and every output is written
        assert_op_as_exact(ssd_scan, inputs, "triton", dt_softplus=True, **options_of(case))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_dtypes(dtype):
    case = SMALL["two_paths"]
    assert_op_as_exact(ssd_scan, on_device(make_inputs(case, dtype)), "triton", dt_softplus=True, **options_of(case))


def test_limits_skip_weights_a_channel_and_paths_apart():
    case = SMALL["two_paths"]
    inputs = make_inputs(case)
    del inputs["z"], inputs["dt_bias"]
    g = torch.Generator().manual_seed(2)
    inputs["x"] = torch.randn(case.b, case.k, case.l, case.heads, case.p, generator=g)
    inputs["D"] = torch.randn(case.k, case.heads, case.p, generator=g)
    options = dict(dt_softplus=True, dt_limit=(0.5, 1.5), merge=None)
    assert_op_as_exact(ssd_scan, on_device(inputs), "triton", **options, **options_of(case))


def test_bare_arguments():
    inputs = make_inputs(Case(1, 18, 1, 3, 2))
    inputs = {name: inputs[name] for name in ("x", "dt", "A", "B", "C")}
    with torch.no_grad():
        inputs["dt"].abs_()  # without softplus the step size itself must be positive
    assert_op_as_exact(ssd_scan, on_device(inputs), "triton", chunk=16)


def test_any_strides():
    case = SMALL["packed_paths"]
    inputs = {name: tensor.transpose(0, -1).contiguous().transpose(0, -1) for name, tensor in make_inputs(case).items()}
    assert_op_as_exact(ssd_scan, on_device(inputs), "triton", dt_softplus=True, **options_of(case))


@pytest.mark.parametrize("step", [-100.0, 0.0, 20.000001, 88.0, 1e4])
def test_extreme_steps_stay_finite(step):
    inputs = on_device(make_inputs(Case(1, 18, 1, 2, 2)))
    with torch.no_grad():
        inputs["dt"].fill_(step)
    outputs = outputs_and_gradients(ssd_scan, inputs, backend="triton", dt_softplus=True, chunk=16)
    assert not [name for name, tensor in outputs.items() if not tensor.isfinite().all()]


def test_extreme_decays_are_exact():
    inputs = make_inputs(Case(1, 18, 2, 2, 2))
    del inputs["dt_bias"]
    with torch.no_grad():
        inputs["dt"].abs_()
        inputs["dt"][:, 3::7] = 1e30
        inputs["x"][:, 3::7] /= 1e30
        inputs["A"].fill_(-1.0)
    assert_op_as_exact(ssd_scan, on_device(inputs), "triton", chunk=16)


def test_packed_clips_do_not_leak():
    case = SMALL["packed_paths"]
    inputs = on_device(make_inputs(case))
    with torch.no_grad():
        inputs["x"][:, : case.clips[0]] = float("nan")
    y, h = ssd_scan(**inputs, **options_of(case), dt_softplus=True, backend="triton")
    assert y[:, : case.clips[0]].isnan().all()
    assert y[:, case.clips[0] :].isfinite().all()
    assert h[1].isfinite().all()


def test_steps_make_a_whole():
    whole = on_device(make_inputs(Case(1, 4, 2, 3, 2)))
    h, shared = whole.pop("h0"), {name: whole.pop(name) for name in ("A", "D", "dt_bias")}
    expected = ssd_scan(**whole, **shared, h0=h, backend="triton")
    for i in range(4):
        y, h = ssd_step(**{name: tensor[:, i] for name, tensor in whole.items()}, **shared, h=h, backend="triton")
        torch.testing.assert_close(y, expected.y[:, i], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(h, expected.h, rtol=1e-5, atol=1e-5)


def test_same_bits_every_time():
    case = SMALL["two_paths"]
    inputs = on_device(make_inputs(case))
    runs = [
        outputs_and_gradients(ssd_scan, inputs, backend="triton", dt_softplus=True, **options_of(case))
        for _ in range(2)
    ]
    assert not [name for name in runs[0] if not torch.equal(runs[0][name], runs[1][name])]


def test_affine_walks_and_tables_agree():
    case = SMALL["two_paths"]
    inputs, options = on_device(make_inputs(case)), options_of(case)
    tables = tuple(Walk(table=walk.rows()) for walk in options["walks"])
    affine = ssd_scan(**inputs, **options, backend="triton")
    tabled = ssd_scan(**inputs, **options | {"walks": tables}, backend="triton")
    assert torch.equal(affine.y, tabled.y)
    assert torch.equal(affine.h, tabled.h)


def test_a_chunk_too_long_is_refused():
    inputs = on_device(make_inputs(Case(1, 2, 1, 2, 2)))
    with pytest.raises(ValueError, match=r"chunk must be at most 256 on backend 'triton', got 300"):
        ssd_scan(**inputs, chunk=300, backend="triton")
