import pytest
import torch
import torch.nn.functional as F

from ssmvid.mixers import MambaVisionMixer
from ssmvid.scan import Grid, ScanPattern
from ssmvid_kernels.s6 import selective_scan

GRID = Grid(2, 2, 3)


def make(names) -> MambaVisionMixer:
    torch.manual_seed(0)
    mixer = MambaVisionMixer(12, pattern=ScanPattern.parse(names, "mean"), state_size=3)
    torch.nn.init.uniform_(mixer.dt_proj.bias, -0.5, 1)
    return mixer


@pytest.mark.parametrize("names", [("thw",), ("thw", "hwt+rev")])
def test_one_half_is_scanned_the_other_goes_around(names):
    """As the paper writes it, with the bias of dt added twice; orders share all parameters, their mean is taken."""
    mixer, tokens = make(names), torch.randn(2, GRID.length, 12)
    x, z = mixer.in_proj(tokens).chunk(2, dim=-1)
    same = lambda x, conv: F.silu(F.conv1d(F.pad(x.mT, (1, 1)), conv.weight, groups=6)).mT
    x, z = same(x, mixer.conv1d_x), same(z, mixer.conv1d_z)
    dt, B, C = mixer.x_proj(x).split([1, 3, 3], dim=-1)
    dt = F.softplus(mixer.dt_proj(dt) + mixer.dt_proj.bias)
    outputs = []
    for order in mixer.pattern.orders:
        path, back = order.indices(GRID), order.inverse(GRID)
        scan = selective_scan(
            x[:, path], dt[:, path], -mixer.A_log.exp(), B[:, path], C[:, path], mixer.D, backend="reference"
        )
        outputs.append(scan.y[:, back])
    expected = mixer.out_proj(torch.cat([torch.stack(outputs).mean(0), z], dim=-1))
    torch.testing.assert_close(mixer(tokens, GRID), expected, atol=1e-6, rtol=1e-5)
    assert mixer.no_weight_decay() <= dict(mixer.named_parameters()).keys()
