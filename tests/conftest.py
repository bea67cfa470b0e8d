"""Before anything imports torch or triton: one thread a test process, and Triton's interpreter unless there is a GPU."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes of a run share the cores

import torch  # noqa: E402

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

import ssmvid  # noqa: E402, F401 - before anything imports timm: see ssmvid/torchvision_shim.py
