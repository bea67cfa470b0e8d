"""A hybrid of Mamba-2, Mamba, windowed and full attention gives on a mesh of ranks what it gives on one."""

import pytest

from tests.parallel.models import check_on_mesh, check_packed
from tests.parallel.ranks import run


@pytest.mark.parametrize("data_parallel", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_with_sharded_parameters(data_parallel):
    run(2 * data_parallel, check_on_mesh, data_parallel)


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_packed_clips(size):
    run(size, check_packed, (7, 4, 1, 5))
