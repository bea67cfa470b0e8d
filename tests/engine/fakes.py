"""A run small enough to be killed many times: a data set of sixteen numbers a clip, a model of two layers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from ssmvid import create_model
from ssmvid.data import Clip, MovingDigits, VideoError
from ssmvid.engine import Optim, Schedule, Trainer, seed_everything
from ssmvid.memory import Memory
from ssmvid.tasks import Classify

SETTINGS: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 8,
    "accumulate": 1,
    "lengths": None,
    "precision": "fp32",
    "clip_grad": 1.0,
    "ema_decay": 0.9,
    "device": "cpu",
    "sharding": "ddp",
    "context": 1,
    "workers": 0,
    "log_every": 2,
    "checkpoint_every": 3,
    "keep_last": 2,
    "seed": 0,
    "deterministic": True,
}


class Numbers:
    """Clips whose first pixel tells the class; `broken` ones fail, those in `nan` hold a NaN."""

    def __init__(self, size: int = 68, broken: tuple[int, ...] = (), nan: tuple[int, ...] = ()) -> None:
        self.size, self.broken, self.nan = size, broken, nan
        self.num_classes, self.class_names = 3, ("a", "b", "c")
        self.clip_shape, self.question_length = (1, 2, 2, 4), 0
        self.seen: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: tuple[int, int]) -> Clip | VideoError:
        epoch, index = key
        self.seen.append(key)
        if index in self.broken:
            return VideoError(f"{index}.mp4", "corrupt", "made so")
        generator = torch.Generator().manual_seed(1000 * epoch + index)
        frames = torch.randn(self.clip_shape, generator=generator)
        frames[0, 0, 0, 0] = float("nan") if index in self.nan else index % 3 - 1.0
        return Clip(frames, index % 3, str(index))


class Net(nn.Sequential):
    """Two layers, and dropout so that random numbers matter."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__(nn.Flatten(), nn.Linear(16, 24), nn.GELU(), nn.Dropout(dropout), nn.Linear(24, 3))

    def forward(self, frames: Tensor) -> Tensor:
        return super().forward(frames)


def digits(frames: int = 8, num_clips: int = 8) -> MovingDigits:
    """Clips of 4 tokens a frame for `long_video`."""
    return MovingDigits(split="train", frames=frames, size=16, num_clips=num_clips)


def long_video(policy: str, hybrid: str = "MW", causal_frames: int | None = 1, classes: int = 4) -> Classify:
    """A MultiScan of two layers under a memory policy."""
    model = create_model(
        "multiscan_tiny", dim=16, depth=2, hybrid=hybrid, head_dim=4, state_size=4, registers=int(bool(causal_frames)),
        causal_frames=causal_frames, orders=["thw", "thw+rev"], schedule="same", img_size=16, tubelet=(1, 8, 8),
        num_classes=classes,
    )  # fmt: skip
    return Classify(model, label_smoothing=0.1, memory=Memory(policy=policy))


def fit(
    folder: Path,
    *,
    resume: str = "auto",
    train: Any = None,
    val: Any = None,
    task: Callable[[], nn.Module] | None = None,
    dropout: float = 0.2,
    trackers: Any = (),
    **settings: Any,
) -> dict[str, Any]:
    """One run, or the rest of one, in `folder`."""
    config = {"trainer": SETTINGS | settings, "resume": resume, "model": {"dropout": dropout}}
    seed_everything(0)
    return Trainer(**config["trainer"]).fit(
        Classify(Net(dropout), label_smoothing=0.1) if task is None else task(),
        train or Numbers(),
        val or Numbers(20),
        optim=Optim(name="adamw", lr=1e-2, weight_decay=0.05, layer_decay=None),
        schedule=Schedule(name="cosine", warmup=0.2, warmup_lr=1e-5, min_lr=1e-5),
        folder=folder,
        config=config,
        resume=resume,
        trackers=trackers,
    )


def fit_rank(rank: int, world_size: int, port: int, folder: Path, settings: dict[str, Any]) -> None:
    """`fit` as one of the processes that torchrun starts; rank 0's folder counts."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    prepare = Accelerator.prepare

    def checked(self: Accelerator, task: nn.Module, optimizer: Any) -> Any:
        prepared = prepare(self, task, optimizer)
        assert isinstance(prepared[0], FSDPModule if settings.get("sharding") == "fsdp2" else DistributedDataParallel)
        return prepared

    Accelerator.prepare = checked
    fit(folder if rank == 0 else folder.with_name(f"{folder.name}_rank{rank}"), **settings)
    torch.distributed.destroy_process_group()
