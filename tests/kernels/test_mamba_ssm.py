"""backend="mamba_ssm": its layouts and refusals, by a stand-in for the packages. Their kernels need a GPU."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch

from ssmvid_kernels import BackendError, backends, causal_conv1d, compat, selective_scan, ssd_scan, use_backend
from ssmvid_kernels.calls import arguments, find_ops
from ssmvid_kernels.testing import outputs_and_gradients

OPS = find_ops()
NOT_HERE = (
    "mamba_ssm is not installed (pip install mamba-ssm)",
    "mamba_ssm needs a CUDA device, the tensors are on cpu",
)


@pytest.fixture
def calls(monkeypatch):
    """The packages installed and able: their functions are compat's over the references; what they got is kept."""
    got = {}

    def install(module, function=None):
        stand_in = ModuleType(module)
        stand_in.__spec__ = ModuleSpec(module, None)
        if function is not None:

            def record(*args, **kwargs):
                got["args"], got["kwargs"] = args, kwargs
                with use_backend("reference"):
                    return function(*args, **kwargs)

            setattr(stand_in, function.__name__, record)
        monkeypatch.setitem(sys.modules, module, stand_in)

    for package in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.triton", "selective_scan_cuda"):
        install(package)
    install("mamba_ssm.ops.selective_scan_interface", compat.selective_scan_fn)
    install("mamba_ssm.ops.triton.ssd_combined", compat.mamba_chunk_scan_combined)
    install("causal_conv1d", compat.causal_conv1d_fn)
    why_not = backends.why_not
    monkeypatch.setattr(backends, "why_not", lambda name, on: () if name == "mamba_ssm" else why_not(name, on))
    return got


def case(op, **sizes):
    inputs, options = arguments(OPS[op], OPS[op].cases.EXACT["ragged"]._replace(**sizes))
    return inputs, options


@pytest.mark.parametrize(("folder", "without", "sizes"), [("s6", "h0", {}), ("ssd", "", {}), ("conv", "", {"d": 16})])
def test_is_the_op(calls, folder, without, sizes):
    tensors, options = case(folder, **sizes)
    tensors.pop(without, None)
    run = lambda backend: outputs_and_gradients(OPS[folder].run, tensors, backend=backend, **options)
    if folder == "s6":  # h has no gradient there
        run = lambda backend: outputs_and_gradients(
            lambda **given: selective_scan(**given)[:1], tensors, backend=backend, **options
        )
    torch.testing.assert_close(run("mamba_ssm"), run("reference"))
    assert calls["args"]


def test_the_state_of_the_selective_scan_has_no_gradient(calls):
    tensors, options = case("s6")
    del tensors["h0"]
    y, h = selective_scan(**tensors, **options, backend="mamba_ssm")
    assert y.requires_grad
    assert not h.requires_grad
    torch.testing.assert_close(h, selective_scan(**tensors, **options, backend="reference").h.detach())


def test_what_the_kernels_get_is_a_view(calls):
    tensors, options = case("s6")
    del tensors["h0"]
    selective_scan(**tensors, **options, backend="mamba_ssm")
    u, delta, _, B, C, *_ = calls["args"]
    for view, name in ((u, "x"), (delta, "dt"), (B, "B"), (C, "C")):
        assert view.data_ptr() == tensors[name].data_ptr(), name
        assert view.shape == tensors[name].mT.shape, name
    tensors, options = case("conv", d=16)
    causal_conv1d(**tensors, **options, backend="mamba_ssm")
    assert calls["args"][0].data_ptr() == tensors["x"].data_ptr()
    assert calls["args"][0].stride(1) == calls["kwargs"]["initial_states"].stride(1) == 1


def test_dt_without_a_limit_is_not_clamped(calls):
    tensors, _ = case("ssd")
    ssd_scan(**tensors, backend="mamba_ssm")
    assert calls["kwargs"]["dt_limit"] == (-float("inf"), float("inf"))


def refusal(run, *args, **kwargs):
    with pytest.raises(BackendError) as error:
        run(*args, **kwargs, backend="mamba_ssm")
    return [line.removeprefix("  - ") for line in str(error.value).splitlines()[1:-1]]


def test_where_it_is_not_installed_every_reason_is_said():
    tensors, options = arguments(OPS["s6"], OPS["s6"].cases.EXACT["packed_paths"], dtype=torch.float64)
    assert refusal(selective_scan, **tensors, **options) == [
        *NOT_HERE,
        "its selective_scan_cuda is not installed (MAMBA_KEEP_CUDA_BUILD=TRUE pip install mamba-ssm)",
        "it cannot follow walks",
        "it cannot start from h0",
        "it cannot take packed clips (cu_seqlens)",
        "it cannot compute in float64",
    ]
    tensors, options = arguments(OPS["ssd"], OPS["ssd"].cases.EXACT["packed_paths"], dtype=torch.float64)
    assert refusal(ssd_scan, **tensors, **options) == [
        *NOT_HERE,
        "it cannot follow walks",
        "it has no gradient of the states of packed clips (cu_seqlens)",
        "it cannot compute in float64",
    ]
    tensors, options = arguments(OPS["conv"], OPS["conv"].cases.EXACT["packed_paths"], dtype=torch.float64)
    assert refusal(causal_conv1d, **tensors, **options) == [
        *NOT_HERE,
        "causal_conv1d is not installed (pip install causal-conv1d)",
        "it cannot follow walks",
        "it has no states of packed clips (cu_seqlens)",
        "it cannot compute in float64",
        f"it wants channels in multiples of 8, got d = {tensors['x'].shape[-1]}",
    ]


@pytest.mark.parametrize(("folder", "states"), [("s6", ["it cannot start from h0"]), ("ssd", [])])
def test_sizes_and_dtypes_it_cannot_take(calls, folder, states):
    run = OPS[folder].run
    tensors, options = case(folder, n=257, l=2)
    assert refusal(run, **tensors, **options) == [*states, "it holds at most 256 states, got n = 257"]
    tensors, options = case(folder)
    half = {"x": tensors["x"].half()}
    assert any(reason.startswith("it wants one dtype of x, ") for reason in refusal(run, **tensors | half, **options))
    tensors, options = case(folder, l=0)
    assert "it takes no empty tensors, got x (2, 0" in refusal(run, **tensors, **options)[-1]


def test_auto_never_takes_it(calls):
    assert backends.choose("selective_scan", torch.device("cpu")).backend == "cpu"
    assert backends.choose("selective_scan", torch.device("cuda")).backend == "triton"


def test_an_op_it_has_not_is_refused(calls):
    with pytest.raises(BackendError, match="mamba_ssm has no some_op"):
        backends.pick("some_op", {"reference": print}, "mamba_ssm", torch.device("cpu"))
