import pytest
import torch

from ssmvid import create_model
from ssmvid.scan import PATTERNS
from tests.backbones.families import TINY


def test_each_layer_has_its_own_orders():
    with torch.device("meta"):
        model = create_model("local_vim_tiny")
    assert [[str(order) for order in layer.mixer.pattern.orders] for layer in model.layers] == [
        list(orders) for orders in PATTERNS["local_vim"].orders
    ]


def test_rotary_positions_need_pairs_for_rows_and_columns():
    with pytest.raises(ValueError, match="dim must be a multiple of 4 for rotary positions, got 18"):
        create_model("local_vim_tiny", **TINY["local_vim_tiny"] | {"dim": 18})
