"""What the configs say of an optimizer and its schedule, built through timm."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Optim:
    """One of timm's optimizers.

    Biases, norms and whatever the model lists in `no_weight_decay()` are not decayed.

    Args:
        name: as `timm.optim.list_optimizers()` has it.
        lr: learning rate, > 0.
        weight_decay: >= 0.
        layer_decay: factor on the learning rate a layer down from the head, in (0, 1]; None for one rate. It follows
            the model's `group_matcher`.
    """

    name: str
    lr: float
    weight_decay: float
    layer_decay: float | None

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer over the model's parameters.

        Raises:
            ValueError: layer_decay is asked for and the model says nothing about its layers.
        """
        if self.layer_decay is not None and not hasattr(model, "group_matcher"):
            raise ValueError(
                f"optim.layer_decay={self.layer_decay} needs a model with group_matcher(); "
                f"{type(model).__name__} has none. Use optim.layer_decay=null."
            )
        return create_optimizer_v2(
            model, opt=self.name, lr=self.lr, weight_decay=self.weight_decay, layer_decay=self.layer_decay
        )


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One of timm's schedules, stepped by optimizer updates.

    Args:
        name: "cosine", "poly", ... as timm's `sched`.
        warmup: share of all steps over which the rate rises linearly, in [0, 1).
        warmup_lr: learning rate at step 0 where there is a warm-up.
        min_lr: learning rate at the end.
    """

    name: str
    warmup: float
    warmup_lr: float
    min_lr: float

    def build(self, optimizer: torch.optim.Optimizer, steps: int) -> Scheduler:
        """The schedule over `steps` updates: `step_update(n)` sets the rate of the update after n others.

        Raises:
            ValueError: the schedule needs more than the number of updates (it could not be resumed exactly).
        """
        if self.name == "plateau":
            raise ValueError("schedule.name=plateau follows the validation, not the step: take cosine, poly, step, ...")
        scheduler, _ = create_scheduler_v2(
            optimizer,
            sched=self.name,
            num_epochs=steps,
            warmup_epochs=round(self.warmup * steps),
            warmup_lr=self.warmup_lr,
            min_lr=self.min_lr,
            step_on_epochs=False,
            updates_per_epoch=1,
        )
        return scheduler
