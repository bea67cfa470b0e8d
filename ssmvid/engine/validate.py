"""A pass over a data set: every sample exactly once over all ranks, failed videos as wrong answers."""

from __future__ import annotations

import logging
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from ssmvid.data import ClipDataset, make_loader
from ssmvid.engine.devices import Ranks
from ssmvid.engine.score import Score
from ssmvid.engine.step import task_inputs

_log = logging.getLogger(__name__)


@torch.no_grad()
def validate(
    accelerator: Accelerator, ranks: Ranks, task: nn.Module, dataset: ClipDataset, *, batch_size: int, workers: int
) -> dict[str, Any]:
    """Loss, top-1, top-5 and the two counts over the whole data set.

    Args:
        accelerator: this process's.
        ranks: this process among the others.
        task: not wrapped for DDP; it is set to evaluation and left so.
        dataset: what to answer.
        batch_size: clips a row of ranks and step.
        workers: loader processes a rank.

    Returns: `loss`, `top1`, `top5` (correct / (n_ok + n_failed)), `n_ok`, `n_failed`.
    """
    task.eval()
    score = Score().to(accelerator.device)
    loader = make_loader(
        dataset,
        batch_size=batch_size,
        epoch=0,
        rank=ranks.row,
        world_size=ranks.rows,
        shuffle=False,
        seed=0,
        workers=workers,
    )
    for batch in tqdm(loader, desc="validation", leave=False, disable=None if accelerator.is_main_process else True):
        for error in batch.failed:
            _log.warning("failed video: %s", error)
        inputs = task_inputs(batch, accelerator.device)
        with accelerator.autocast(), ranks.context():
            output = task(*inputs)
        if ranks.speaks:
            score.fail(len(batch.failed))
            if batch.ids:
                score.count(output["logits"].float(), inputs[1], output["loss"])
    return score.compute()
