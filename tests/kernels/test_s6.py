"""selective_scan: every implementation is as exact as the reference, outputs and gradients both."""

import itertools

import pytest
import torch

from ssmvid_kernels import Walk, selective_scan, selective_scan_step, use_backend
from ssmvid_kernels.s6.cases import EXACT, Case, make_inputs
from ssmvid_kernels.testing import assert_op_as_exact, outputs_and_gradients, poisoned_empty

FAST = ["torch", "cpu"]  # the Triton kernels: test_s6_triton.py
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
GRIDS = {18: (2, 3, 3), 30: (5, 3, 2)}  # a (t, h, w) for each length that is walked


def make_walks(case: Case) -> tuple[Walk, ...]:
    """As many different paths as the case has: forwards, backwards, time fastest after one prefix token, a table."""
    if case.clips:
        return tuple(packed_walk(case.clips, seed) for seed in range(case.k))
    t, h, w = GRIDS[case.l]
    walks = (
        Walk((t, h, w), (h * w, w, 1)),
        Walk((case.l - 1, 1, 1), (1, 1, 1), reverse=True, prefix=1),
        Walk((h, w, t), (w, 1, h * w)),
        packed_walk((case.l,), seed=0),
    )
    return walks[: case.k]


def packed_walk(clips: tuple[int, ...], seed: int) -> Walk:
    g = torch.Generator().manual_seed(seed)
    starts = itertools.accumulate((0, *clips[:-1]))
    table = torch.cat([start + torch.randperm(size, generator=g) for start, size in zip(starts, clips)])
    return Walk(table=table.int(), lengths=clips)


def options_of(case: Case) -> dict:
    options: dict = {}
    if case.k:
        options["walks"] = make_walks(case)
    if case.clips:
        options["cu_seqlens"] = torch.tensor([0, *itertools.accumulate(case.clips)], dtype=torch.int32)
    return options


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", EXACT.values(), ids=EXACT.keys())
@pytest.mark.parametrize("backend", FAST)
def test_as_exact_as_the_reference(backend, case, dtype):
    assert_op_as_exact(selective_scan, make_inputs(case, dtype), backend, dt_softplus=True, **options_of(case))


@pytest.mark.parametrize("merge", ["mean", None])
@pytest.mark.parametrize("own_x", [False, True], ids=["shared x", "x of its own"])
@pytest.mark.parametrize("backend", FAST)
def test_paths_apart_and_averaged(backend, own_x, merge):
    case = EXACT["four_paths"]
    inputs = make_inputs(case)
    if merge is None:
        del inputs["z"]
    if own_x:
        inputs["x"] = make_inputs(case, seed=2)["dt"]
    assert_op_as_exact(selective_scan, inputs, backend, dt_softplus=True, merge=merge, **options_of(case))


@pytest.mark.parametrize("left_out", [("D",), ("z",), ("dt_bias",), ("h0",), ("D", "z", "dt_bias", "h0")], ids=str)
@pytest.mark.parametrize("backend", FAST)
def test_optional_arguments(backend, left_out):
    inputs = make_inputs(EXACT["ragged"])
    with torch.no_grad():
        inputs["dt"].abs_()  # without softplus the step size itself must be positive
    kept = {name: tensor for name, tensor in inputs.items() if name not in left_out}
    assert_op_as_exact(selective_scan, kept, backend)


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
    inputs = make_inputs(EXACT["two_paths"])
    inputs = {name: strided(tensor.detach(), layout).requires_grad_() for name, tensor in inputs.items()}
    assert_op_as_exact(selective_scan, inputs, backend, dt_softplus=True, **options_of(EXACT["two_paths"]))


