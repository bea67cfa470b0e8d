"""What every connector keeps: its number of tokens, its width, where they lie, gradients, weights in any dtype."""

import pytest
import torch

from ssmvid.scan import Grid
from tests.lmm.connectors import DIM, GRID, LLM_DIM, NAMES, lively, make, tokens_for

EACH = pytest.mark.parametrize("name", NAMES)
GRIDS = [GRID, Grid(1, 3, 4), Grid(9, 2, 6), Grid(4, 4, 3)]  # an image among them


@EACH
@pytest.mark.parametrize("grid", GRIDS)
@torch.no_grad()
def test_the_number_of_tokens_is_known_before(name, grid):
    connector = make(name)
    soft, out, rows = connector(tokens_for(grid), grid)
    assert soft.shape == (1, out.length, LLM_DIM)
    assert connector.llm_dim == LLM_DIM
    assert rows.shape == (1, out.length)
    assert ((rows >= 0) & (rows < grid.length)).all()
    assert (rows.diff() >= (0 if name == "perceiver" else 1)).all()
    if connector.exact:
        assert out == connector.out_grid(grid)
        assert out.length == connector.num_tokens(grid)
    else:
        assert 1 <= out.length <= connector.num_tokens(grid)


@EACH
@torch.no_grad()
def test_clips_of_a_batch_do_not_meet(name):
    connector = lively(make(name, **({"threshold": None} if name == "mambamia" else {})))
    tokens = tokens_for(GRID, batch=2)
    both = connector(tokens, GRID)
    for i in range(2):
        alone = connector(tokens[i : i + 1], GRID)
        torch.testing.assert_close(both.tokens[i : i + 1], alone.tokens, atol=1e-5, rtol=1e-5)
        assert torch.equal(both.rows[i : i + 1], alone.rows)


@EACH
def test_every_parameter_and_the_tokens_get_a_gradient(name):
    connector = lively(make(name)).train()
    tokens = tokens_for(GRID).requires_grad_()
    soft = connector(tokens, GRID).tokens
    (soft * torch.randn_like(soft)).sum().backward()
    assert tokens.grad.abs().sum() > 0
    assert [key for key, p in connector.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@EACH
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@torch.no_grad()
def test_any_dtype(name, dtype):
    connector, tokens = lively(make(name, **({"threshold": None} if name == "mambamia" else {}))), tokens_for(GRID)
    soft = connector.to(dtype)(tokens.to(dtype), GRID).tokens
    assert soft.dtype == dtype
    assert soft.isfinite().all()


@EACH
def test_what_is_not_decayed_is_there(name):
    connector = make(name)
    for prefix, module in connector.named_modules():
        names = module.no_weight_decay() if hasattr(module, "no_weight_decay") else ()
        for own in names:
            connector.get_parameter(f"{prefix}.{own}".lstrip("."))


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_option_is_refused(name):
    with pytest.raises(Exception, match="unexpected keyword argument 'dimm'"):
        make(name, dimm=DIM)
