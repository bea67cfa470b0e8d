import pytest
import torch
import torch.nn.functional as F

from ssmvid.mixers import Mamba2
from ssmvid.scan import Grid, ScanPattern
from ssmvid_kernels import use_backend

GRID = Grid(3, 3, 2)


def make(names=("thw", "hwt+rev"), causal_frames=None, dim=12, head_dim=4, place="head"):
    torch.manual_seed(0)
    pattern = ScanPattern.parse(names, place=place, causal_frames=causal_frames)
    mixer = Mamba2(dim, pattern=pattern, state_size=3, head_dim=head_dim)
    with torch.no_grad():  # steps of the order of one, or A and dt would hardly be seen
        mixer.in_proj.weight.mul_(10)
        mixer.dt_bias.uniform_(-0.5, 1)
        mixer.D.normal_()
        mixer.norm.weight.uniform_(0.5, 2)
    return mixer


def published(tokens, walk, z, xBC, dt, conv, dt_bias, A, D, head_dim):
    """One path step by step, as Mamba-2's paper has it: its heads' outputs (b, l, inner)."""
    rows = walk.rows().long()
    x = F.pad(xBC[:, rows].mT, (3, 0))
    x = F.silu(F.conv1d(x, *conv, groups=x.shape[1])).mT
    dt, n = F.softplus(dt[:, rows] + dt_bias), 3
    x, B, C = x.split([x.shape[-1] - 2 * n, n, n], dim=-1)
    x = x.unflatten(-1, (-1, head_dim))
    h, y = 0, []
    for i in range(tokens.shape[1]):
        h = h * torch.exp(dt[:, i] * A)[..., None, None]
        h = h + torch.einsum("bh,bhp,bn->bhpn", dt[:, i], x[:, i], B[:, i])
        y.append(torch.einsum("bhpn,bn->bhp", h, C[:, i]) + D[:, None] * x[:, i])
    return torch.zeros_like(x).index_copy(1, rows, torch.stack(y, 1)).flatten(2)


@pytest.mark.parametrize("causal_frames", [None, 1, 2])
@pytest.mark.parametrize("names", [("thw",), ("thw", "hwt+rev"), ("thw+snake", "twh+rev", "wht")])
@pytest.mark.parametrize(("prefix", "place"), [(0, "head"), (2, "spread")])
def test_paths_in_one_call_are_the_published_recurrence_path_by_path(names, causal_frames, prefix, place):
    mixer = make(names, causal_frames, place=place)
    k, n, inner, heads = len(names), 3, 24, 6
    segments = 1 if causal_frames is None else -(-GRID.t // causal_frames)
    tokens = torch.randn(2, segments * prefix + GRID.length, 12)
    z, *paths, dt = mixer.in_proj(tokens).split([inner, *[inner // k + 2 * n] * k, heads], dim=-1)
    per_path = [t.chunk(k, -1) for t in (dt, mixer.dt_bias, -mixer.A_log.exp(), mixer.D)]
    weights, biases = mixer.conv1d.weight.chunk(k), mixer.conv1d.bias.chunk(k)
    walks = mixer.pattern.walks(GRID, prefix)
    ys = [
        published(tokens, walk, z, xBC, dt_i, conv, bias_i, A_i, D_i, 4)
        for walk, xBC, conv, dt_i, bias_i, A_i, D_i in zip(walks, paths, zip(weights, biases), *per_path)
    ]
    gated = torch.cat(ys, dim=-1) * F.silu(z)
    normed = gated * (gated.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * mixer.norm.weight
    torch.testing.assert_close(mixer(tokens, GRID), mixer.out_proj(normed), atol=1e-5, rtol=1e-4)


def test_keys_and_shapes_of_one_order_are_mamba_ssms():
    """mamba_ssm.Mamba2(d_model=64, d_state=16, headdim=32), its constructor read from its source."""
    mixer = Mamba2(64, pattern=ScanPattern.parse(["thw"]), state_size=16, head_dim=32)
    assert {key: tuple(value.shape) for key, value in mixer.state_dict().items()} == {
        "dt_bias": (4,),
        "A_log": (4,),
        "D": (4,),
        "in_proj.weight": (2 * 128 + 2 * 16 + 4, 64),
        "conv1d.weight": (128 + 2 * 16, 1, 4),
        "conv1d.bias": (128 + 2 * 16,),
        "norm.weight": (128,),
        "out_proj.weight": (64, 128),
    }


def test_orders_hold_no_parameters():
    assert make().load_state_dict(make(("thw+hilbert", "wth")).state_dict())


def test_every_parameter_and_the_tokens_get_a_gradient():
    mixer, tokens = make(), torch.randn(2, 1 + GRID.length, 12, requires_grad=True)
    mixer(tokens, GRID).square().sum().backward()
    for name, tensor in [("tokens", tokens), *mixer.named_parameters()]:
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
        assert tensor.grad.abs().max() > 0, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype):
    mixer, tokens = make().to(dtype), torch.randn(1, GRID.length, 12, dtype=dtype)
    y, exact = mixer(tokens, GRID), make().to(dtype).double()(tokens.double(), GRID)
    assert y.dtype == dtype
    eps = torch.finfo(dtype).eps * 8
    torch.testing.assert_close(y.double(), exact, atol=eps * exact.abs().max().item(), rtol=eps)


def test_under_autocast_the_state_stays_fp32():
    mixer, tokens = make(causal_frames=1), torch.randn(1, GRID.length, 12)
    exact, _ = mixer.step(tokens, GRID, mixer.init_state(1, GRID))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = mixer.step(tokens, GRID, mixer.init_state(1, GRID))
    assert [tensor.dtype for tensor in state] == [torch.float32] * 2
    torch.testing.assert_close(y.float(), exact, atol=0.05 * exact.abs().max().item(), rtol=0)


def test_backends_agree():
    mixer, tokens = make(), torch.randn(1, 1 + GRID.length, 12)
    results = []
    for backend in ("reference", "torch", "cpu"):
        with use_backend(backend), torch.no_grad():
            results.append(mixer(tokens, GRID))
    torch.testing.assert_close(results[1], results[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(results[2], results[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", [(0, GRID.length, 12), (1, 0, 12)])
def test_empty_input(shape):
    assert make()(torch.randn(shape), GRID if shape[1] else Grid(0, 3, 2)).shape == shape


def test_fresh_values_are_mamba_2s():
    mixer = Mamba2(256, pattern=ScanPattern.parse(["thw", "thw+rev"]))
    dt, A = F.softplus(mixer.dt_bias.detach()), mixer.A_log.detach().exp()
    assert dt.min() >= 1e-3 * 0.999
    assert dt.max() <= 1e-1 * 1.001
    assert 1 <= A.min() < A.max() <= 16
    assert (mixer.D == 1).all()


def test_what_sets_the_dynamics_is_not_decayed():
    assert make().no_weight_decay() == {"A_log", "D", "dt_bias"} <= dict(make().named_parameters()).keys()


@pytest.mark.parametrize(
    ("names", "message"), [([], "at least one scan order"), (["thw"] * 4, r"4 scan orders and heads of 4 .* of 16")]
)
def test_orders_that_do_not_fit_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        make(names)
