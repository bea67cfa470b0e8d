"""Triton's interpreter is switched on before anything imports triton, unless there is a GPU to run on."""

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
