"""One thread a test process, and Triton's interpreter where there is no GPU: both before torch and triton load."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes of a run share the cores

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

import ssmvid  # noqa: F401 - before anything imports timm: see ssmvid/torchvision_shim.py
