import pytest
import torch
import torch.nn.functional as F

from ssmvid.mixers import LocalMamba
from ssmvid.scan import Grid, ScanPattern, padded_windows
from ssmvid_kernels.s6 import selective_scan

PATHS = ("thw+window2", "twh+window2+rev", "thw+window7", "thw+rev")
WINDOWS = ((2, "thw"), (2, "twh"), (7, "thw"), (1, "thw"))


@pytest.mark.parametrize("search", [False, True])
@pytest.mark.parametrize("grid", [Grid(1, 4, 6), Grid(2, 3, 5), Grid(1, 1, 1)])
def test_paths_in_one_call_are_the_paths_apart(grid, search):
    """As released: pad with zeros, cut into windows, scan zeros as well, put back, weight channels, sum."""
    torch.manual_seed(0)
    mixer = LocalMamba(8, pattern=ScanPattern.parse(PATHS), state_size=3, search=search)
    get = lambda key, i: mixer.get_parameter(key.format(i))
    for name, parameter in mixer.named_parameters():
        if "dt_proj" in name or "attn" in name:
            torch.nn.init.uniform_(parameter, -0.5, 1)
    tokens = torch.randn(2, grid.length, 8)
    x, z = mixer.in_proj(tokens).chunk(2, dim=-1)
    outputs = []
    for i, (name, (size, axes)) in enumerate(zip(PATHS, WINDOWS)):
        path = padded_windows(grid, size, axes)
        path = path.flip(0) if name.endswith("rev") else path
        read = torch.cat([x, torch.zeros(2, 1, 16)], dim=1)[:, path]  # -1 reads the zeros
        conv = F.conv1d(F.pad(read.mT, (3, 0)), get("conv1d_{}.weight", i), get("conv1d_{}.bias", i), groups=16)
        u = F.silu(conv).mT
        dt, B, C = F.linear(u, get("x_proj_{}.weight", i)).split([1, 3, 3], dim=-1)
        dt = F.softplus(F.linear(dt, get("dt_proj_{}.weight", i), get("dt_proj_{}.bias", i)))
        y = selective_scan(u, dt, -get("A_{}_log", i).exp(), B, C, get("D_{}", i), backend="reference").y
        y = torch.zeros_like(x).index_copy(1, path[path >= 0], y[:, path >= 0]) * F.silu(z)
        mean = mixer.attn.norm(y).mean(1, keepdim=True)
        outputs.append(y * mixer.attn.channel_select(F.gelu(mixer.attn.global_reduce(mean))).sigmoid())
    if search:
        outputs = [F.layer_norm(y, (16,)) * w for y, w in zip(outputs, mixer.weights.flatten().softmax(0))]
    torch.testing.assert_close(mixer(tokens, grid), mixer.out_proj(sum(outputs)), atol=1e-5, rtol=1e-5)


def test_channel_attention_over_all_tokens_neither_streams_nor_packs():
    with pytest.raises(ValueError, match="causal_frames must be None, got 2"):
        LocalMamba(8, pattern=ScanPattern.parse(PATHS, causal_frames=2))
    mixer = LocalMamba(8, pattern=ScanPattern.parse(PATHS), state_size=3)
    with pytest.raises(ValueError, match="got 2 grids: pass one"):
        mixer(torch.zeros(1, 8, 8), [Grid(1, 2, 2), Grid(1, 2, 2)])
