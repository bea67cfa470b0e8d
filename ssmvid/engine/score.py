"""Loss, top-1 and top-5, exact over batches of any size and over ranks; a failed video counts as a wrong answer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric

_COUNTS = ("top1", "top5", "n_ok", "n_failed")


class Score(Metric):
    """Sums over samples, added over ranks by torchmetrics when `compute` is called.

    top-1 and top-5 are correct / (n_ok + n_failed): a video that could not be read is a sample answered wrongly.
    With fewer than five classes top-5 takes as many as there are.
    """

    full_state_update = False

    top1: Tensor
    top5: Tensor
    n_ok: Tensor
    n_failed: Tensor
    loss_sum: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in _COUNTS:
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("loss_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, sums: Mapping[str, float | Tensor]) -> None:
        """Add any of the sums over samples: `top1` and `top5` correct, `n_ok`, `n_failed`, `loss_sum`."""
        for name, value in sums.items():
            setattr(self, name, getattr(self, name) + value)

    def count(self, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        """Add the clips of one batch.

        Args:
            logits: (b, classes).
            labels: (b,).
            loss: (), the mean over the batch.
        """
        best = logits.topk(min(5, logits.shape[-1]), dim=-1).indices  # (b, 5)
        hits = best == labels[:, None]
        loss_sum = loss.detach().double() * len(labels)
        self.update({"top1": hits[:, 0].sum(), "top5": hits.sum(), "n_ok": len(labels), "loss_sum": loss_sum})

    def fail(self, videos: int) -> None:
        """Add videos that could not be read."""
        self.update({"n_failed": videos})

    def sums(self) -> dict[str, float]:
        """The sums over all ranks, as `update` takes them back."""
        with self.sync_context():
            return {name: getattr(self, name).item() for name in (*_COUNTS, "loss_sum")}

    def compute(self) -> dict[str, float | None]:
        """`loss`, `top1`, `top5` (None where there was no sample), `n_ok` and `n_failed` over all ranks."""
        n_ok, n_failed = int(self.n_ok), int(self.n_failed)
        samples = n_ok + n_failed
        return {
            "loss": float(self.loss_sum) / n_ok if n_ok else None,
            "top1": int(self.top1) / samples if samples else None,
            "top5": int(self.top5) / samples if samples else None,
            "n_ok": n_ok,
            "n_failed": n_failed,
        }
