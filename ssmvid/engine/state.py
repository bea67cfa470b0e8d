"""What makes a run: the live objects it consists of, and how they go into a checkpoint and come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from ssmvid.engine.checkpoint import Checkpoint, CheckpointError

# Names and whole tensors, however the ranks share them: on rank 0 alone to save, on each one to load.
_SAVE = StateDictOptions(full_state_dict=True, cpu_offload=True)
_LOAD = StateDictOptions(full_state_dict=True)
_MODEL_PREFIX = "model."  # a task holds its model under this name


@dataclass
class Progress:
    """How far a run is. All of it is a function of the steps taken, but `minutes`.

    `step` counts optimizer updates, `n_failed` training videos that could not be read, `validated` is the step of the
    last validation, `last` its numbers, `best_top1` and `best_step` those of the best one; `sums` is the training score
    since the last row.
    """

    step: int = 0
    n_failed: int = 0
    validated: int = 0
    last: dict[str, Any] = field(default_factory=dict)
    best_top1: float | None = None
    best_step: int | None = None
    minutes: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)


@dataclass
class State:
    """The live objects of a run whose values a checkpoint keeps."""

    task: nn.Module  # as accelerate wrapped it
    optimizer: torch.optim.Optimizer
    ema: ModelEmaV3 | None
    scaler: torch.amp.GradScaler | None
    progress: Progress

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """The tensors of each file: model, optimizer and, where there is one, ema. Every rank must call it."""
        model = _without_prefix(get_model_state_dict(self.task, options=_SAVE))
        state: Any = get_optimizer_state_dict(self.task, self.optimizer, options=_SAVE).get("state", {})
        optimizer = {f"{name}/{key}": value for name, values in state.items() for key, value in values.items()}
        if odd := [name for name, value in optimizer.items() if not isinstance(value, Tensor)]:
            raise CheckpointError(
                f"this optimizer keeps state other than tensors ({', '.join(odd[:3])}); choose another one"
            )
        files = {"model": model, "optimizer": optimizer}
        if self.ema is not None:
            files["ema"] = _without_prefix(self.ema.module.state_dict())
        return files

    def document(self) -> dict[str, Any]:
        """The scalars."""
        return {
            "progress": asdict(self.progress),
            "scaler": self.scaler.state_dict() if self.scaler is not None else None,
        }

    def load(self, saved: Checkpoint) -> None:
        """Take all values from a checkpoint. Every rank must call it, with the same checkpoint.

        Raises:
            CheckpointError: it has other parameters, shapes or parts than this run; the message lists them.
        """
        files = {"model", "optimizer"} | ({"ema"} if self.ema is not None else set())
        if saved.tensors.keys() != files:
            raise CheckpointError(f"{saved.folder} holds {sorted(saved.tensors)}, this run needs {sorted(files)}")
        now = get_model_state_dict(self.task, options=StateDictOptions())
        check_fit(saved.tensors["model"], _without_prefix(now), str(saved.folder))
        set_model_state_dict(self.task, _with_prefix(saved.tensors["model"]), options=_LOAD)
        if self.ema is not None:
            self.ema.module.load_state_dict(_with_prefix(saved.tensors["ema"]))
        self._load_optimizer(saved.tensors["optimizer"])
        document = saved.documents["state"]
        if self.scaler is not None:
            self.scaler.load_state_dict(document["scaler"])
        for name, value in document["progress"].items():
            setattr(self.progress, name, value)

    def _load_optimizer(self, saved: Mapping[str, Tensor]) -> None:
        state: dict[str, Any] = {}
        for name, value in saved.items():
            parameter, _, key = name.rpartition("/")
            state.setdefault(parameter, {})[key] = value
        # Groups follow from the config, which is the same, and the schedule sets their rates before each step.
        groups = get_optimizer_state_dict(self.task, self.optimizer, options=_LOAD)["param_groups"]
        set_optimizer_state_dict(self.task, self.optimizer, {"state": state, "param_groups": groups}, options=_LOAD)


def check_fit(saved: Mapping[str, Tensor], model: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights that are not those of the model.

    Raises:
        CheckpointError: parameters are missing, unknown or of another shape; the message lists them.
    """
    lines = _listed("missing", [name for name in model if name not in saved])
    lines += _listed("unknown", [name for name in saved if name not in model])
    shapes = [
        f"{name} {tuple(saved[name].shape)}, expected {tuple(model[name].shape)}"
        for name in model
        if name in saved and saved[name].shape != model[name].shape
    ]
    lines += _listed("of another shape", shapes)
    if lines:
        raise CheckpointError(
            f"{where} does not fit this model:\n{''.join(lines)}"
            "Build the model with the options it was trained with: they stand in the checkpoint's config.json."
        )


def _listed(what: str, names: Sequence[str]) -> list[str]:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return [f"  {len(names)} {what}: {', '.join(names[:5])}{more}\n"] if names else []


def _without_prefix(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(_MODEL_PREFIX): value for name, value in state.items()}


def _with_prefix(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return {f"{_MODEL_PREFIX}{name}": value for name, value in state.items()}
