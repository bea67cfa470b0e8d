"""One optimizer step from several micro-batches on several ranks: the same as from one batch on one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor

from ssmvid.data import Batch
from ssmvid.engine.devices import Ranks
from ssmvid.engine.score import Score
from ssmvid.engine.state import State


class NonFiniteLoss(RuntimeError):
    """Loss or gradient became NaN or infinite; the parameters are those from before the step."""


@dataclass(frozen=True)
class Outcome:
    """What one step saw, over all ranks.

    `n_ok` and `n_failed` count its clips; `finite` is False where loss or gradient was not, on any rank, and the
    optimizer then took no step; `stop` whether any rank was asked to. `tokens` and `memory` are what the task told of
    them: how many its model made of the clips, and what its backward kept.
    """

    n_ok: int
    n_failed: int
    grad_norm: float
    finite: bool
    stop: bool
    tokens: int
    memory: str | None


def take_step(
    accelerator: Accelerator,
    ranks: Ranks,
    state: State,
    optimizer: AcceleratedOptimizer,
    batches: Sequence[Batch],
    score: Score,
    *,
    clip_grad: float | None,
    stop: bool,
) -> Outcome:
    """Forward, backward and one update, each clip weighing the same wherever it lies.

    Args:
        accelerator: this process's.
        ranks: this process among the others.
        state: what to train.
        optimizer: the state's, as accelerate wrapped it: it knows of the loss scaler.
        batches: this row's micro-batches, as many in each row.
        score: takes the training numbers.
        clip_grad: largest norm of the gradient; None for no limit.
        stop: whether this rank was asked to stop.
    """
    ok = sum(len(batch.ids) for batch in batches) * ranks.speaks
    failed = sum(len(batch.failed) for batch in batches) * ranks.speaks
    n_ok, n_failed = map(int, _sum(accelerator, ok, failed))
    score.fail(failed)
    finite, norm, tokens, memory = True, 0.0, 0, None
    if n_ok:
        finite, tokens, memory = _backward(accelerator, ranks, state, batches, score, n_ok)
        largest = clip_grad if clip_grad is not None else math.inf
        norm = accelerator.clip_grad_norm_(state.task.parameters(), largest).item()
        # An infinite gradient under a loss scaler is its usual business: it skips the step and lowers the scale.
        finite = finite and (state.scaler is not None or math.isfinite(norm))
    bad, stops, tokens = map(int, _sum(accelerator, not finite, stop, tokens))
    # All ranks decide alike, or some would wait for ever.
    if n_ok and not bad:
        optimizer.step()
        if state.ema is not None:
            state.ema.update(accelerator.unwrap_model(state.task), step=state.progress.step)
    optimizer.zero_grad()
    return Outcome(n_ok, n_failed, norm, not bad, bool(stops), tokens, memory)


def task_inputs(batch: Batch, device: torch.device) -> tuple[Tensor, ...]:
    """What a task is called with, on `device`: frames (b, c, T, H, W), labels (b,) and, where asked, questions (b, q).

    Ranks compute in step with each other, so one without clips must compute too: on one black clip, whose result counts
    for nothing.
    """
    inputs = [batch.frames, batch.labels, *([batch.questions] if batch.questions.shape[1] else [])]
    if not batch.ids:
        inputs = [tensor.new_zeros(1, *tensor.shape[1:]) for tensor in inputs]
    return tuple(tensor.to(device, non_blocking=True) for tensor in inputs)


def _backward(
    accelerator: Accelerator, ranks: Ranks, state: State, batches: Sequence[Batch], score: Score, n_ok: int
) -> tuple[bool, int, str | None]:
    """Accumulate the gradient of the mean loss over all clips of the step.

    Returns: whether each loss here was finite; tokens and memory as in `Outcome`, of this rank.
    """
    finite, tokens, memory = True, 0, None
    state.task.train()
    for i, batch in enumerate(batches):
        last = i == len(batches) - 1
        inputs = task_inputs(batch, accelerator.device)
        with ranks.context(), nullcontext() if last else accelerator.no_sync(state.task):
            output = state.task(*inputs)
            # Ranks are averaged, clips are not: undo the one mean and take the other. Those of a row each have the
            # whole loss, and the mean over them is what their shares add up to.
            weight = len(batch.ids) * ranks.rows / n_ok
            accelerator.backward(output["loss"] * weight)
        finite = finite and bool(torch.isfinite(output["loss"]))
        if batch.ids and ranks.speaks:
            score.count(output["logits"].detach(), inputs[1], output["loss"])
        if batch.ids:
            tokens, memory = tokens + output.get("tokens", 0), output.get("memory")
    return finite, tokens, memory


def _sum(accelerator: Accelerator, *values: float) -> list[float]:
    total: Tensor = accelerator.reduce(torch.tensor(values, dtype=torch.float64, device=accelerator.device), "sum")
    return total.tolist()
