from pathlib import Path

import numpy as np
import pytest
import torch

from ssmvid.mixers import Hydra
from ssmvid.scan import Grid, ScanPattern
from ssmvid_kernels import use_backend

BOTH = ("thw", "thw+rev")
GRID = Grid(1, 3, 7)


def make(dim=16, names=BOTH, **options) -> Hydra:
    torch.manual_seed(0)
    mixer = Hydra(dim, pattern=ScanPattern.parse(names), **{"state_size": 8, "head_dim": 8} | options)
    torch.nn.init.uniform_(mixer.dt_bias, -1, 1)
    return mixer


@pytest.mark.parametrize("backend", ["reference", "torch", "cpu"])
def test_outputs_are_the_released_codes(backend):
    with np.load(Path(__file__).parent / "goldens" / "hydra.npz") as file:
        golden = {key: torch.from_numpy(file[key]) for key in file.files}
    mixer = make()
    mixer.load_state_dict({key[3:]: value for key, value in golden.items() if key.startswith("sd/")}, strict=True)
    with use_backend(backend), torch.no_grad():
        torch.testing.assert_close(mixer(golden["in/x"], GRID), golden["out/y"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("dim", "count"), [(384, 1_010_468), (768, 3_825_224)])
def test_parameter_count_is_the_released_one(dim, count):
    with torch.device("meta"):
        mixer = Hydra(dim, pattern=ScanPattern.parse(BOTH))
    assert sum(parameter.numel() for parameter in mixer.parameters()) == count


@pytest.mark.parametrize("order", ["hwt", "thw+snake", "twh+flip_w"])
def test_another_path_is_the_tokens_in_its_order(order):
    """But for the convolution, which goes along the tokens as they lie: here it is none."""
    mixer, tokens = make(names=(order, f"{order}+rev")), torch.randn(2, 12, 16)
    grid, plain = Grid(2, 2, 3), make()
    path = ScanPattern.parse([order]).orders[0].indices(grid)
    with torch.no_grad():
        mixer.conv1d.weight.zero_()[:, :, 3] = 1
        plain.load_state_dict(mixer.state_dict())
        torch.testing.assert_close(mixer(tokens, grid)[:, path], plain(tokens[:, path], grid), atol=1e-6, rtol=1e-5)


def test_scans_leave_out_the_token_they_are_at():
    """Alone, a token is only its own skip."""
    mixer, token = make(), torch.randn(1, 1, 16)
    with torch.no_grad():
        before = mixer(token, Grid(1, 1, 1))
        mixer.in_proj.weight[-2 * len(mixer.D) :] += 1  # dt of both paths
        assert torch.equal(mixer(token, Grid(1, 1, 1)), before)


def test_every_parameter_gets_a_gradient_behind_prefix_tokens_as_well():
    mixer = make()
    y = mixer(torch.randn(2, 2 + GRID.length, 16), GRID)
    assert y.shape == (2, 23, 16)
    y.square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in mixer.parameters())
    assert mixer.no_weight_decay() <= dict(mixer.named_parameters()).keys()


def test_patterns_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="head_dim must divide expand \\* dim = 32, got 5"):
        make(head_dim=5)
    for pattern in (ScanPattern.parse(BOTH, "mean"), ScanPattern.parse(BOTH, causal_frames=1)):
        with pytest.raises(ValueError, match="causal_frames None and merge 'sum', got"):
            Hydra(16, pattern=pattern)
