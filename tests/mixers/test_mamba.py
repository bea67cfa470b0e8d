import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssmvid.mixers import Mamba
from ssmvid.scan import Grid, ScanPattern
from ssmvid_kernels import use_backend
from ssmvid_kernels.s6 import selective_scan
from ssmvid_kernels.walk import Walk

GRID = Grid(2, 3, 2)


def make(names=("thw", "thw+rev"), merge="sum", dim=10, place="head", shared=False) -> Mamba:
    torch.manual_seed(0)
    mixer = Mamba(dim, pattern=ScanPattern.parse(names, merge, place), state_size=3, shared=shared)
    for name, parameter in mixer.named_parameters():
        if "dt_proj" in name:  # steps of the order of one, or A and dt would hardly be seen
            torch.nn.init.uniform_(parameter, -0.5, 1)
    return mixer


def one_path(mixer: Mamba, x: Tensor, walk: Walk, suffix: str) -> Tensor:
    """A path as the papers write it: permute, convolve, scan, permute back."""
    get = lambda key: mixer.get_parameter(key.format(suffix))
    rows = walk.rows().long()
    x = F.pad(x[:, rows].mT, (3, 0))
    x = F.silu(F.conv1d(x, get("conv1d{}.weight"), get("conv1d{}.bias"), groups=x.shape[1])).mT
    dt, B, C = F.linear(x, get("x_proj{}.weight")).split(mixer.sizes, dim=-1)
    dt = F.softplus(F.linear(dt, get("dt_proj{}.weight"), get("dt_proj{}.bias")))
    y = selective_scan(x, dt, -get("A{}_log").exp(), B, C, get("D{}"), backend="reference").y
    return torch.zeros_like(y).index_copy(1, rows, y)


@pytest.mark.parametrize("merge", ["sum", "mean"])
@pytest.mark.parametrize("prefix", [0, 1, 2])
@pytest.mark.parametrize(
    "names",
    [
        ("thw",),
        ("thw", "thw+rev"),
        ("thw+snake", "hwt+snake+rev"),
        ("thw", "thw+rev", "hwt"),
        ("thw", "wth", "thw+rev", "wth+rev"),
    ],
)
@pytest.mark.parametrize("place", ["head", "middle", "spread"])
def test_paths_in_one_call_are_the_paths_apart(names, prefix, merge, place):
    mixer = make(names, merge, place=place)
    tokens = torch.randn(2, prefix + GRID.length, 10)
    x, z = mixer.in_proj(tokens).chunk(2, dim=-1)
    suffixes = {1: ("",), 2: ("", "_b"), 3: ("", "_b", "_s"), 4: ("_0", "_1", "_2", "_3")}[len(names)]
    paths = [one_path(mixer, x, walk, suffix) for walk, suffix in zip(mixer.pattern.walks(GRID, prefix), suffixes)]
    merged = torch.stack(paths).sum(0) if merge == "sum" else torch.stack(paths).mean(0)
    torch.testing.assert_close(mixer(tokens, GRID), mixer.out_proj(merged * F.silu(z)), atol=1e-6, rtol=1e-5)


def test_shared_paths_differ_in_A_only():
    """v1: the convolution runs forward for both; a mixer of two sets, the second a copy but for A, is v1 without it."""
    v1 = make(shared=True)
    assert set(dict(v1.named_parameters())) == {
        "in_proj.weight", "conv1d.weight", "conv1d.bias", "x_proj.weight", "dt_proj.weight", "dt_proj.bias",
        "A_log", "A_b_log", "D", "out_proj.weight",
    }  # fmt: skip
    torch.nn.init.normal_(v1.A_b_log)
    tokens = torch.randn(2, 1 + GRID.length, 10)
    x, z = v1.in_proj(tokens).chunk(2, dim=-1)
    x = F.silu(F.conv1d(F.pad(x.mT, (3, 0)), v1.conv1d.weight, v1.conv1d.bias, groups=20)).mT
    dt, B, C = v1.x_proj(x).split(v1.sizes, dim=-1)
    dt = F.softplus(v1.dt_proj(dt))
    forward = selective_scan(x, dt, -v1.A_log.exp(), B, C, v1.D, backend="reference").y
    backward = selective_scan(
        x.flip(1), dt.flip(1), -v1.A_b_log.exp(), B.flip(1), C.flip(1), v1.D, backend="reference"
    ).y.flip(1)
    torch.testing.assert_close(v1(tokens, GRID), v1.out_proj((forward + backward) * F.silu(z)), atol=1e-6, rtol=1e-5)


def test_orders_hold_no_parameters():
    assert {key: value.shape for key, value in make().state_dict().items()} == {
        key: value.shape for key, value in make(("hwt", "wth+snake")).state_dict().items()
    }


def test_every_parameter_and_the_tokens_get_a_gradient():
    mixer, tokens = make(), torch.randn(2, 1 + GRID.length, 10, requires_grad=True)
    mixer(tokens, GRID).square().sum().backward()
    for name, tensor in [("tokens", tokens), *mixer.named_parameters()]:
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
        assert tensor.grad.abs().max() > 0, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype):
    mixer, tokens = make().to(dtype), torch.randn(1, GRID.length, 10, dtype=dtype)
    y = mixer(tokens, GRID)
    assert y.dtype == dtype
    exact = make().double()(tokens.double(), GRID)
    torch.testing.assert_close(y.double(), exact, atol=torch.finfo(dtype).eps * 4, rtol=torch.finfo(dtype).eps * 4)


def test_backends_agree():
    mixer, tokens = make(), torch.randn(1, 1 + GRID.length, 10)
    results = []
    for backend in ("reference", "torch", "cpu"):
        with use_backend(backend), torch.no_grad():
            results.append(mixer(tokens, GRID))
    torch.testing.assert_close(results[1], results[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(results[2], results[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(0, 1 + GRID.length, 10), (1, 0, 10)])
def test_empty_input(shape):
    grid = GRID if shape[1] else Grid(0, 3, 2)
    assert make()(torch.randn(shape), grid).shape == shape


def test_fresh_values_are_mambas():
    mixer = Mamba(40, pattern=ScanPattern.parse(["thw", "thw+rev"]))
    for suffix in ("", "_b"):
        get = lambda key, suffix=suffix: mixer.get_parameter(key.format(suffix)).detach()
        dt = F.softplus(get("dt_proj{}.bias"))
        assert dt.min() >= 1e-3 * 0.999
        assert dt.max() <= 1e-1 * 1.001
        assert get("dt_proj{}.weight").abs().max() <= 3**-0.5  # rank of dt: ceil(40 / 16)
        torch.testing.assert_close(get("A{}_log").exp(), torch.arange(1.0, 17).expand(80, 16))
        assert (get("D{}") == 1).all()


def test_what_sets_the_dynamics_is_not_decayed():
    mixer = make()
    assert mixer.no_weight_decay() == {
        "A_log", "A_b_log", "D", "D_b", "dt_proj.bias", "dt_proj_b.bias"
    }  # fmt: skip
    assert mixer.no_weight_decay() <= dict(mixer.named_parameters()).keys()


def test_a_pattern_without_orders_is_refused():
    with pytest.raises(ValueError, match="at least one scan order, got none"):
        make([])
