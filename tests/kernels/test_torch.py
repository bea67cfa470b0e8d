"""Every op as a citizen of torch: opcheck, compile, export, torch.func, second derivatives, FLOP counts."""

import io

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.func import grad, jacrev, jvp, vjp, vmap
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ssmvid_kernels import BackendError
from ssmvid_kernels.calls import arguments, axis_of, find_ops
from ssmvid_kernels.testing import device_of, outputs_and_gradients
from tests.kernels.test_ops import each_op

# Of torch's own: its first jvp scripts some decompositions.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
on_plain = pytest.mark.parametrize("backend", ["reference", "torch"])
on_fused = pytest.mark.parametrize("backend", ["cpu", "triton"])


class Recorder(TorchDispatchMode):
    """Keeps every call of an operator of ours."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "ssmvid":
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))


class Written(TorchDispatchMode):
    """Counts the numbers that operators write, views left out."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            made = result if isinstance(result, tuple | list) else [result]
            self.numbers += sum(tensor.numel() for tensor in made if isinstance(tensor, torch.Tensor))
        return result


def small(op, l=4, **how):
    """Tensors and options of a call without walks."""
    return arguments(op, op.cases.EXACT["ragged"]._replace(b=2, l=l), **how)


def function_of_x(op, backend):
    """The op's y as a function of x alone, and x."""
    tensors, options = small(op, dtype=torch.float64)
    rest = {name: tensor.detach() for name, tensor in tensors.items()}
    x = rest.pop("x")
    return lambda x: op.run(x=x, **rest, **options, backend=backend)[0], x


@pytest.mark.parametrize(
    ("op", "case"),
    [
        pytest.param(op, case, id=f"{name}-{case}")
        for name, op in find_ops().items()
        for case in op.among("two_paths", "packed", "two_groups")
    ],
)
@on_fused
def test_forward_and_backward_are_registered_as_torch_expects(backend, case, op):
    tensors, options = arguments(op, op.cases.EXACT[case], layout="transposed", device=device_of(backend))
    with Recorder() as recorder:
        outputs_and_gradients(op.run, tensors, backend=backend, **options)
    assert [func.name().endswith("_backward") for func, _ in recorder.calls] == [False, True]
    # Fake and real tensors agree in shape, strides and dtype.
    checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if case != "packed":  # some states that packed clips could need stand unwritten: no two runs agree in them
        checks.append("test_aot_dispatch_dynamic")
    for func, args in recorder.calls:
        detached = [arg.detach() if isinstance(arg, torch.Tensor) else arg for arg in args]
        torch.library.opcheck(func, tuple(detached), test_utils=checks)


@each_op
def test_work_in_plain_torch_grows_with_the_length_and_no_faster(op):
    written = []
    for l in (512, 4096):
        tensors, options = small(op, l=l)
        with Written() as counter:
            outputs_and_gradients(op.run, tensors, backend="torch", **options)
        written.append(counter.numbers)
    assert written[1] < 8.5 * written[0]


@each_op
def test_five_lengths_take_two_compilations(op):
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    options = small(op)[1]
    run = lambda **tensors: op.run(**tensors, **options, backend="cpu")
    compiled = torch.compile(run, fullgraph=True, backend=counter)
    for l in (37, 41, 64, 50, 83):  # over a chunk each: shorter ones are a compilation of their own
        tensors, _ = small(op, l=l)
        torch.testing.assert_close(outputs_and_gradients(compiled, tensors), outputs_and_gradients(run, tensors))
    assert counter.frame_count <= 2


@pytest.mark.slow  # the first one waits for a C++ compiler
@each_op
def test_inductor_agrees(op):
    torch._dynamo.reset()
    tensors, options = arguments(op, op.cases.EXACT[op.strided_case])
    run = lambda **values: tuple(op.run(**values, **options, backend="cpu"))
    compiled = torch.compile(run, fullgraph=True)
    expected = outputs_and_gradients(run, tensors)
    torch.testing.assert_close(outputs_and_gradients(compiled, tensors), expected)


class Exported(torch.nn.Module):
    def __init__(self, op, options):
        super().__init__()
        self.op, self.options = op, options

    def forward(self, tensors):
        return tuple(self.op.run(**tensors, **self.options, backend="cpu"))


@each_op
def test_export_save_and_load(op):
    case = op.cases.EXACT["ragged"]
    tensors, options = small(op, l=7)
    l = torch.export.Dim("l", min=2)
    along = axis_of(op, case, "l")
    shapes = {name: {along[name]: l} if name in along else None for name in tensors}
    detach = lambda tensors: {name: tensor.detach() for name, tensor in tensors.items()}
    exported = torch.export.export(Exported(op, options), (detach(tensors),), dynamic_shapes=(shapes,))
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for l in (7, 13, 37):
        tensors = detach(small(op, l=l)[0])
        for got, expected in zip(loaded(tensors), Exported(op, options)(tensors)):
            assert torch.equal(got, expected)


