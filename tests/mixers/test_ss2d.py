import pytest
import torch
import torch.nn.functional as F

from ssmvid.mixers import SS2D
from ssmvid.scan import Grid, ScanPattern
from ssmvid_kernels.s6 import selective_scan

GRID = Grid(2, 3, 4)
CROSS = ("thw", "twh", "thw+rev", "twh+rev")


def make(names=CROSS, **options) -> SS2D:
    torch.manual_seed(0)
    mixer = SS2D(10, pattern=ScanPattern.parse(names), state_size=3, **options)
    torch.nn.init.uniform_(mixer.dt_projs_bias, -0.5, 1)  # steps of the order of one, or A would hardly be seen
    return mixer


@pytest.mark.parametrize("options", [{}, {"gated": True, "conv_bias": True}, {"expand": 1.0}])
@pytest.mark.parametrize("names", [CROSS, ("thw",), ("hwt+snake", "wth")])
def test_paths_in_one_call_are_the_paths_apart(names, options):
    """As the paper writes it: convolve each frame, permute, scan, permute back, sum."""
    mixer, tokens = make(names, **options), torch.randn(2, GRID.length, 10)
    x = mixer.in_proj(tokens)
    if mixer.gated:
        x, z = x.chunk(2, dim=-1)
    frames = x.unflatten(1, tuple(GRID)).flatten(0, 1).permute(0, 3, 1, 2)
    x = F.silu(mixer.conv2d(frames)).permute(0, 2, 3, 1).reshape(x.shape)
    merged = torch.zeros_like(x)
    for i, order in enumerate(mixer.pattern.orders):
        path, back = order.indices(GRID), order.inverse(GRID)
        dt, B, C = F.linear(x[:, path], mixer.x_proj_weight[i]).split([1, 3, 3], dim=-1)
        dt = F.softplus(F.linear(dt, mixer.dt_projs_weight[i], mixer.dt_projs_bias[i]))
        A = -mixer.A_logs[i].exp()
        merged = merged + selective_scan(x[:, path], dt, A, B, C, mixer.Ds[i], backend="reference").y[:, back]
    y = mixer.out_norm(merged)
    expected = mixer.out_proj(y * F.silu(z) if mixer.gated else y)
    torch.testing.assert_close(mixer(tokens, GRID), expected, atol=1e-6, rtol=1e-5)


def test_what_sets_the_dynamics_is_not_decayed():
    mixer = make()
    assert mixer.no_weight_decay() == {"A_logs", "Ds", "dt_projs_bias"}
    assert mixer.no_weight_decay() <= dict(mixer.named_parameters()).keys()


def test_empty_input():
    assert make()(torch.randn(0, GRID.length, 10), GRID).shape == (0, GRID.length, 10)
