from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from ssmvid import create_model
from ssmvid.backbones.local_vim_variants import ORDERS
from tests.backbones.families import TINY


def test_the_scan_config_holds_the_searched_orders():
    config = OmegaConf.load(Path(__file__).parents[2] / "hydra_configs/scan/local_vim.yaml")
    assert OmegaConf.to_object(config) == {"orders": ORDERS, "schedule": "alternate"}


def test_each_layer_has_its_own_orders():
    with torch.device("meta"):
        model = create_model("local_vim_tiny")
    assert [[str(order) for order in layer.mixer.pattern.orders] for layer in model.layers] == ORDERS


def test_rotary_positions_need_pairs_for_rows_and_columns():
    with pytest.raises(ValueError, match="dim must be a multiple of 4 for rotary positions, got 18"):
        create_model("local_vim_tiny", **TINY["local_vim_tiny"] | {"dim": 18})
