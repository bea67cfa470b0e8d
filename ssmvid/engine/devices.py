"""Where a run computes: device, ranks, sharding, precision, seeds."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState, DistributedType, PartialState
from accelerate.utils import FullyShardedDataParallelPlugin
from torch.distributed.device_mesh import init_device_mesh

from ssmvid.parallel import context_parallel

PRECISIONS = ("fp32", "bf16", "fp16")
SHARDINGS = ("ddp", "fsdp2")
_SHARD_ABOVE = 100_000  # parameters a module, from which on FSDP2 gathers it apart from its parent


def make_accelerator(*, device: str, precision: str, sharding: str) -> Accelerator:
    """Accelerate's view of this process: alone, or one rank of those that torchrun started.

    Args:
        device: "auto" (a GPU where there is one) or "cpu".
        precision: "fp32", "bf16" or "fp16".
        sharding: "ddp" (each rank holds the whole model) or "fsdp2" (each holds its share).

    Raises:
        ValueError: an unknown value; "fsdp2" without torchrun.
    """
    for name, value, known in (
        ("device", device, ("auto", "cpu")),
        ("precision", precision, PRECISIONS),
        ("sharding", sharding, SHARDINGS),
    ):
        if value not in known:
            raise ValueError(f"trainer.{name} must be one of {', '.join(known)}, got {value!r}")
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    # Accelerate keeps its state for the life of the process; a sweep has several runs in one.
    if AcceleratorState._shared_state and not torch.distributed.is_initialized():
        AcceleratorState._reset_state(reset_partial_state=True)
    plugin = None
    if sharding == "fsdp2":
        if "RANK" not in os.environ:
            raise ValueError("trainer.sharding=fsdp2 needs several ranks: start it with torchrun")
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="size_based_wrap", min_num_params=_SHARD_ABOVE
        )
    accelerator = Accelerator(
        cpu=on_cpu, mixed_precision="no" if precision == "fp32" else precision, fsdp_plugin=plugin
    )
    if plugin is not None and accelerator.distributed_type == DistributedType.MULTI_CPU:
        # Accelerate drops the plugin on CPU without a word and would run DDP; its FSDP2 code itself works there.
        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    return accelerator


@dataclass(frozen=True)
class Ranks:
    """This process in a mesh of ranks: each row of it takes clips of its own, and shares each out over its ranks.

    Args:
        rows: of the mesh.
        row: this process's.
        group: the ranks of its row, in the order of time; None: each row is one rank.
    """

    rows: int
    row: int
    group: dist.ProcessGroup | None = None

    @property
    def speaks(self) -> bool:
        """Whether this process counts the clips of its row: one rank of it does."""
        return self.group is None or dist.get_rank(self.group) == 0

    def context(self) -> AbstractContextManager[None]:
        """Inside, forward and backward take a clip for one that lies on all ranks of the row."""
        return nullcontext() if self.group is None else context_parallel(self.group)


def make_ranks(accelerator: Accelerator, context: int) -> Ranks:
    """The mesh of all ranks, so many in a row.

    Accelerate's own context parallelism replaces torch's attention and would leave our scans alone, so the mesh is not
    made by its ParallelismConfig. Its DDP and FSDP2 go over all ranks, those of a row among them.

    Raises:
        ValueError: rows of so many ranks do not use up all ranks.
    """
    ranks = accelerator.num_processes
    if ranks % context:
        raise ValueError(
            f"trainer.context={context} must divide the number of ranks, got {ranks}: "
            f"torchrun --nproc-per-node={context} train.py ..."
        )
    if context == 1:
        return Ranks(ranks, accelerator.process_index)
    mesh = init_device_mesh(accelerator.device.type, (ranks // context, context), mesh_dim_names=("data", "context"))
    return Ranks(ranks // context, mesh.get_local_rank("data"), mesh.get_group("context"))


def seed_everything(*words: int) -> None:
    """Seed Python, NumPy and torch (every device) from a few numbers, such as (seed, step, rank).

    A run seeds itself so before the model is made and again before each step. The generators of a step thus depend on
    nothing that came before it: a resumed run draws what the undisturbed one draws, on any number of ranks, and no
    generator's state need be kept.
    """
    first, second, low, high = (int(word) for word in np.random.SeedSequence(words).generate_state(4))
    random.seed(first)
    np.random.seed(second)
    torch.manual_seed(high << 32 | low)


@contextlib.contextmanager
def deterministic_algorithms(on: bool) -> Iterator[None]:
    """Make torch refuse, inside the block, operations that give different bits from run to run."""
    before = torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic  # its one attribute lies behind a property that mypy cannot see
    fill = memory.fill_uninitialized_memory
    if on:
        # cuBLAS reads it at its first call; without it torch refuses every matrix product on a GPU.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        # Filling every fresh tensor with NaN finds uses of uninitialized memory; it does not make a run exact.
        memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        memory.fill_uninitialized_memory = fill
