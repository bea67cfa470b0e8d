"""How a stack over a sequence is cut into cells, each recomputed as a whole in the backward."""

from __future__ import annotations

import math
from dataclasses import dataclass

POLICIES = ("off", "every_layer", "nested_sqrt", "token_chunks", "multi_axis")
TOKENS = 1024  # at a time, inside a layer: enough for a matmul, and few beside a long clip's


@dataclass(frozen=True)
class Costs:
    """Bytes that a stack of L layers on S segments keeps; all of a batch together.

    Args:
        segments: S.
        boundary: of one segment between two layers: tokens and residual.
        state: of all layers between two chunks.
        inside: of one segment in each layer: what the layer's backward reads.
        fixed: in each layer, however short the sequence is.
        embed: of one segment before the first layer.
        finish: of one segment after the last.
    """

    segments: int
    boundary: float
    state: float
    inside: tuple[float, ...]
    fixed: tuple[float, ...]
    embed: float
    finish: float

    @property
    def layers(self) -> int:
        """L."""
        return len(self.inside)

    def cell(self, group: range, segments: int) -> float:
        """Of a group of layers on so many segments, with what is before the first and after the last."""
        ends = self.embed * (group.start == 0) + self.finish * (group.stop == self.layers)
        return segments * ends + sum(self.layer(i, segments) for i in group)

    def layer(self, index: int, segments: int) -> float:
        """Of one layer and so many segments."""
        return segments * self.inside[index] + self.fixed[index]


@dataclass(frozen=True)
class Cells:
    """A cut of L layers and S segments into cells of `layers` x `segments`, the last of either kind smaller.

    Args:
        layers: l, of a group; None: nothing is recomputed.
        segments: s, of a chunk; None: all of them, and no state is carried.
        nested: inside a group, once it is recomputed, each layer is recomputed again by itself.
        tokens: inside a nested layer, what takes each token by itself is recomputed so many at a time, and what stands
            before a scan once more; None: a layer is recomputed as one.
    """

    layers: int | None
    segments: int | None = None
    nested: bool = False
    tokens: int | None = None

    @classmethod
    def of(cls, policy: str, layers: int) -> Cells:
        """The cut of a policy that goes along the layers only.

        Raises:
            ValueError: it is none of these.
        """
        match policy:
            case "off":
                return cls(None)
            case "every_layer":
                return cls(1)
            case "nested_sqrt":
                return cls(math.isqrt(layers - 1) + 1, nested=True)  # rounded up
            case "token_chunks":
                return cls(math.isqrt(layers - 1) + 1, nested=True, tokens=TOKENS)
        raise ValueError(f"memory: policy along layers must be one of {', '.join(POLICIES[:-1])}, got {policy!r}")

    @classmethod
    def multi_axis(cls, costs: Costs, budget: float | None = None) -> Cells:
        """The cut with the fewest cells that fits the budget; None: the one that keeps least.

        With a = L S boundary, b = S state and c = inside of a layer, a cut keeps about a / l + b / s + c l s, least
        where the three are equal: l = a / x, s = b / x, x = (a b c)^(1/3). Whole numbers of groups, and layers that
        differ, move it a little; so s is solved for at each of the L values of l.

        Raises:
            ValueError: no cut fits the budget.

        Source: Lee et al. 2024 (Video-Ma2mba), arXiv:2411.19460, equations 4 to 11: there a = b = L S, c = 1.
        """
        cuts = [cls(l, s) for l in range(1, costs.layers + 1) for s in _segments(cls(l), costs, budget)]
        least = min(cuts, key=lambda cut: cut.bytes(costs))
        if budget is None:
            return least
        if least.bytes(costs) > budget:
            raise ValueError(
                f"memory: multi_axis keeps at least {least.bytes(costs):,.0f} bytes here, the budget is {budget:,.0f}: "
                "raise it, or make clip or batch smaller"
            )
        fitting = [cut for cut in cuts if cut.bytes(costs) <= budget]
        return min(fitting, key=lambda cut: (cut.count(costs), cut.bytes(costs)))

    def text(self, layers: int, segments: int) -> str:
        """'l x s', with whole numbers for None."""
        return f"{self.layers or layers} x {self.segments or segments}"

    def groups(self, layers: int) -> list[range]:
        """The layers of each group."""
        step = self.layers or layers
        return [range(first, min(first + step, layers)) for first in range(0, layers, step)]

    def chunks(self, segments: int) -> int:
        """Chunks of so many segments."""
        return 1 if self.segments is None else -(-segments // self.segments)

    def count(self, costs: Costs) -> int:
        """Cells."""
        return len(self.groups(costs.layers)) * self.chunks(costs.segments)

    def bytes(self, costs: Costs) -> float:
        """What the backward keeps at its height."""
        return sum(self.parts(costs))

    def parts(self, costs: Costs) -> tuple[float, float, float]:
        """Bytes of the boundaries between layers, of the states between chunks, and inside the cell that is recomputed.

        All at the height of the backward: it lets go of what the forward saved last first, so beside a cell there are
        the boundaries before it.
        """
        L, S = costs.layers, costs.segments
        groups, long = self.groups(L), min(self.segments or S, S)
        states = 0.0 if self.segments is None else self.chunks(S) * costs.state
        if self.layers is None:
            return 0.0, states, costs.cell(range(L), S)
        if self.nested:  # of the groups before and of the layers before in the group; the embedding of the first
            heights = [
                (
                    (place + i - group.start) * S * costs.boundary,
                    states,
                    costs.layer(i, S) + costs.embed * S * (not place),
                )
                for place, group in enumerate(groups)
                for i in group
            ]
        else:  # of all groups in the chunks before, and of those before in the last one
            others = (len(groups) - 1) * (S - long)
            heights = [
                ((others + place * long) * costs.boundary, states, costs.cell(group, long))
                for place, group in enumerate(groups)
            ]
        return max(heights, key=sum)


def _segments(cut: Cells, costs: Costs, budget: float | None) -> set[int]:
    """Whole numbers next to the s that keeps least, and to the largest within the budget, at the l of a cut.

    Both come from b / s + c s: least at sqrt(b / c), and m at the larger root of c s^2 - m s + b = 0.
    """
    groups = cut.groups(costs.layers)
    rest = (len(groups) - 1) * costs.segments * costs.boundary + max(costs.cell(group, 0) for group in groups)
    b, c = costs.segments * costs.state, max(costs.cell(group, 1) - costs.cell(group, 0) for group in groups)
    roots = [math.sqrt(b / c)]
    if budget is not None:
        m = budget - rest
        roots.append((m + math.sqrt(max(m * m - 4 * b * c, 0.0))) / (2 * c))
    S = costs.segments
    near = {min(max(math.floor(root) + up, 1), S) for root in roots for up in (0, 1)}
    counts = {count for s in near for count in (S // s, -(-S // s))}
    return {-(-S // count) for count in counts}  # of all that make so many chunks the shortest