@each_op
@on_plain
def test_function_transforms(backend, op):
    f, x = function_of_x(op, backend)
    leaf = x.clone().requires_grad_()
    y = f(leaf)
    weight = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(0))
    (expected,) = torch.autograd.grad(y, leaf, weight)
    torch.testing.assert_close(vjp(f, x)[1](weight)[0], expected)
    torch.testing.assert_close(grad(lambda x: (f(x) * weight).sum())(x), expected)
    torch.testing.assert_close((jacrev(f)(x) * weight[(...,) + (None,) * x.dim()]).sum(tuple(range(y.dim()))), expected)
    tangent = torch.ones_like(x)
    torch.testing.assert_close((jvp(f, (x,), (tangent,))[1] * weight).sum(), (expected * tangent).sum())
    torch.testing.assert_close(vmap(f)(torch.stack([x, 2 * x])), torch.stack([f(x), f(2 * x)]))


@each_op
@on_fused
def test_function_transforms_of_a_fused_kernel_are_refused(backend, op):
    f, x = function_of_x(op, backend)
    message = r"cannot run:[^$]*torch.func and forward-mode AD do not reach into a fused kernel \(use backend='torch'\)"
    for transform in (
        grad(lambda x: f(x).sum()),
        jacrev(f),
        lambda x: vmap(f)(x[None]),
        lambda x: vjp(f, x),
        lambda x: jvp(f, (x,), (x,)),
    ):
        with pytest.raises(BackendError, match=message):
            transform(x)
    with torch.autograd.forward_ad.dual_level(), pytest.raises(BackendError, match=message):
        f(torch.autograd.forward_ad.make_dual(x, x))


@each_op
def test_auto_takes_torch_under_a_transform(op):
    auto, x = function_of_x(op, None)
    plain, _ = function_of_x(op, "torch")
    assert torch.equal(jvp(auto, (x,), (x,))[1], jvp(plain, (x,), (x,))[1])


@each_op
@on_plain
def test_second_derivatives(backend, op):
    f, x = function_of_x(op, backend)
    assert torch.autograd.gradgradcheck(f, x.requires_grad_())


@each_op
@on_fused
def test_second_derivatives_of_a_fused_kernel_are_refused(backend, op):
    f, x = function_of_x(op, backend)
    x.requires_grad_()
    (first,) = torch.autograd.grad(f(x).square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivative: use backend='torch' or 'reference'"):
        torch.autograd.grad(first.sum(), x)


# Written out for `FLOPS_CASE`: (forward, backward), by hand from the READMEs.
FLOPS_CASE = {
    "s6": dict(b=2, l=30, d=5, n=3, k=2),
    "conv": dict(b=2, l=30, d=5, width=4, k=2),
    "ssd": dict(b=2, l=30, heads=4, p=5, n=3, g=2, k=2, chunk=12),
}
STEPS = 2 * 2 * 30  # b k l
SQUARES = 2 * 2 * (12 * 12 + 12 * 12 + 6 * 6)
FLOPS = {
    "s6": (STEPS * 5 * 7 * 3, STEPS * 5 * 19 * 3),
    "conv": (STEPS * 5 * 2 * 4, STEPS * 5 * 6 * 4),
    "ssd": (
        2 * (SQUARES * (2 * 3 + 4 * 5) + STEPS * 4 * 2 * 5 * 3),
        2 * (SQUARES * (3 * 2 * 3 + 2 * 4 * 5) + STEPS * 4 * 5 * 5 * 3),
    ),
}


def count(op, case, backend):
    tensors, options = arguments(op, case)
    with FlopCounterMode(display=False) as forward:
        y = op.run(**tensors, **options, backend=backend)[0]
    with FlopCounterMode(display=False) as backward:
        torch.autograd.grad(y.sum(), list(tensors.values()), materialize_grads=True)
    return forward.get_total_flops(), backward.get_total_flops()


@pytest.mark.parametrize("name", FLOPS)
def test_flops_are_those_of_the_readme(name):
    op = find_ops()[name]
    assert count(op, op.cases.Case(**FLOPS_CASE[name]), "cpu") == FLOPS[name]


def test_flops_of_plain_torch_are_what_the_readmes_say():
    ops = find_ops()
    for name in ("s6", "conv"):
        assert count(ops[name], ops[name].cases.Case(**FLOPS_CASE[name]), "torch") == (0, 0)
    case = ops["ssd"].cases.Case(**FLOPS_CASE["ssd"] | dict(chunk=10))
    forward, backward = count(ops["ssd"], case, "torch")
    assert forward == count(ops["ssd"], case, "cpu")[0]
    assert backward == 2 * forward
