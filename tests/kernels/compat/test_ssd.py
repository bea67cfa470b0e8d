"""mamba_chunk_scan_combined and mamba_split_conv1d_scan_combined against every sequence scanned alone, in float64.

What is marked so has the shapes and tolerances of github.com/state-spaces/mamba, tests/ops/triton/test_ssd.py, 2.3.2.
"""

from itertools import accumulate, pairwise

import pytest
import torch
import torch.nn.functional as F

from ssmvid_kernels import ssd_scan
from ssmvid_kernels.compat import mamba_chunk_scan_combined, mamba_split_conv1d_scan_combined

LENGTHS = (7, 1, 12)  # of the sequences of a row
SEQ_IDX = torch.repeat_interleave(torch.arange(3), torch.tensor(LENGTHS)).int()
slow = pytest.mark.slow


def make(b=2, l=20, heads=4, p=6, g=2, n=5, dtype=torch.float32):
    torch.manual_seed(0)
    draw = lambda *shape: torch.randn(shape, dtype=dtype)
    return {
        "x": draw(b, l, heads, p),
        "dt": draw(b, l, heads),
        "A": -torch.rand(heads) - 0.1,
        "B": draw(b, l, g, n),
        "C": draw(b, l, g, n),
        "D": torch.randn(heads, p),
        "z": draw(b, l, heads, p),
        "dt_bias": torch.rand(heads),
        "initial_states": torch.randn(b, heads, p, n),
    }


def alone(x, dt, A, B, C, D=None, z=None, dt_bias=None, initial_states=None, seq_idx=None, **options):
    """y, the state after each row, and the state after each sequence; the first of a row goes on from its state."""
    ys, lasts, states = [], [], []
    for row in range(x.shape[0]):
        sizes = [x.shape[1]] if seq_idx is None else seq_idx[row].unique_consecutive(return_counts=True)[1].tolist()
        for i, (start, end) in enumerate(pairwise([0, *accumulate(sizes)])):
            part = lambda t: None if t is None else t[row : row + 1, start:end]  # noqa: B023
            h0 = None if i or initial_states is None else initial_states[row : row + 1]
            y, h = ssd_scan(
                part(x), part(dt), A, part(B), part(C), D, z=part(z), dt_bias=dt_bias, h0=h0, backend="reference",
                **options,
            )  # fmt: skip
            ys.append(y)
            states.append(h)
        lasts.append(h)
    return torch.cat(ys, 1).view(x.shape), torch.cat(lasts), torch.cat(states)


