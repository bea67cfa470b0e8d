"""What this machine can run, and every reason why not the rest."""

import platform

import pytest
import torch

import ssmvid_kernels
from ssmvid.cli import doctor


def test_versions_threads_devices_and_decoders(ssmvid):
    done = ssmvid("doctor")
    assert (done.code, done.err) == (0, "")
    assert f"python {platform.python_version()}" in done.out
    for package in ("ssmvid", "torch", "triton", "numba", "timm", "av", "torchcodec"):
        assert f"\n  {package} " in done.out
    assert f"torch          {torch.__version__}" in done.out
    assert f"{torch.get_num_threads()} threads" in done.out
    assert "\ncpu: " in done.out
    assert "  pyav        yes, FFmpeg " in done.out


@pytest.mark.parametrize(("reason", "line"), [(None, "yes"), ("no FFmpeg here", "no: no FFmpeg here")])
def test_torchcodec_with_the_reason_why_not(ssmvid, monkeypatch, reason, line):
    monkeypatch.setattr(doctor, "why_no_torchcodec", lambda: reason)
    assert f"  torchcodec  {line}\n" in ssmvid("doctor").out


@pytest.mark.parametrize(("switch", "answer"), [("1", "yes"), ("0", "no")])
def test_whether_triton_interprets(ssmvid, monkeypatch, switch, answer):
    monkeypatch.setenv("TRITON_INTERPRET", switch)
    assert f"triton interprets its kernels: {answer}" in ssmvid("doctor").out


def test_every_op_has_its_backend_and_the_others_their_reasons(ssmvid, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    on_cpu = ssmvid("doctor").out.split("\ncpu: ")[1].split("\n\n")[0]
    for op in ("selective_scan", "causal_conv1d"):
        _, found, lines = on_cpu.partition(f"\n  {op} ")
        assert found
        first, *others = lines.split("\n")[:5]
        assert first.split() == ["cpu"]
        assert [line.split()[:2] for line in others] == [
            ["not", name] for name in ("triton", "torch", "reference", "mamba_ssm")
        ]
        assert "triton needs a GPU, the tensors are on cpu" in others[0]
    assert "_step" not in on_cpu


def test_every_reason_is_a_line(ssmvid, monkeypatch):
    reasons = {"triton": ("it is too old", "there is no GPU"), "cpu": ("numba is not installed",)}
    choice = lambda op, device: ssmvid_kernels.backends.Choice(op, str(device), "torch", reasons)
    monkeypatch.setattr(ssmvid_kernels, "choose", choice)
    lines = [" ".join(line.split()) for line in ssmvid("doctor").out.splitlines()]
    at = lines.index("selective_scan torch")
    assert lines[at + 1 : at + 4] == [
        "not triton it is too old",
        "not triton there is no GPU",
        "not cpu numba is not installed",
    ]


def test_each_accelerator_is_a_device(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert [str(device) for device in doctor._devices()] == ["cpu", "cuda:0", "cuda:1"]
