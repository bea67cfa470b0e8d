from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ssmvid.blocks import ModulatedBlock, add_and_norm
from ssmvid.mixers import Mamba
from ssmvid.scan import Grid, ScanPattern
from ssmvid_kernels import use_backend

DIM, GRID = 48, Grid(1, 6, 6)


def make(dim=DIM, **options) -> ModulatedBlock:
    mixer = Mamba(dim, pattern=ScanPattern.parse(["thw", "thw+rev"]))
    return ModulatedBlock(mixer, norm=nn.RMSNorm(dim, eps=1e-5), **options)


def embedded(time, weights):
    """The condition: time, in thousandths, as sines and cosines through an MLP."""
    rates = 10000 ** -(torch.arange(128) / 128)
    angles = 1000 * time[:, None] * rates
    hidden = F.linear(torch.cat([angles.cos(), angles.sin()], dim=1), *linear(weights, "t_embedder.mlp.0"))
    return F.linear(F.silu(hidden), *linear(weights, "t_embedder.mlp.2"))


def linear(weights, name):
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


@pytest.mark.parametrize("backend", ["reference", "torch", "cpu"])
def test_nine_blocks_give_the_output_of_the_released_model(backend):
    """ZigMa's bidirectional model of single pixels; what is around the blocks stands here."""
    with np.load(Path(__file__).parent / "goldens" / "zigma.npz") as file:
        golden = {key: torch.from_numpy(file[key]) for key in file.files if key != "cfg"}
    weights = {key[3:]: value for key, value in golden.items() if key.startswith("sd/")}
    blocks = nn.ModuleList(make() for _ in range(9))
    released = {key.removeprefix("blocks."): value for key, value in weights.items() if key.startswith("blocks.")}
    blocks.load_state_dict(released, strict=True)
    norm = nn.RMSNorm(DIM, eps=1e-5)
    norm.weight.data = weights["norm_f.weight"]
    tokens = F.conv2d(golden["in/x"], *linear(weights, "x_embedder.proj")).flatten(2).mT + weights["pos_embed"]
    condition, residual = embedded(golden["in/t"], weights), None
    with use_backend(backend), torch.no_grad():
        for block in blocks:
            tokens, residual = block(tokens, residual, GRID, condition)
        features = F.layer_norm(add_and_norm(tokens, residual, norm)[0], (DIM,), eps=1e-6)
        y = F.linear(features, *linear(weights, "final_layer.linear")).mT.unflatten(2, (6, 6))
    torch.testing.assert_close(y, golden["out/y"], atol=1e-5 * golden["out/y"].abs().max().item(), rtol=0)


def test_a_fresh_block_hands_on_what_it_normed():
    block, tokens = make(8), torch.randn(2, 12, 8)
    after, stream = block(tokens, None, Grid(1, 3, 4), torch.randn(2, 8))
    assert torch.equal(after, block.norm(tokens))
    assert torch.equal(stream, tokens)


def test_every_parameter_gets_a_gradient():
    block = make(8)
    nn.init.normal_(block.adaLN_modulation[1].weight)
    tokens, stream = block(torch.randn(2, 12, 8), torch.randn(2, 12, 8), Grid(1, 3, 4), torch.randn(2, 8))
    (tokens.square().sum() + stream.sum()).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in block.parameters())


def test_stochastic_depth_drops_what_comes_in():
    block, tokens = make(8, drop_path=0.5).train(), torch.ones(64, 4, 8)
    stream = block(tokens, torch.zeros(64, 4, 8), Grid(1, 2, 2), torch.zeros(64, 8))[1]
    assert set(stream.unique().tolist()) == {0.0, 2.0}