@pytest.mark.parametrize("case", EXACT.values(), ids=EXACT.keys())
@pytest.mark.parametrize("backend", FAST)
def test_every_output_is_written(backend, case):
    with poisoned_empty():
        outputs = outputs_and_gradients(
            selective_scan, make_inputs(case), backend=backend, dt_softplus=True, **options_of(case)
        )
    assert not [name for name, tensor in outputs.items() if tensor.isnan().any()]


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_two_halves_make_a_whole(backend):
    whole = make_inputs(Case(2, 41, 4, 3))
    part = lambda s: {name: t[:, s] if name in ("x", "dt", "B", "C", "z") else t for name, t in whole.items()}
    first = selective_scan(**part(slice(17)), backend=backend)
    second = selective_scan(**part(slice(17, None)) | {"h0": first.h}, backend=backend)
    y, h = selective_scan(**whole, backend=backend)
    torch.testing.assert_close(torch.cat([first.y, second.y], dim=1), y)
    torch.testing.assert_close(second.h, h)


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_steps_make_a_whole(backend):
    whole = make_inputs(Case(2, 6, 4, 3))
    h, shared = whole.pop("h0"), {name: whole.pop(name) for name in ("A", "D", "dt_bias")}
    expected = selective_scan(**whole, **shared, h0=h, dt_softplus=True, backend=backend)
    ys = []
    for i in range(6):
        tokens = {name: tensor[:, i] for name, tensor in whole.items()}
        y, h = selective_scan_step(**tokens, **shared, h=h, dt_softplus=True, backend=backend)
        ys.append(y)
    torch.testing.assert_close(torch.stack(ys, dim=1), expected.y)
    torch.testing.assert_close(h, expected.h)


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_packed_clips_do_not_leak(backend):
    case = EXACT["packed_paths"]
    inputs, options = make_inputs(case), options_of(case)
    with torch.no_grad():
        inputs["x"][:, : case.clips[0]] = float("nan")
    y, h = selective_scan(**inputs, **options, dt_softplus=True, backend=backend)
    assert y[:, : case.clips[0]].isnan().all()
    assert y[:, case.clips[0] :].isfinite().all()
    assert h[1].isfinite().all()


@pytest.mark.parametrize("backend", ["torch", "cpu"])
@pytest.mark.parametrize("step", [-100.0, -20.0, 0.0, 20.0, 20.000001, 88.0, 1e4])
def test_extreme_steps_stay_finite(backend, step):
    inputs = make_inputs(EXACT["ragged"])
    with torch.no_grad():
        inputs["dt"].fill_(step)
    outputs = outputs_and_gradients(selective_scan, inputs, backend=backend, dt_softplus=True)
    assert not [name for name, tensor in outputs.items() if not tensor.isfinite().all()]


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_gradients_match_finite_differences(backend):
    inputs = make_inputs(Case(1, 5, 2, 2), torch.float64)
    run = lambda *tensors: selective_scan(**dict(zip(inputs, tensors)), dt_softplus=True, backend=backend)
    assert torch.autograd.gradcheck(run, tuple(inputs.values()))


@pytest.mark.parametrize("backend", FAST)
def test_only_wanted_gradients(backend):
    inputs = make_inputs(EXACT["ragged"])
    for name in ("dt", "B", "h0"):
        inputs[name] = inputs[name].detach()
    got = outputs_and_gradients(selective_scan, inputs, backend=backend, dt_softplus=True)
    expected = outputs_and_gradients(selective_scan, inputs, backend="reference", dt_softplus=True)
    assert got.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-4, atol=1e-4)


def test_cpu_is_the_same_for_any_number_of_threads():
    inputs, threads = make_inputs(Case(2, 70, 150, 5)), torch.get_num_threads()
    runs = []
    for count in (1, 3):
        torch.set_num_threads(count)
        runs.append(outputs_and_gradients(selective_scan, inputs, backend="cpu", dt_softplus=True))
    torch.set_num_threads(threads)
    for name in runs[0]:
        assert torch.equal(runs[0][name], runs[1][name]), name


def test_registered_as_torch_expects():
    inputs = make_inputs(EXACT["four_paths"])
    x, dt, A, B, C, D, _, dt_bias, h0 = inputs.values()
    paths = torch.stack([walk.rows() for walk in make_walks(EXACT["four_paths"])])
    args = (x.detach()[:, None].requires_grad_(), dt, A, B, C, D, dt_bias, h0, paths, None, True, True, True)
    torch.library.opcheck(torch.ops.ssmvid.selective_scan_cpu.default, args)


