"""Which implementation runs: what is asked for runs or is refused with every reason, and "auto" can be asked why."""

import threading

import pytest
import torch

from ssmvid_kernels import backends, choose, selective_scan, use_backend
from ssmvid_kernels.backends import BACKENDS, pick
from ssmvid_kernels.calls import find_ops
from ssmvid_kernels.s6.cases import Case, make_inputs

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NAMES = {name: lambda name=name: name for name in BACKENDS if name != "auto"}
UNKNOWN = "unknown backend 'cuda': expected one of auto, triton, cpu, torch, reference, mamba_ssm"


def picked(backend=None, device=CPU):
    return pick("some_op", NAMES, backend, device)()


@pytest.fixture
def without(monkeypatch):
    """`without("numba")`: as if the package were not installed."""
    find_spec = backends.find_spec
    missing = []
    monkeypatch.setattr(backends, "find_spec", lambda name: None if name in missing else find_spec(name))
    monkeypatch.setattr(backends, "_warned", set())
    return missing.append


@pytest.mark.parametrize("op", find_ops().values(), ids=lambda op: op.name)
def test_every_op_has_every_implementation(op):
    implementations = __import__(op.run.__module__, fromlist=["IMPLEMENTATIONS"]).IMPLEMENTATIONS
    assert implementations.keys() | {"mamba_ssm"} == NAMES.keys()  # what that package has no kernel for, it refuses


@pytest.mark.parametrize("name", ["cpu", "torch", "reference"])
def test_what_is_asked_for_runs(name):
    assert picked(name) == name
    with use_backend(name):
        assert picked() == name
        assert picked("torch") == "torch"
        with use_backend("auto"):
            assert picked() == "cpu"
        assert picked() == name
    assert picked() == "cpu"


def test_a_block_that_fails_leaves_nothing_behind():
    with pytest.raises(KeyError), use_backend("torch"):
        raise KeyError
    assert picked() == "cpu"


def test_a_block_is_seen_by_its_own_thread_only():
    seen = []
    with use_backend("torch"):
        thread = threading.Thread(target=lambda: seen.append(picked()))
        thread.start()
        thread.join()
    assert seen == ["cpu"]


def test_unknown_names_are_refused():
    inputs = make_inputs(Case(1, 2, 2, 2))
    with pytest.raises(ValueError, match=UNKNOWN):
        selective_scan(**inputs, backend="cuda")
    with pytest.raises(ValueError, match=UNKNOWN), use_backend("cuda"):
        pass


def test_a_refusal_holds_every_reason(without, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    without("triton")
    with pytest.raises(RuntimeError) as refusal:
        picked("triton")
    assert str(refusal.value) == (
        "some_op: backend 'triton' was asked for and cannot run:\n"
        "  - triton is not installed (pip install triton)\n"
        "  - triton needs a GPU, the tensors are on cpu\n"
        "Use backend='auto' to run the fastest one that can."
    )
    on_meta = {name: tensor.to("meta") for name, tensor in make_inputs(Case(1, 2, 2, 2)).items()}
    with pytest.raises(RuntimeError, match=r"'cpu' was asked for and cannot run:\n  - the tensors are on meta"):
        selective_scan(**on_meta, backend="cpu")


def test_auto_says_what_it_takes_and_why_not_the_others(without, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert choose("some_op", CUDA).backend == "triton"
    choice = choose("some_op", CPU)
    assert (choice.backend, list(choice.reasons)) == ("cpu", ["triton"])
    without("numba")
    assert str(choose("some_op", CPU)) == (
        "some_op on cpu: torch\n"
        "  not triton: triton needs a GPU, the tensors are on cpu\n"
        "  not cpu: numba is not installed (pip install numba)"
    )


def test_auto_never_takes_an_interpreted_kernel(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert picked("triton") == "triton"
    assert picked() == "cpu"


def test_a_slow_implementation_on_a_gpu_is_said_once(without, recwarn):
    assert picked(device=CUDA) == "triton"
    without("triton")
    with pytest.warns(UserWarning, match=r"slow implementation runs on a GPU.\nsome_op on cuda: torch\n  not triton:"):
        assert picked(device=CUDA) == "torch"
    recwarn.clear()
    assert picked(device=CUDA) == "torch"
    assert not recwarn
