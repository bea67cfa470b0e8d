import pytest
import torch
import torch.nn.functional as F

from ssmvid.mixers import PlainMambaMixer
from ssmvid.scan import Grid, ScanPattern
from ssmvid_kernels.s6 import selective_scan

SNAKE = "thw+snake2d"
# Headings of `SNAKE` over two frames of 2 x 3: each frame starts afresh (0), then right (1), down (4), left (2).
FRAME = [0, 1, 1, 4, 2, 2]


def test_only_x_follows_the_path():
    """As released: dt, B and C come in the order the tokens lie in, B with the step's heading, dt's bias twice."""
    torch.manual_seed(0)
    grid, tokens = Grid(2, 2, 3), torch.randn(2, 12, 16)
    mixer = PlainMambaMixer(16, pattern=ScanPattern.parse([SNAKE]), state_size=3)
    torch.nn.init.uniform_(mixer.dt_proj.bias, -0.5, 1)
    torch.nn.init.normal_(mixer.direction_Bs)
    x, z = mixer.in_proj(tokens).chunk(2, dim=-1)
    frames = x.unflatten(1, (2, 2, 3)).flatten(0, 1).permute(0, 3, 1, 2)
    x = F.silu(F.conv2d(frames, mixer.conv2d.weight, mixer.conv2d.bias, padding=3, groups=32))
    x = x.permute(0, 2, 3, 1).unflatten(0, (2, 2)).flatten(1, 3)
    dt, B, C = mixer.x_proj(x).split([1, 3, 3], dim=-1)
    dt = F.softplus(mixer.dt_proj(dt) + mixer.dt_proj.bias)
    B = B + mixer.direction_Bs[torch.tensor(FRAME + FRAME)]
    path = torch.tensor([0, 1, 2, 5, 4, 3, 6, 7, 8, 11, 10, 9])
    scan = selective_scan(x[:, path], dt, -mixer.A_log.exp(), B, C, mixer.D, backend="reference")
    y = torch.empty_like(x)
    y[:, path] = scan.y
    torch.testing.assert_close(mixer(tokens, grid), mixer.out_proj(y * F.silu(z)), atol=1e-6, rtol=1e-5)
    assert mixer.no_weight_decay() <= dict(mixer.named_parameters()).keys()


@pytest.mark.parametrize(
    ("order", "headings"),
    [
        (SNAKE, FRAME),
        (f"{SNAKE}+rev", [0, 1, 1, 3, 2, 2]),
        ("twh+snake2d", [0, 4, 1, 3, 1, 4]),
        ("twh+snake2d+rev", [0, 3, 2, 4, 2, 3]),
        ("thw", [0, 1, 1, 0, 1, 1]),  # a jump to the next row starts afresh
    ],
)
def test_each_order_tells_b_its_own_headings(order, headings):
    """B is its heading's only, and dt next to nothing, so that a token's y counts the headings before it."""
    grid = Grid(1, 2, 3)
    mixer = PlainMambaMixer(4, pattern=ScanPattern.parse([order]), state_size=5).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.zero_()
        mixer.direction_Bs.copy_(torch.eye(5))
        mixer.A_log.fill_(-40)
        mixer.conv2d.bias.fill_(1)
        mixer.in_proj.bias.fill_(1)
        mixer.out_proj.weight[0, 0] = 1
        counts = []
        for state in range(5):  # C reads one state: the same at each token, as x is
            mixer.x_proj.weight.zero_()
            mixer.x_proj.weight[6 + state, 0] = 1
            counts.append(mixer(torch.zeros(1, 6, 4, dtype=torch.float64), grid)[0, :, 0])
    one = max(row.abs().max() for row in counts) / max(headings.count(i) for i in range(5))
    path = ScanPattern.parse([order]).orders[0].indices(grid)
    expected = F.one_hot(torch.tensor(headings), 5).cumsum(0).double()
    torch.testing.assert_close(torch.stack(counts, dim=1)[path] / one, expected)
