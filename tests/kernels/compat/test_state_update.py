"""selective_state_update against one step of the recurrence in float64.

Shapes and tolerances are those of github.com/state-spaces/mamba, tests/ops/triton/test_selective_state_update.py,
2.3.2. There the state is rounded before y is read from it; here y comes from the state in fp32.
"""

import pytest
import torch
import torch.nn.functional as F

from ssmvid_kernels.compat import selective_state_update

TOLERANCES = {torch.float32: (3e-4, 1e-3), torch.float16: (5e-3, 1e-2), torch.bfloat16: (1e-2, 5e-2)}
DIMS = [128, *(pytest.param(d, marks=pytest.mark.slow) for d in (2048, 2048 + 16, 4096))]


def define(state, x, dt, A, B, C, D, z, dt_bias):
    """y and the state of one step, all with a head axis, in float64."""
    state, x, dt, A, B, C, D, dt_bias = (t.double() for t in (state, x, dt, A, B, C, D, dt_bias))
    B, C = (t.repeat_interleave(x.shape[1] // t.shape[1], 1)[:, :, None] for t in (B, C))
    dt = F.softplus(dt + dt_bias)[..., None]
    state = torch.exp(dt * A) * state + dt * B * x[..., None]
    y = (state * C).sum(-1) + D * x
    return y if z is None else y * F.silu(z.double()), state


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("has_z", [False, True])
@pytest.mark.parametrize("heads", ["none", "own", "tied"])
@pytest.mark.parametrize("g", [1, 2])
@pytest.mark.parametrize("n", [16, 64])
@pytest.mark.parametrize("rows", ["all", "gathered", "padded"])
@pytest.mark.parametrize("dim", DIMS)
def test_shapes_and_tolerances_of_the_source(dim, rows, n, g, heads, has_z, dtype):
    torch.manual_seed(0)
    g = 1 if heads == "none" else g
    b, p = 4, dim if heads == "none" else 64
    each = (dim // p, p)
    draw = lambda *shape: torch.randn(shape, dtype=dtype)
    own = (lambda t: t[..., :1].expand_as(t)) if heads == "tied" else (lambda t: t)
    total = b if rows == "all" else 10 * b
    states, x, dt = draw(total, *each, n), draw(b, *each), own(draw(b, *each))
    A, D, dt_bias = own(own(-torch.rand(*each, n) - 1)), own(torch.randn(each)), own(torch.rand(each) - 4)
    B, C, z = torch.randn(b, g, n), torch.randn(b, g, n), draw(b, *each) if has_z else None
    indices = None if rows == "all" else torch.randperm(total)[:b].int()
    if rows == "padded":
        indices[::2] = -1
    valid = torch.arange(b) if indices is None else torch.arange(b)[indices >= 0]
    at = valid if indices is None else indices[valid].long()
    token = lambda t: None if t is None else t[valid]
    y_valid, after = define(states[at], *map(token, (x, dt)), A, B[valid], C[valid], D, token(z), dt_bias)
    expected, expected_states = torch.zeros(b, *each, dtype=dtype), states.clone()
    expected[valid], expected_states[at] = y_valid.to(dtype), after.to(dtype)

    drop = lambda t, axis: t.squeeze(axis) if heads == "none" and t is not None else t
    held = drop(states, 1)
    y = selective_state_update(
        held, drop(x, 1), drop(dt, 1), drop(A, 0), drop(B, 1), drop(C, 1), drop(D, 0), drop(z, 1), drop(dt_bias, 0),
        dt_softplus=True, state_batch_indices=indices,
    )  # fmt: skip
    rtol, atol = TOLERANCES[dtype]
    torch.testing.assert_close(y, drop(expected, 1), rtol=rtol, atol=atol)
    torch.testing.assert_close(held, drop(expected_states, 1), rtol=rtol, atol=atol)


def test_wrong_shapes_are_named():
    state, x, A, B = torch.zeros(2, 4, 3, 5), torch.zeros(2, 4, 3), torch.zeros(4, 3, 5), torch.zeros(2, 1, 5)
    with pytest.raises(ValueError, match=r"dt must be \(b, heads, d\) = \(2, 4, 3\), got \(2, 3, 4\)"):
        selective_state_update(state, x, x.mT, A, B, B)
    with pytest.raises(ValueError, match=r"the groups of B must divide the heads of state: got g = 3, heads = 4"):
        selective_state_update(state, x, x, A, torch.zeros(2, 3, 5), B)
    with pytest.raises(ValueError, match=r"state must be \(b, heads, d, n\) = \(2, 4, 3, 5\), got \(3, 4, 3, 5\)"):
        selective_state_update(torch.zeros(3, 4, 3, 5), x, x, A, B, B)
