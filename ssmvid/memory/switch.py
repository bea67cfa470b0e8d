"""The switch of a training run."""

from __future__ import annotations

from torch import Tensor, nn

from ssmvid.backbones.base import Backbone
from ssmvid.memory.budget import plan
from ssmvid.memory.cells import POLICIES, Cells
from ssmvid.memory.chunks import refuse_chunks
from ssmvid.memory.costs import frames_of_segment
from ssmvid.memory.forward import run


class Memory:
    """Logits of a model, of whose activations the backward keeps as much as the policy says.

    Args:
        policy: 'off', 'every_layer', 'nested_sqrt' or 'multi_axis'.
        budget_gb: 10^9 bytes that 'multi_axis' may keep; None: as few as it can.
        offload: boundaries and states wait for the backward in the host's memory.

    Raises:
        ValueError: the policy is unknown, or a budget or offload says nothing to it.
    """

    def __init__(self, *, policy: str, budget_gb: float | None = None, offload: bool = False) -> None:
        if policy not in POLICIES:
            raise ValueError(f"memory: policy must be one of {', '.join(POLICIES)}, got {policy!r}")
        if budget_gb is not None and policy != "multi_axis":
            raise ValueError(f"memory: a budget is for policy 'multi_axis', got budget_gb={budget_gb} for {policy!r}")
        if offload and policy == "off":
            raise ValueError("memory: policy 'off' has no boundaries to offload: set offload=False")
        self.policy, self.budget_gb, self.offload = policy, budget_gb, offload
        self._cuts: dict[tuple[int, ...], Cells] = {}

    def logits(self, model: nn.Module, clip: Tensor) -> Tensor:
        """`model(clip)`: logits (b, classes) of (b, c, T, H, W); chunk by chunk from the mean over all tokens.

        Raises:
            ValueError: the model is no backbone of ssmvid; 'multi_axis' on one that is not causal in time, or a budget
                too small; what to do.
        """
        if not isinstance(model, Backbone):
            raise ValueError(f"memory: expected a backbone of ssmvid, got {type(model).__name__}: use memory=null")
        cells = self._cells(model, clip)
        if cells.segments is None:
            return run(model, clip, lambda x, at: model.forward_head(x), cells=cells, offload=self.offload)
        count = model.patch_embed.check(clip).length
        total = run(model, clip, lambda x, at: x.sum(1, keepdim=True), cells=cells, offload=self.offload)
        return model.forward_head(total / count)

    def describe(self, model: Backbone, clip: Tensor) -> str:
        """Policy and cut, 'multi_axis 4 x 128': groups of 4 layers on chunks of 128 segments."""
        segments = -(-clip.shape[2] // frames_of_segment(model))
        return f"{self.policy} {self._cells(model, clip).text(len(model.layers), segments)}"

    def _cells(self, model: Backbone, clip: Tensor) -> Cells:
        if self.policy != "multi_axis":
            return Cells.of(self.policy, len(model.layers))
        refuse_chunks(model)
        b, _, t, h, w = clip.shape
        if (b, t, h, w) not in self._cuts:
            budget = None if self.budget_gb is None else self.budget_gb * 1e9
            row = plan(model, (b, t, h, w), budget=budget)[self.policy]
            if row.cells is None:
                raise ValueError(row.refused)
            self._cuts[b, t, h, w] = row.cells
        return self._cuts[b, t, h, w]
