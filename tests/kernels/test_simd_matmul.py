"""Matmuls and transposes in a scratch array, held to numpy; every width of a tile, and nothing beside it touched."""

import numpy as np
import pytest
from numba import njit

from ssmvid_kernels import simd
from ssmvid_kernels.simd_matmul import matmul, transpose_block

each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@each_dtype
@pytest.mark.parametrize("vectors", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("beta", [0.0, -0.5])
@pytest.mark.parametrize("transposed", [False, True])
def test_matmul(transposed, beta, vectors, dtype):
    lanes = simd.LANES[np.dtype(dtype)]
    rows, steps, columns = 16, 5, vectors * lanes
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal(shape).astype(dtype) for shape in ((rows, steps), (steps, columns), (rows, columns)))
    s = np.full(20_000, np.nan, dtype)
    wide = columns + 3  # rows of c stand apart
    s[: a.size] = (a.T if transposed else a).ravel()
    s[1_000 : 1_000 + b.size] = b.ravel()
    out = s[2_000 : 2_000 + rows * wide].reshape(rows, wide)
    if beta:
        out[:, :columns] = c
    left = (0, 1, rows) if transposed else (0, steps, 1)
    matmul(s, rows, vectors, left, (1_000, columns), steps, (2_000, wide), dtype(beta), lanes)
    np.testing.assert_allclose(out[:, :columns], a @ b + beta * c, rtol=0, atol=40 * np.finfo(dtype).eps)
    assert np.isnan(out[:, columns:]).all()
    assert np.isnan(s[2_000 + rows * wide :]).all()


@each_dtype
def test_transpose_block(dtype):
    lanes = simd.LANES[np.dtype(dtype)]
    s = np.arange(4_000, dtype=dtype)
    block = s[: lanes * 20].reshape(lanes, 20)[:, :lanes].copy()
    transpose_block_of(s, 0, 20, 2_000, 30)
    out = s[2_000 : 2_000 + lanes * 30].reshape(lanes, 30)
    assert np.array_equal(out[:, :lanes], block.T)
    assert np.array_equal(out[:-1, lanes:], np.arange(2_000, 2_000 + lanes * 30).reshape(lanes, 30)[:-1, lanes:])


@njit
def transpose_block_of(s, a, a_row, c, c_row):
    transpose_block(s, a, a_row, c, c_row)
