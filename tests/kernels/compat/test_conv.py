"""causal_conv1d_fn and causal_conv1d_update against torch's convolution in float64.

Shapes and tolerances are those of github.com/Dao-AILab/causal-conv1d, tests/test_causal_conv1d.py, 1.6.1.
"""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from ssmvid_kernels.compat import causal_conv1d_fn, causal_conv1d_update, causal_conv1d_varlen_states

TOLERANCES = {torch.float32: (3e-4, 1e-3), torch.float16: (3e-3, 5e-3), torch.bfloat16: (1e-2, 5e-2)}
slow = lambda *values: [pytest.param(value, marks=pytest.mark.slow) for value in values]
LENGTHS = [1, 2, 130, *slow(8, 16, 32, 64, 128, 129, 151, 256, 372, 512, 784, 1024, 1134, 2048, 4096)]
DIMS = [64, *slow(4096 + 32)]
each_dtype = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
each_width = pytest.mark.parametrize("width", [2, 3, 4])
each_activation = pytest.mark.parametrize("activation", [None, "silu", "swish"])


def define(x, weight, bias, activation=None, initial_states=None):
    """y and the last width - 1 inputs, in float64."""
    x, weight, bias = x.double(), weight.double(), None if bias is None else bias.double()
    past = weight.shape[1] - 1
    seen = torch.cat([x.new_zeros(*x.shape[:2], past) if initial_states is None else initial_states.double(), x], -1)
    y = F.conv1d(seen, weight.unsqueeze(1), bias, groups=len(weight))
    return F.silu(y) if activation else y, seen[..., seen.shape[-1] - past :]


def make(d, l, width, dtype, channel_last, b=2):
    """Tensors of the source: x a slice of a wider one."""
    torch.manual_seed(0)
    wide = torch.randn(b, l, d + 160, dtype=dtype)[:, :, 96 : 96 + d]
    x = wide.mT if channel_last else torch.randn(b, d + 160, l, dtype=dtype)[:, 96 : 96 + d]
    return x, torch.randn(d, width), torch.randn(d), torch.randn(b, width - 1, d, dtype=dtype).mT


@each_dtype
@each_width
@each_activation
@pytest.mark.parametrize("channel_last", [False, True])
@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize("l", LENGTHS)
@pytest.mark.parametrize("d", DIMS)
def test_a_row(d, l, stateful, channel_last, activation, width, dtype):
    x, weight, bias, h0 = (t.detach().requires_grad_() for t in make(d, l, width, dtype, channel_last))
    leaves = (x, weight, bias, h0) if stateful else (x, weight)
    if stateful:
        got = causal_conv1d_fn(x, weight, bias, initial_states=h0, return_final_states=True, activation=activation)
        expected = define(x, weight, bias, activation, h0)
        assert torch.equal(got[1], expected[1].to(dtype))
    else:
        got = (causal_conv1d_fn(x, weight, activation=activation),)
        expected = define(x, weight, None, activation)[:1]
    assert_same(got, expected, leaves, dtype)


def assert_same(got, expected, leaves, dtype):
    """Every output, and the gradients of a random mix of them; fp32 parameters are held to 1e-3, as there."""
    close = lambda a, b, rtol, atol: torch.testing.assert_close(a, b.to(a.dtype), rtol=rtol, atol=atol)
    for a, b in zip(got, expected):
        close(a, b, *TOLERANCES[dtype])
    weights = [torch.randn_like(out) for out in got]
    grads = torch.autograd.grad(got, leaves, weights)
    wanted = torch.autograd.grad(expected, leaves, [weight.double() for weight in weights])
    for leaf, a, b in zip(leaves, grads, wanted):
        close(a, b, *(TOLERANCES[dtype] if leaf.dtype == dtype else (1e-3, 1e-3)))


@each_dtype
@each_width
@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("l", [8, 151, *slow(16, 32, 64, 128, 256, 372, 512, 784, 1024, 1134, 2048, 4096)])
@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("padded", [False, True])
def test_sequences_by_number_and_padding(padded, d, l, activation, width, dtype):
    x, weight, bias, _ = (t.detach().requires_grad_() for t in make(d, l, width, dtype, True, b=3))
    cuts = [sorted(torch.randperm(l - 1)[: row + 1].add(1).tolist()) for row in range(3)]
    borders = [[0, *row, l] for row in cuts]
    seq_idx = torch.stack([torch.bucketize(torch.arange(l), torch.tensor(row), right=True) for row in cuts]).int()
    expected = torch.stack([
        torch.cat([define(x[i : i + 1, :, s:e], weight, bias, activation)[0] for s, e in pairwise(row)], -1)[0]
        for i, row in enumerate(borders)
    ])  # fmt: skip
    if padded:
        seq_idx[seq_idx == seq_idx.amax(1, keepdim=True)] = -1
        expected = expected.masked_fill((seq_idx < 0).unsqueeze(1), 0.0)
    y = causal_conv1d_fn(x, weight, bias, seq_idx=seq_idx, activation=activation)
    assert_same((y,), (expected,), (x, weight, bias), dtype)


