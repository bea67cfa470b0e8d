"""What each policy would take, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass

from ssmvid.backbones.base import Backbone
from ssmvid.memory.cells import POLICIES, TOKENS, Cells, Costs
from ssmvid.memory.chunks import refuse_chunks
from ssmvid.memory.costs import measure_costs


@dataclass(frozen=True)
class Row:
    """One policy: its cut, and bytes of boundaries, states and the largest cell; or why it cannot be had."""

    policy: str
    cells: Cells | None
    boundaries: float = 0.0
    states: float = 0.0
    cell: float = 0.0
    refused: str = ""

    @property
    def total(self) -> float:
        """Bytes at the height of the backward, without parameters, their gradients and passing tensors."""
        return self.boundaries + self.states + self.cell


@dataclass(frozen=True)
class Plan:
    """The rows of all policies; printed, a table."""

    rows: tuple[Row, ...]
    layers: int
    segments: int

    def __getitem__(self, policy: str) -> Row:
        return next(row for row in self.rows if row.policy == policy)

    def __str__(self) -> str:
        lines = [f"{self.layers} layers x {self.segments} segments; GB kept for the backward"]
        lines += [f"{'policy':12}{'l x s':>14}{'boundaries':>12}{'states':>9}{'cell':>9}{'total':>9}"]
        for row in self.rows:
            if row.cells is None:
                lines.append(f"{row.policy:12}{row.refused}")
                continue
            cut = row.cells.text(self.layers, self.segments)
            numbers = [f"{number / 1e9:.3f}" for number in (row.boundaries, row.states, row.cell, row.total)]
            lines.append(f"{row.policy:12}{cut:>14}{numbers[0]:>12}" + "".join(f"{text:>9}" for text in numbers[1:]))
        return "\n".join(lines)


def plan(model: Backbone, size: tuple[int, int, int, int], *, budget: float | None = None) -> Plan:
    """What each policy would keep; `plan(...)["multi_axis"].cells` is the cut for `run`.

    Args:
        model: on the device and in the dtype it is to train in.
        size: b, T, H, W of the clip; of packed clips b = 1 and all their frames.
        budget: bytes that 'multi_axis' may keep; None: as few as it can.

    Raises:
        ValueError: the size does not fit the tubelet.
    """
    whole, by_token = measure_costs(model, size), measure_costs(model, size, tokens=TOKENS)
    chunked, why = None, ""
    try:
        refuse_chunks(model)
        chunked = measure_costs(model, size, streaming=True)
    except ValueError as error:
        why = str(error)
    return plan_from(whole, by_token, chunked, budget=budget, why=why)


def plan_from(
    whole: Costs, by_token: Costs, chunked: Costs | None, *, budget: float | None = None, why: str = ""
) -> Plan:
    """The plan from the costs of the layers on whole clips, on these `TOKENS` by `TOKENS`, and in chunks of segments.

    `chunked` None: cannot be had, and why.
    """
    rows = []
    for policy in POLICIES[:-1]:
        cells = Cells.of(policy, whole.layers)
        rows.append(Row(policy, cells, *cells.parts(whole if cells.tokens is None else by_token)))
    if chunked is not None:
        try:
            cells = Cells.multi_axis(chunked, budget)
            rows.append(Row(POLICIES[-1], cells, *cells.parts(chunked)))
        except ValueError as error:
            why = str(error)
    if len(rows) < len(POLICIES):
        rows.append(Row(POLICIES[-1], None, refused=why))
    return Plan(tuple(rows), whole.layers, whole.segments)
