"""Every connector at a size for tests, and what each is to have."""

from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from ssmvid.scan import Grid

CONFIGS = Path(__file__).parents[2] / "hydra_configs"
NAMES = sorted(path.stem for path in (CONFIGS / "connector").glob("*.yaml"))
DIM, LLM_DIM = 16, 24
GRID = Grid(5, 3, 4)  # no multiple of any stride
SMALL = {
    "mambamia": {"frame": 12, "patches": 4, "state_size": 4, "head_dim": 8, "min_frames": 3},
    "perceiver": {"head_dim": 8},
    "tome": {"reducer": {"keep": 5}},
}


def make(name, **options):
    torch.manual_seed(0)
    options = SMALL.get(name, {}) | options
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose(f"connector/{name}")
    return instantiate(cfg.connector, dim=DIM, llm_dim=LLM_DIM, **options).eval()


def lively(connector, steps=(-0.5, 1.0)):
    """With step sizes of the order of one and no zero weights: everything is seen. `steps=None`: a long memory."""
    for key, parameter in connector.named_parameters():
        if steps is not None and ("dt_bias" in key or "dt_proj" in key):
            torch.nn.init.uniform_(parameter, *steps)
        elif key.endswith("out_proj.weight"):
            torch.nn.init.normal_(parameter, std=0.3)
    return connector


def tokens_for(grid, batch=1, dtype=torch.float32):
    return torch.randn(batch, grid.length, DIM, dtype=dtype)
