"""Say what this machine can run: versions, devices, decoders, and which backend each op takes and why."""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

import ssmvid_kernels
from ssmvid.data import why_not_torchcodec

PACKAGES = (
    "ssmvid", "torch", "torchvision", "triton", "numba", "timm", "accelerate", "torchmetrics", "hydra-core", "av",
    "torchcodec", "safetensors", "mamba-ssm", "causal-conv1d", "transformers", "wandb", "tensorboard",
)  # fmt: skip
OPS = ("selective_scan", "ssd_scan", "causal_conv1d")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # no arguments


def run(args: argparse.Namespace) -> int:
    print(f"python {platform.python_version()} on {platform.platform()}, {os.cpu_count()} CPU cores")
    for name in PACKAGES:
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "not installed"
        print(f"  {name:14} {found}")
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices += [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    for device in devices:
        what = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
        print(f"\n{device}: {what}")
        for op in OPS:
            print("  " + str(ssmvid_kernels.choose(op, device)).replace("\n", "\n  "))
    print("\nvideo\n  pyav: always")
    reasons = why_not_torchcodec()
    print("  torchcodec: " + (f"no: {reasons}" if reasons else "yes"))
    return 0