def test_compiles_without_graph_breaks():
    inputs = make_inputs(EXACT["ragged"])
    run = lambda **tensors: selective_scan(**tensors, dt_softplus=True, backend="cpu")
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(**inputs), run(**inputs))


def test_autocast_keeps_states_in_fp32():
    inputs = {name: tensor.detach() for name, tensor in make_inputs(EXACT["ragged"]).items()}
    inputs["x"] = inputs["x"].bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y, h = selective_scan(**inputs, dt_softplus=True)
    assert y.dtype == torch.bfloat16
    assert h.dtype == torch.float32


def test_wrong_arguments_are_named():
    inputs = make_inputs(Case(2, 8, 4, 3))
    with pytest.raises(ValueError, match=r"B must be \(b, l, n\) = \(2, 8, 3\), got \(2, 8, 5\)"):
        selective_scan(**inputs | {"B": torch.zeros(2, 8, 5)})
    with pytest.raises(ValueError, match=r"A must be \(d, n\), got \(1, 4, 3\)"):
        selective_scan(**inputs | {"A": inputs["A"][None]})
    with pytest.raises(TypeError, match=r"x must be a real floating-point tensor, got torch.int64"):
        selective_scan(**inputs | {"x": torch.zeros(2, 8, 4, dtype=torch.int64)})
    with pytest.raises(ValueError, match=r"merge must be 'sum', 'mean' or None, got 'max'"):
        selective_scan(**inputs, merge="max")
    with pytest.raises(ValueError, match=r"cu_seqlens packs clips in one row, so b must be 1, got b = 2"):
        selective_scan(**inputs, cu_seqlens=torch.tensor([0, 8], dtype=torch.int32))


def test_wrong_walks_and_borders_are_refused():
    case = EXACT["packed_paths"]
    inputs, options = make_inputs(case), options_of(case)
    with pytest.raises(ValueError, match=r"walks\[0\] has 6 steps, x has l = 24 tokens"):
        selective_scan(**inputs, **options | {"walks": (Walk((6, 1, 1)),) * 2})
    with pytest.raises(ValueError, match=r"walks\[0\] is a path through 1 clip\(s\), cu_seqlens packs 2"):
        selective_scan(**inputs, **options | {"walks": (Walk((24, 1, 1)),) * 2})
    with pytest.raises(ValueError, match=r"cu_seqlens must rise from 0 to l = 24"):
        selective_scan(**inputs, **options | {"cu_seqlens": torch.tensor([0, 30, 24], dtype=torch.int32)})
    with pytest.raises(ValueError, match=r"visit each of the rows 0\.\.2 once"):
        Walk(table=torch.tensor([0, 1, 1], dtype=torch.int32))


def test_backend_asked_for_is_run_or_refused():
    inputs = make_inputs(Case(1, 2, 2, 2))
    known = "unknown backend 'cuda': expected one of auto, triton, cpu, torch, reference"
    with pytest.raises(ValueError, match=known):
        selective_scan(**inputs, backend="cuda")
    with pytest.raises(ValueError, match=known), use_backend("cuda"):
        pass
    on_meta = {name: tensor.to("meta") for name, tensor in inputs.items()}
    with pytest.raises(RuntimeError, match=r"'cpu' was asked for and cannot run:\n  - the tensors are on meta"):
        selective_scan(**on_meta, backend="cpu")


def test_no_gradient_keeps_no_states():
    x, dt, A, B, C, *_ = make_inputs(Case(1, 64, 8, 4)).values()
    args = (x[:, None], dt[:, None], A[None], B[:, None], C[:, None], None, None, None, None, None, True, True)
    *_, states = torch.ops.ssmvid.selective_scan_cpu(*args, False)
    assert states.numel() == 0
