"""What each reducer keeps, against its definition."""

import pytest
import torch
import torch.nn.functional as F

from ssmvid.lmm import Decimate, Merge, Pool, Redundancy
from ssmvid.lmm.soft import take
from ssmvid.scan import Grid
from ssmvid_kernels.s6 import selective_scan
from tests.lmm.connectors import DIM, GRID, lively, tokens_for


@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2), (4, 1, 3), (7, 5, 9)])
def test_pool_is_the_mean_of_every_brick(stride):
    tokens = tokens_for(GRID, 2)
    soft, grid, rows = Pool(stride=stride)(tokens, GRID)
    maps, index = tokens.unflatten(1, GRID), torch.arange(GRID.length).view(GRID)
    expected, firsts = [], []
    for t in range(0, GRID.t, stride[0]):
        for h in range(0, GRID.h, stride[1]):
            for w in range(0, GRID.w, stride[2]):
                brick = (slice(t, t + stride[0]), slice(h, h + stride[1]), slice(w, w + stride[2]))
                expected.append(maps[:, *brick].mean((1, 2, 3)))
                firsts.append(int(index[brick].min()))
    torch.testing.assert_close(soft, torch.stack(expected, 1))
    assert rows.tolist() == [firsts] * 2
    assert grid.length == len(firsts)


def test_merging_a_frame_to_one_token_is_its_mean():
    """Whatever was merged with what: every token counts once."""
    tokens = tokens_for(GRID, 2)
    soft, grid, rows = Merge(keep=1)(tokens, GRID)
    torch.testing.assert_close(soft, tokens.unflatten(1, (GRID.t, -1)).mean(2))
    assert grid == Grid(5, 1, 1)
    assert rows.tolist() == [[0, 12, 24, 36, 48]] * 2


def test_equal_tokens_are_merged_and_the_others_left():
    grid = Grid(1, 2, 4)
    tokens = torch.eye(DIM)[[0, 1, 2, 3, 4, 2, 5, 5]][None]  # 2 and 5 are there twice, once even and once odd
    soft, _, rows = Merge(keep=6)(tokens, grid)
    assert rows.tolist() == [[0, 1, 2, 3, 4, 6]]
    assert torch.equal(soft, torch.eye(DIM)[[0, 1, 2, 3, 4, 5]][None])


def test_a_frame_of_fewer_tokens_than_the_budget_is_left_alone():
    tokens = tokens_for(GRID)
    soft, _, rows = Merge(keep=13)(tokens, GRID)
    assert torch.equal(soft, tokens)
    assert rows.tolist() == [list(range(GRID.length))]


def test_of_a_still_video_what_changes_is_kept():
    grid = Grid(6, 2, 3)
    tokens = tokens_for(Grid(1, 2, 3)).repeat(1, 6, 1)
    changed = [7, 16]  # of frames 1 and 2; chunks begin at 0 and 4
    tokens[0, changed] = torch.randn(2, DIM)
    reducer = Redundancy(keep=2 / 24, chunk=4)
    soft, out, rows = reducer(tokens, grid)
    assert out.length == reducer.num_tokens(grid) == 12 + 2
    assert rows.tolist() == [[*range(6), 7, 16, *range(24, 30)]]
    assert torch.equal(soft, take(tokens, rows))


def test_decimating_nothing_is_a_mamba_layer():
    torch.manual_seed(0)
    reducer, tokens = lively(Decimate(dim=DIM, keep=1.0)), tokens_for(GRID, 2)
    soft, _, rows = reducer(tokens, GRID)
    assert rows.tolist() == [list(range(GRID.length))] * 2
    torch.testing.assert_close(soft, tokens + reducer.mixer(reducer.norm(tokens), GRID))


@pytest.mark.parametrize(("keep", "count"), [(0.5, 30), (0.01, 7)])
def test_decimation_scans_the_tokens_of_the_largest_steps(keep, count):
    torch.manual_seed(0)
    reducer, tokens = lively(Decimate(dim=DIM, keep=keep, least=7)), tokens_for(GRID)
    get = reducer.mixer.get_parameter
    x, z = reducer.mixer.in_proj(reducer.norm(tokens)).chunk(2, dim=-1)
    x = F.silu(F.conv1d(F.pad(x.mT, (3, 0)), get("conv1d.weight"), get("conv1d.bias"), groups=x.shape[-1])).mT
    dt, B, C = F.linear(x, get("x_proj.weight")).split(reducer.mixer.sizes, dim=-1)
    dt = F.softplus(F.linear(dt, get("dt_proj.weight"), get("dt_proj.bias")))
    rows = dt.square().sum(-1).argsort(descending=True)[:, :count].sort(-1).values
    x, z, dt, B, C = (take(tensor, rows) for tensor in (x, z, dt, B, C))
    y = selective_scan(x, dt, -get("A_log").exp(), B, C, get("D"), backend="reference").y
    soft, _, got = reducer(tokens, GRID)
    assert torch.equal(got, rows)
    torch.testing.assert_close(soft, take(tokens, rows) + reducer.mixer.out_proj(y * F.silu(z)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Pool, {"stride": (1, 0, 1)}, r"3 numbers of at least 1, got \(1, 0, 1\)"),
        (Pool, {"stride": (1, 2)}, r"3 numbers of at least 1, got \(1, 2\)"),
        (Merge, {"keep": 0}, "at least 1, got 0"),
        (Redundancy, {"keep": 1.5}, r"keep must be in \[0, 1\] and chunk at least 1, got 1.5 and 8"),
        (Decimate, {"dim": 8, "keep": 0.0}, r"in \(0, 1\], got 0.0"),
    ],
)
def test_budgets_out_of_range_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)