@each_dtype
@each_width
@pytest.mark.parametrize("l", [None, 1, 4, 5])
@pytest.mark.parametrize("ring", [False, True])
@pytest.mark.parametrize("rows", ["all", "gathered", "padded"])
@pytest.mark.parametrize("d", [48, *slow(2048, 2048 + 16, 4096)])
def test_an_update(d, rows, ring, l, width, dtype):
    torch.manual_seed(0)
    b, state_len = 8, int(torch.randint(max(width - 1, (l or 1) if ring else 1), width + 10, ()))
    x = torch.randn(b, l or 1, d, dtype=dtype).mT
    states = torch.randn(b if rows == "all" else 10 * b, state_len, d, dtype=dtype).mT
    weight, bias = torch.randn(d, width), torch.randn(d)
    indices = None if rows == "all" else torch.randperm(10 * b)[:b].int()
    if rows == "padded":
        indices[::2] = -1
    seen = torch.randint(0, 1024, (b,), dtype=torch.int32) if ring else None
    expected, expected_states = torch.zeros(b, d, l or 1, dtype=torch.float64), states.clone()
    for i in range(b):
        row = i if indices is None else int(indices[i])
        if row < 0:
            continue
        at = state_len if seen is None else int(seen[i])
        ordered = states[row] if seen is None else states[row].roll(-at, 1)  # oldest first
        h0 = ordered[:, state_len - width + 1 :]
        expected[i] = define(x[i : i + 1], weight, bias, "silu", h0[None])[0][0]
        after = torch.cat([ordered, x[i]], 1)[:, -state_len:]
        expected_states[row] = after if seen is None else after.roll(at + (l or 1), 1)
    token = x.squeeze(-1) if l is None else x
    y = causal_conv1d_update(token, states, weight, bias, "silu", cache_seqlens=seen, conv_state_indices=indices)
    assert torch.equal(states, expected_states)
    wanted = expected.to(dtype).squeeze(-1) if l is None else expected.to(dtype)
    torch.testing.assert_close(y, wanted, rtol=TOLERANCES[dtype][0], atol=TOLERANCES[dtype][1])
    if rows == "padded":
        assert not y[::2].any()


@each_dtype
@pytest.mark.parametrize("d", [2048, 2048 + 16, 4096])
def test_the_last_steps_of_packed_sequences(d, dtype):
    torch.manual_seed(0)
    lengths = torch.randint(1, 32, (100,))
    borders = F.pad(lengths.cumsum(0), (1, 0))
    x = torch.randn(int(borders[-1]), d, dtype=dtype)
    got = causal_conv1d_varlen_states(x, borders, 20)
    for i, clip in enumerate(x.split(lengths.tolist())):
        assert torch.equal(got[i], F.pad(clip.T, (20, 0))[:, -20:])


def test_final_states_are_written_where_asked():
    x, weight, _, h0 = make(8, 5, 4, torch.bfloat16, True)
    out = torch.empty(2, 8, 3, dtype=torch.bfloat16)
    _, h = causal_conv1d_fn(x, weight, initial_states=h0, return_final_states=True, final_states_out=out)
    assert h is out
    assert torch.equal(out, x[..., 2:])


def test_what_has_no_meaning_is_named():
    x, weight, _, h0 = make(8, 5, 4, torch.float32, True)
    seq_idx = torch.zeros(2, 5, dtype=torch.int32)
    with pytest.raises(NotImplementedError, match=r"activation must be None, 'silu' or 'swish', got 'gelu'"):
        causal_conv1d_fn(x, weight, activation="gelu")
    with pytest.raises(ValueError, match=r"seq_idx cannot come with initial_states or return_final_states"):
        causal_conv1d_fn(x, weight, seq_idx=seq_idx, initial_states=h0)
    with pytest.raises(ValueError, match=r"seq_idx must be \(b, l\) = \(2, 5\), got \(2, 4\)"):
        causal_conv1d_fn(x, weight, seq_idx=seq_idx[:, :4])
    with pytest.raises(ValueError, match=r"conv_state must be \(b, d, state_len\) = \(2, 8, 3\), got \(2, 8, 2\)"):
        causal_conv1d_update(x, h0[..., :2], weight)
