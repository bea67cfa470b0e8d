"""The named plans: what the papers say, and one config for each that a model can be trained with."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from ssmvid.scan import PATTERNS, Grid, ScanPlan

CONFIGS = Path(__file__).parents[2] / "hydra_configs" / "scan"
RELEASED = {"cross4", "local_vim", "mamba_nd", "raster", "snake4"}  # each the plan of one family
ROWS = torch.arange(15).view(3, 5)  # a frame


def paths(name: str, layer: int = 0, depth: int = 8) -> list[torch.Tensor]:
    return [order.indices(Grid(1, 3, 5)) for order in ScanPlan.named(name).by_layer(depth)[layer].orders]


def orders(name: str, depth: int) -> list[str]:
    return ["|".join(map(str, pattern.orders)) for pattern in ScanPlan.named(name).by_layer(depth)]


@pytest.mark.parametrize("name", PATTERNS)
def test_every_plan_gives_each_layer_distinct_orders(name):
    plan = ScanPlan.named(name)
    patterns = plan.by_layer(24)
    assert len(patterns) == 24
    for pattern in patterns:
        assert len(set(pattern.orders)) == len(pattern.orders)
        assert pattern.merge == plan.merge


def test_cross4_is_rows_columns_and_both_reversed():
    expected = [ROWS, ROWS.T, ROWS.flip(0, 1), ROWS.flip(0, 1).T]
    assert [path.tolist() for path in paths("cross4")] == [rows.flatten().tolist() for rows in expected]


def test_rot90_is_raster_order_of_the_rotated_grid():
    assert [path.tolist() for path in paths("rot90")] == [ROWS.rot90(j).flatten().tolist() for j in range(4)]


@pytest.mark.parametrize(("name", "snake"), [("zigzag8", True), ("sweep8", False)])
def test_eight_start_at_each_corner_by_rows_and_by_columns(name, snake):
    """Layer i: rows if i is even, else columns; from the corner that two flips bring to the top left."""
    for layer in range(16):
        rows = ROWS.flip([[], [1], [0], [0, 1]][layer % 8 // 2])
        lines = (rows.T if layer % 2 else rows).clone()
        if snake:
            lines[1::2] = lines[1::2].flip(1)
        assert [path.tolist() for path in paths(name, layer, 16)] == [lines.flatten().tolist()]


@pytest.mark.parametrize("name", ["hilbert8", "random8"])
def test_other_eights_take_eight_different_paths_in_turn(name):
    layers = [tuple(pattern.orders[0].indices(Grid(1, 4, 6)).tolist()) for pattern in ScanPlan.named(name).by_layer(16)]
    assert len(set(layers)) == 8
    assert layers[:8] == layers[8:]


def test_mamba_nd_takes_rows_columns_and_time_there_and_back():
    axes = ["thw", "twh", "wht"]
    assert orders("mamba_nd", 12) == [axes[i // 2 % 3] + "+rev" * (i % 2) for i in range(12)]


def test_spatiotemporal_v1_and_v2():
    assert orders("spatiotemporal_v1", 4) == ["thw|thw+rev"] * 2 + ["hwt|hwt+rev"] * 2
    assert orders("spatiotemporal_v2", 4) == ["thw|thw+rev|hwt|hwt+rev"] * 4


def test_plans_of_two_summed_orders_and_of_released_models_are_configs_and_nothing_else_is():
    usable = {
        name: {"orders": [list(pattern) for pattern in plan.orders], "schedule": plan.schedule}
        for name, plan in PATTERNS.items()
        if (plan.merge == "sum" and all(len(pattern) == 2 for pattern in plan.orders)) or name in RELEASED
    }
    configs = {}
    for path in CONFIGS.glob("*.yaml"):
        config = OmegaConf.to_container(OmegaConf.load(path))
        one = isinstance(config["orders"][0], str)
        configs[path.stem] = {**config, "orders": [config["orders"]] if one else config["orders"]}
    assert configs == usable


def test_local_vim_takes_four_of_the_candidates_in_each_layer():
    layers = [{str(order) for order in pattern.orders} for pattern in ScanPlan.named("local_vim").by_layer(20)]
    (candidates,) = ScanPlan.named("local8").orders
    assert all(len(layer) == 4 and layer < set(candidates) for layer in layers)
    assert layers[0] == {"thw", "twh+rev", "thw+window7", "thw+window7+rev"}
    assert layers[19] == {"twh", "twh+rev", "thw+window2", "thw+window2+rev"}


def test_a_misspelt_plan_is_told_the_nearest():
    with pytest.raises(ValueError, match=r"unknown scan plan 'cross_4': expected one of .*did you mean 'cross4'\?"):
        ScanPlan.named("cross_4")
