"""Every op on torch and on the CPU kernels: as exact as the reference, gradients too. Triton: test_triton.py."""

import inspect

import pytest
import torch

from ssmvid_kernels import Walk
from ssmvid_kernels.calls import arguments, axis_of, find_ops
from ssmvid_kernels.testing import assert_op_as_exact, outputs_and_gradients, poisoned_empty

OPS = find_ops().values()
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
SCANS = [op for op in OPS if op.step]
each_op = pytest.mark.parametrize("op", OPS, ids=[op.name for op in OPS])
each_scan = pytest.mark.parametrize("op", SCANS, ids=[op.name for op in SCANS])
each_case = pytest.mark.parametrize(
    ("op", "case"),
    [pytest.param(op, case, id=f"{op.name}-{name}") for op in OPS for name, case in op.cases.EXACT.items()],
)
each_call = pytest.mark.parametrize(
    ("op", "call"),
    [pytest.param(op, call, id=f"{op.name}-{name}") for op in OPS for name, call in op.cases.CALLS.items()],
)
each_optional = pytest.mark.parametrize(
    ("op", "argument"),
    [
        pytest.param(op, name, id=f"{op.name}-{name}")
        for op in OPS
        for name in op.cases.make_inputs(op.cases.EXACT["ragged"])
        if inspect.signature(op.run).parameters[name].default is None
    ],
)
each_layout = pytest.mark.parametrize(
    ("op", "layout"),
    [pytest.param(op, layout, id=f"{op.name}-{layout}") for op in OPS for layout in op.layouts[1:]],
)
on_fast = pytest.mark.parametrize("backend", ["torch", "cpu"])
on_all = pytest.mark.parametrize("backend", ["reference", "torch", "cpu"])


@each_case
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@on_fast
def test_as_exact_as_the_reference(backend, dtype, op, case):
    tensors, options = arguments(op, case, dtype=dtype)
    assert_op_as_exact(op.run, tensors, backend, **options)


@each_call
@on_fast
def test_every_way_to_call(backend, op, call):
    for case in op.among("ragged", "four_paths", "many_groups"):
        tensors, options = arguments(op, op.cases.EXACT[case], call)
        assert_op_as_exact(op.run, tensors, backend, **options)


@each_optional
@on_fast
def test_each_optional_argument(backend, op, argument):
    tensors, options = arguments(op, op.cases.EXACT["ragged"])
    del tensors[argument]
    assert_op_as_exact(op.run, tensors, backend, **options)


@each_layout
@on_fast
def test_any_strides(backend, op, layout):
    tensors, options = arguments(op, op.cases.EXACT[op.strided_case], layout=layout)
    assert_op_as_exact(op.run, tensors, backend, **options)


@each_op
@on_fast
def test_parameters_in_fp32_beside_tokens_in_bf16(backend, op):
    case = op.cases.EXACT["ragged"]
    tensors, options = arguments(op, case)
    for name in axis_of(op, case, "l"):
        tensors[name] = tensors[name].detach().bfloat16().requires_grad_()
    assert_op_as_exact(op.run, tensors, backend, **options)


@each_op
@pytest.mark.parametrize("output", [0, 1], ids=["first", "second"])
@on_fast
def test_the_gradient_of_one_output_alone(backend, output, op):
    tensors, options = arguments(op, op.cases.EXACT[op.among("packed_paths", "two_groups")[0]])
    assert_op_as_exact(lambda **given: op.run(**given)[output : output + 1], tensors, backend, **options)


@each_case
@on_fast
def test_every_output_is_written(backend, op, case):
    tensors, options = arguments(op, case)
    with poisoned_empty():
        outputs = outputs_and_gradients(op.run, tensors, backend=backend, **options)
    assert not [name for name, tensor in outputs.items() if tensor.isnan().any()]


@each_scan
@on_all
def test_two_halves_make_a_whole(backend, op):
    case = op.cases.EXACT["ragged"]
    whole, options = arguments(op, case)
    along = axis_of(op, case, "l")
    part = lambda start, end: {
        name: tensor.narrow(along[name], start, end - start) if name in along else tensor
        for name, tensor in whole.items()
    }
    first = op.run(**part(0, 17), **options, backend=backend)
    second = op.run(**part(17, case.l) | {"h0": first.h}, **options, backend=backend)
    y, h = op.run(**whole, **options, backend=backend)
    torch.testing.assert_close(torch.cat([first.y, second.y], dim=along["x"]), y)
    torch.testing.assert_close(second.h, h)


@each_scan
@on_all
def test_steps_make_a_whole(backend, op):
    case = op.cases.EXACT["ragged"]._replace(l=6)
    tensors, options = arguments(op, case)
    along, h = axis_of(op, case, "l"), tensors["h0"]
    expected = op.run(**tensors, **options, backend=backend)
    shared = {name: tensor for name, tensor in tensors.items() if name not in along and name != "h0"}
    settings, ys = next(iter(op.cases.CALLS.values())).options, []
    for i in range(case.l):
        tokens = {name: tensors[name].select(axis, i) for name, axis in along.items()}
        y, h = op.step(**tokens, **shared, **settings, h=h, backend=backend)
        ys.append(y)
    torch.testing.assert_close(torch.stack(ys, dim=along["x"]), expected.y)
    torch.testing.assert_close(h, expected.h)


@each_scan
@on_all
def test_packed_clips_do_not_leak(backend, op):
    case = op.cases.EXACT["packed_paths"]
    tensors, options = arguments(op, case)
    border, axis = case.clips[0], axis_of(op, case, "l")["x"]
    with torch.no_grad():
        tensors["x"].narrow(axis, 0, border).fill_(float("nan"))
    y, h = op.run(**tensors, **options, backend=backend)
    along_y = axis - tensors["x"].dim()  # from the end: y may have a k axis of its own
    assert y.narrow(along_y, 0, border).isnan().all()
    assert y.narrow(along_y, border, case.l - border).isfinite().all()
    assert h[1].isfinite().all()


