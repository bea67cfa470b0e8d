"""Clip classification."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ssmvid.backbones.base import Backbone
from ssmvid.memory import Memory
from ssmvid.parallel import refuse_context


class Classify(nn.Module):
    """One label a clip, cross entropy.

    Args:
        model: frames (b, c, T, H, W) to logits (b, classes).
        label_smoothing: share of the target spread over all classes, in [0, 1); training only.
        memory: what the backward keeps of a backbone; None: all, of any model.
    """

    def __init__(self, model: nn.Module, *, label_smoothing: float, memory: Memory | None = None) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"Classify: label_smoothing must be in [0, 1), got {label_smoothing}")
        self.model = model
        self.label_smoothing = label_smoothing
        self.memory = memory

    def forward(self, frames: Tensor, labels: Tensor) -> dict[str, Any]:
        """The mean loss over the batch, and the logits it was computed from.

        Args:
            frames: (b, c, T, H, W), float; inside a context each rank reads its own stretch of them.
            labels: (b,), int64, in [0, classes).

        Returns: {"loss": (), "logits": (b, classes)}; of a backbone also "tokens", how many the frames are, with a
            memory also "memory", its policy and cut.
        """
        if isinstance(self.model, Backbone):
            frames = self.model.stretch(frames)
        else:
            refuse_context(type(self.model).__name__)
        logits = self.model(frames) if self.memory is None else self.memory.logits(self.model, frames)
        smoothing = self.label_smoothing if self.training else 0.0
        # A bf16 log-sum-exp loses the digits a small loss is made of.
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
        return {"loss": loss, "logits": logits} | self._told(frames)

    def _told(self, frames: Tensor) -> dict[str, int | str]:
        """What a log says of the frames beside the loss."""
        if not isinstance(self.model, Backbone):
            return {}
        told: dict[str, int | str] = {"tokens": len(frames) * self.model.patch_embed.check(frames).length}
        return told if self.memory is None else told | {"memory": self.memory.describe(self.model, frames)}