def assert_same(run, reference, tensors, rtol=1e-3, atol=1e-4):
    """Every output, and the gradients of a random mix of them all."""
    results = []
    for function, dtype in ((run, None), (reference, torch.float64)):
        leaves = {name: t.detach().to(dtype or t.dtype).requires_grad_() for name, t in tensors.items()}
        out, g = function(**leaves), torch.Generator().manual_seed(1)
        sum((y * torch.randn(y.shape, generator=g, dtype=torch.float64).to(y.dtype)).sum() for y in out).backward()
        results.append([*out, *(leaf.grad for leaf in leaves.values())])
    for got, expected in zip(*results):
        torch.testing.assert_close(got, expected.to(got.dtype), rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("dtype", "tolerances"),
    [(torch.float32, (1e-3, 1e-4)), (torch.bfloat16, (3e-2, 5e-2)), (torch.float16, (5e-3, 2e-2))],
)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("limit", [{}, {"dt_limit": (0.2, 0.9)}])
def test_outputs_states_and_gradients(limit, packed, dtype, tolerances):
    seq_idx = torch.stack([SEQ_IDX, torch.arange(20).int() // 10]) if packed else None
    run = lambda **t: mamba_chunk_scan_combined(
        **t, chunk_size=16, seq_idx=seq_idx, dt_softplus=True, return_final_states=True, **limit
    )
    reference = lambda **t: alone(**t, seq_idx=seq_idx, dt_softplus=True, **limit)[:2]
    assert_same(run, reference, make(dtype=dtype), *tolerances)


@pytest.mark.parametrize("without", ["D", "z", "dt_bias", "initial_states"])
def test_each_optional_argument(without):
    tensors = {name: tensor for name, tensor in make().items() if name != without}
    if without != "D":
        tensors["D"] = tensors["D"][:, 0]  # a head
    run = lambda **t: (mamba_chunk_scan_combined(**t, chunk_size=16),)
    assert_same(run, lambda **t: alone(**t, dt_limit=(0, float("inf")))[:1], tensors)


def test_states_of_packed_sequences():
    tensors, borders = make(b=1), torch.tensor([0, *accumulate(LENGTHS)])
    run = lambda **t: mamba_chunk_scan_combined(
        **t, chunk_size=16, seq_idx=SEQ_IDX[None], cu_seqlens=borders, return_final_states=True,
        return_varlen_states=True, dt_softplus=True,
    )  # fmt: skip
    assert_same(run, lambda **t: alone(**t, seq_idx=SEQ_IDX[None], dt_softplus=True), tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("g", [1, 2, 8, 64])
@pytest.mark.parametrize(("sequences", "heads"), [(5, 64), pytest.param(300, 64, marks=slow)])
def test_states_of_packed_sequences_have_the_shapes_and_tolerances_of_the_source(sequences, heads, g, dtype):
    torch.manual_seed(64 + g)
    lengths = torch.randint(1, 200, (sequences,)).tolist()
    borders, l = torch.tensor([0, *accumulate(lengths)]), sum(lengths)
    seq_idx = torch.repeat_interleave(torch.arange(sequences), torch.tensor(lengths)).int()[None]
    x, B = torch.randn(1, l, heads, 64, dtype=dtype), torch.randn(1, l, g, 32, dtype=dtype) / 5
    A, dt = -0.1 * torch.rand(heads), F.softplus(torch.randn(1, l, heads) - 4)
    _, states = mamba_chunk_scan_combined(
        x, dt, A, B, B, 64, seq_idx=seq_idx, cu_seqlens=borders, return_varlen_states=True
    )
    for i, (start, end) in enumerate(pairwise(borders.tolist())):
        after = (dt[0, start:end].double() * A).flip(0).cumsum(0).flip(0) - dt[0, start:end].double() * A
        scale = after.exp() * dt[0, start:end].double()
        gate = B[0, start:end].double().repeat_interleave(heads // g, 1)
        expected = torch.einsum("lh,lhp,lhn->hpn", scale, x[0, start:end].double(), gate)
        torch.testing.assert_close(states[i], expected.float(), rtol=1e-2, atol=3e-3)


def block(heads=4, p=6, g=2, n=5, mlp=3, b=2, l=20, out=7):
    """The tensors of a Mamba-2 block."""
    torch.manual_seed(0)
    width = heads * p + 2 * g * n
    return {
        "zxbcdt": torch.randn(b, l, 2 * mlp + heads * p + width + heads),
        "conv1d_weight": torch.randn(width, 4),
        "conv1d_bias": torch.randn(width),
        "dt_bias": torch.rand(heads),
        "A": -torch.rand(heads) - 0.1,
        "D": torch.randn(heads),
        "rmsnorm_weight": torch.randn(heads * p),
        "outproj_weight": torch.randn(out, mlp + heads * p),
        "outproj_bias": torch.randn(out),
        "initial_states": torch.randn(b, heads, p, n),
    }


def define_block(
    zxbcdt, conv1d_weight, conv1d_bias, dt_bias, A, D, rmsnorm_weight=None, outproj_weight=None, outproj_bias=None,
    initial_states=None, *, seq_idx=None, mlp=3, before=True, heads=4, p=6, g=2,
):  # fmt: skip
    width, d = conv1d_weight.shape[0], heads * p
    left, right, z, xBC, dt = zxbcdt.split([mlp, mlp, d, width, heads], -1)
    rows = []
    for row in range(len(xBC)):
        sizes = [xBC.shape[1]] if seq_idx is None else seq_idx[row].unique_consecutive(return_counts=True)[1].tolist()
        for part in xBC[row].split(sizes):
            padded = F.pad(part.mT[None], (3, 0))
            rows.append(F.silu(F.conv1d(padded, conv1d_weight[:, None], conv1d_bias, groups=width))[0].mT)
    xBC = torch.cat(rows).view(xBC.shape)
    x, B, C = xBC.split([d, (width - d) // 2, (width - d) // 2], -1)
    by_head, by_group = (lambda t: t.unflatten(-1, (heads, p))), (lambda t: t.unflatten(-1, (g, -1)))
    y, h, _ = alone(
        by_head(x), dt, A, by_group(B), by_group(C), D, None, dt_bias, initial_states, seq_idx, dt_softplus=True
    )
    y, gate = y.flatten(2), F.silu(z)
    if rmsnorm_weight is None:
        y = y * gate
    else:
        s = y if before else y * gate
        s = s.unflatten(-1, (g, -1))
        s = (s / (s.square().mean(-1, keepdim=True) + 1e-6).sqrt()).flatten(2) * rmsnorm_weight
        y = s * gate if before else s
    y = torch.cat([F.silu(left) * right, y], -1)
    return (y if outproj_weight is None else F.linear(y, outproj_weight, outproj_bias)), h


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("mlp", [0, 3])
@pytest.mark.parametrize("bare", [False, True])
def test_the_inside_of_a_block(bare, mlp, before, packed):
    tensors, seq_idx = block(mlp=mlp), SEQ_IDX.expand(2, -1) if packed else None
    if bare:
        for name in ("rmsnorm_weight", "outproj_weight", "outproj_bias", "initial_states"):
            del tensors[name]
    run = lambda **t: mamba_split_conv1d_scan_combined(
        **t, chunk_size=8, headdim=6, ngroups=2, norm_before_gate=before, seq_idx=seq_idx, return_final_states=True
    )
    assert_same(run, lambda **t: define_block(**t, seq_idx=seq_idx, mlp=mlp, before=before), tensors)


def test_what_has_no_meaning_here_is_named():
    tensors, row = make(b=1), SEQ_IDX[None]
    run = lambda **options: mamba_chunk_scan_combined(**tensors, chunk_size=16, **options)
    with pytest.raises(ValueError, match=r"state_dtype must be None or torch.float32, got torch.bfloat16"):
        run(state_dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"with initial_states every row of seq_idx must start with 0"):
        run(seq_idx=row + 1)
    with pytest.raises(ValueError, match=r"return_varlen_states needs cu_seqlens and the seq_idx"):
        run(return_varlen_states=True, seq_idx=row)
    with pytest.raises(ValueError, match=r"cu_seqlens borders 1 sequences, seq_idx numbers 3"):
        run(return_varlen_states=True, seq_idx=row, cu_seqlens=torch.tensor([0, 20]))
    run = lambda **changed: mamba_split_conv1d_scan_combined(**block() | changed, chunk_size=8, ngroups=2)
    with pytest.raises(ValueError, match=r"D \(heads,\) = \(4,\) needs headdim, got None"):
        run()
    with pytest.raises(ValueError, match=r"outproj_bias needs outproj_weight, got None"):
        run(headdim=6, outproj_weight=None)
    with pytest.raises(ValueError, match=r"zxbcdt must be .*heads = 4, d = 24, ngroups = 2"):
        run(headdim=6, zxbcdt=torch.zeros(2, 20, 60))
    with pytest.raises(NotImplementedError, match=r"activation must be None, 'silu' or 'swish', got 'gelu'"):
        run(headdim=6, activation="gelu")
