"""Say what this machine can run: versions, devices, decoders, and which backend each op takes and why."""

from __future__ import annotations

import argparse
import os
import platform

import av
import torch

import ssmvid_kernels
from ssmvid.data import why_no_torchcodec
from ssmvid.versions import installed
from ssmvid_kernels.backends import BACKENDS, interpreting, why_not
from ssmvid_kernels.calls import find_ops

PACKAGES = (
    "ssmvid", "torch", "torchvision", "triton", "numba", "numpy", "timm", "accelerate", "torchmetrics", "hydra-core",
    "av", "torchcodec", "safetensors", "mamba-ssm", "causal-conv1d", "transformers", "wandb", "tensorboard",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # it takes none


def run(args: argparse.Namespace) -> int:
    del args
    print(f"python {platform.python_version()} on {platform.platform()}")
    for name in PACKAGES:
        print(f"  {name:14} {installed(name) or 'not installed'}")
    print(f"\ntriton interprets its kernels: {'yes, very slow (TRITON_INTERPRET=1)' if interpreting() else 'no'}")
    for device in _devices():
        print(f"\n{device}: {_device_name(device)}")
        for op in find_ops().values():
            print("\n".join(_backends(op.run.__name__, device)))
    print("\nvideo decoders")
    print(f"  pyav        yes, FFmpeg {av.ffmpeg_version_info}")
    why_not = why_no_torchcodec()
    print(f"  torchcodec  {'yes' if why_not is None else f'no: {why_not}'}")
    return 0


def _devices() -> list[torch.device]:
    """The CPU, and every accelerator torch can use."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    count = torch.accelerator.device_count() if accelerator else 0
    return [torch.device("cpu")] + [torch.device(accelerator.type, i) for i in range(count) if accelerator]


def _device_name(device: torch.device) -> str:
    if device.type != "cuda":
        return f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    about = torch.cuda.get_device_properties(device)
    return f"{about.name}, compute capability {about.major}.{about.minor}, {about.total_memory / 2**30:.0f} GiB"


def _backends(op: str, device: torch.device) -> list[str]:
    """The backend that runs, and of each other one every reason why not."""
    choice = ssmvid_kernels.choose(op, device)
    lines = [f"  {op:16} {choice.backend}"]
    for name in BACKENDS:
        if name not in ("auto", choice.backend):
            reasons = choice.reasons.get(name) or why_not(name, device) or ("it can, where it is asked for",)
            lines += [f"    not {name:10} {reason}" for reason in reasons]
    return lines