@each_op
@on_all
def test_gradients_match_finite_differences(backend, op):
    tensors, options = arguments(op, op.cases.EXACT["ragged"]._replace(b=1, l=4), dtype=torch.float64)
    run = lambda *values: op.run(**dict(zip(tensors, values)), **options, backend=backend)
    assert torch.autograd.gradcheck(run, tuple(tensors.values()))


@each_op
@on_fast
def test_only_wanted_gradients(backend, op):
    tensors, options = arguments(op, op.cases.EXACT["ragged"])
    wanted = {name: tensor if i % 2 else tensor.detach() for i, (name, tensor) in enumerate(tensors.items())}
    got = outputs_and_gradients(op.run, wanted, backend=backend, **options)
    every = outputs_and_gradients(op.run, tensors, backend=backend, **options)
    assert list(got) == [*list(every)[:2], *(f"d{name}" for name in list(tensors)[1::2])]
    for name in got:
        assert torch.equal(got[name], every[name]), name


@each_op
def test_cpu_is_the_same_for_any_number_of_threads(op):
    tensors, options = arguments(op, op.cases.SPEED["clip"])
    threads, runs = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            runs.append(outputs_and_gradients(op.run, tensors, backend="cpu", **options))
    finally:
        torch.set_num_threads(threads)
    for name in runs[0]:
        assert torch.equal(runs[0][name], runs[1][name]), name


@each_op
@on_fast
def test_compiles_without_graph_breaks(backend, op):
    torch._dynamo.reset()
    tensors, options = arguments(op, op.cases.EXACT[op.strided_case])
    run = lambda **values: op.run(**values, **options, backend=backend)
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    expected = outputs_and_gradients(run, tensors)
    torch.testing.assert_close(outputs_and_gradients(compiled, tensors), expected)


@each_scan
def test_packed_clips_compile_and_their_borders_are_checked_as_they_run(op):
    torch._dynamo.reset()
    tensors, options = arguments(op, op.cases.EXACT["packed"])
    borders = options.pop("cu_seqlens")
    run = lambda borders, **values: tuple(op.run(**values, **options, cu_seqlens=borders, backend="cpu"))
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    expected = outputs_and_gradients(lambda **values: run(borders, **values), tensors)
    got = outputs_and_gradients(lambda **values: compiled(borders, **values), tensors)
    torch.testing.assert_close(got, expected)
    with pytest.raises(ValueError, match="cu_seqlens must rise from 0 to l"):
        compiled(borders.flip(0), **tensors)


@each_op
@on_all
def test_autocast_keeps_states_and_residuals_in_fp32(backend, op):
    tensors, options = arguments(op, op.cases.EXACT["ragged"])
    tensors["x"] = tensors["x"].detach().bfloat16()
    plain = op.run(**tensors, **options, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        y, h = op.run(**tensors, **options, backend=backend)
    assert (y.dtype, h.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close((y, h), tuple(plain), rtol=0, atol=0)


@each_scan
def test_wrong_tensors_are_named(op):
    tensors, options = arguments(op, op.cases.EXACT["ragged"])
    name = op.run.__name__
    with pytest.raises(TypeError, match=rf"{name}: x must be a real floating-point tensor, got torch.int64"):
        op.run(**tensors | {"x": tensors["x"].detach().long()}, **options)
    with pytest.raises(ValueError, match=rf"{name}: h0 is on meta, x on cpu: move it there"):
        op.run(**tensors | {"h0": tensors["h0"].to("meta")}, **options)
    with pytest.raises(ValueError, match=rf"{name}: x must be .* with walks, got \(37,\)"):
        op.run(**tensors | {"x": torch.zeros(37)}, **options)
    wrong = tensors["h0"].new_zeros(3, *tensors["h0"].shape[1:])
    with pytest.raises(ValueError, match=rf"{name}: h0 must be \(b, .*\) = \(2, .*\), got \(3, .*\) \(b, l, .* from x"):
        op.run(**tensors | {"h0": wrong}, **options)


@each_scan
def test_wrong_walks_and_borders_are_refused(op):
    tensors, options = arguments(op, op.cases.EXACT["packed_paths"])
    run = lambda **changed: op.run(**tensors, **options | changed)
    with pytest.raises(ValueError, match=r"walks\[0\] has 6 steps, x has l = 24 tokens"):
        run(walks=(Walk((6, 1, 1)),) * 2)
    with pytest.raises(ValueError, match=r"walks\[0\] is a path through 1 clip\(s\), cu_seqlens packs 2"):
        run(walks=(Walk((24, 1, 1)),) * 2)
    with pytest.raises(ValueError, match=r"walks must hold at least one walk"):
        run(walks=())
    with pytest.raises(ValueError, match=r"cu_seqlens must rise from 0 to l = 24"):
        run(cu_seqlens=torch.tensor([0, 30, 24], dtype=torch.int32))
    with pytest.raises(ValueError, match=r"cu_seqlens must be int32 \(s \+ 1,\), got torch.int64 \(2,\)"):
        run(cu_seqlens=torch.tensor([0, 24]))
    tensors, options = arguments(op, op.cases.EXACT["ragged"])
    with pytest.raises(ValueError, match=r"cu_seqlens packs clips in one row, so b must be 1, got b = 2"):
        run(cu_seqlens=torch.tensor([0, 37], dtype=torch.int32))
