"""The vectors of the CPU kernels: what they compute, held to numpy in a wider type, and which memory they touch."""

import numpy as np
import pytest
from numba import njit

from ssmvid_kernels import simd
from ssmvid_kernels.conv.cpu_kernels import sigmoid
from ssmvid_kernels.s6.cpu_forward import softplus

each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def over_an_array(function):
    """`function` of vectors as a function of an array of any length."""

    @njit
    def run(x, out, lanes):
        for i in range(0, x.size, lanes):
            count = min(lanes, x.size - i)
            simd.store(out, i, count, function(simd.load(x, i, count)))

    def apply(x):
        out = np.full_like(x, np.nan)
        run(x, out, simd.LANES[x.dtype])
        return out

    return apply


exp2, log1p = over_an_array(simd.exp2), over_an_array(simd.log1p)
softplus_of, sigmoid_of = over_an_array(softplus), over_an_array(sigmoid)


def relative_error(got, exact):
    """In units of the dtype's eps."""
    return np.abs(got - exact) / np.abs(exact) / np.finfo(got.dtype).eps


def exact_softplus(v):
    return np.maximum(v, 0) + np.log1p(np.exp(-np.abs(v)))


@each_dtype
def test_exp2(dtype):
    x = np.concatenate([np.linspace(-126, 127, 50_001), np.linspace(-1, 1, 50_001)]).astype(dtype)
    assert relative_error(exp2(x), np.exp2(x.astype(np.longdouble))).max() < 1
    whole = np.arange(-126, 128).astype(dtype)
    assert np.array_equal(exp2(whole), np.ldexp(np.ones_like(whole), whole.astype(int)))


def test_exp2_of_float32_is_held_to_normal_numbers():
    x = np.array([-np.inf, -1e30, -127, 127.5, 1e30, np.inf, np.nan], np.float32)
    assert np.array_equal(exp2(x), np.float32([2**-126] * 3 + [2**127] * 3 + [np.nan]), equal_nan=True)


@each_dtype
def test_log1p(dtype):
    u = np.concatenate([np.linspace(0, 1, 50_001)[1:], 10.0 ** np.linspace(-37, 0, 1_000)]).astype(dtype)
    assert relative_error(log1p(u), np.log1p(u.astype(np.longdouble))).max() < 2
    assert np.array_equal(log1p(np.array([0, np.nan], dtype)), [0, np.nan], equal_nan=True)


@each_dtype
@pytest.mark.parametrize(
    ("function", "exact"),
    [(softplus_of, exact_softplus), (sigmoid_of, lambda v: 1 / (1 + np.exp(-v)))],
    ids=["softplus", "sigmoid"],
)
def test_softplus_and_sigmoid(function, exact, dtype):
    v = np.concatenate([np.linspace(-80, 80, 50_001), np.linspace(-4, 4, 50_001)]).astype(dtype)
    error = relative_error(function(v), exact(v.astype(np.longdouble)))
    assert (error < 3 + np.abs(v)).all()  # rounding log2(e), then v log2(e), moves exp(v) by v eps / 2 each time


@each_dtype
def test_softplus_and_sigmoid_at_the_ends(dtype):
    v = np.array([-np.inf, -1e4, -100, 0, 100, 1e4, np.inf, np.nan], dtype)
    np.testing.assert_allclose(softplus_of(v), [0, 0, 0, np.log(2), 100, 1e4, np.inf, np.nan], atol=2e-38, rtol=1e-6)
    np.testing.assert_allclose(sigmoid_of(v), [0, 0, 0, 0.5, 1, 1, 1, np.nan], atol=2e-38, rtol=1e-6)


@njit
def arithmetic(x, out, lanes):
    a, b, c = simd.load_full(x, 0), simd.load_full(x, lanes), simd.splat(x[0])
    simd.store_full(out, 0, simd.add(a, b))
    simd.store_full(out, lanes, simd.sub(a, b))
    simd.store_full(out, 2 * lanes, simd.mul(a, b))
    simd.store_full(out, 3 * lanes, simd.div(a, b))
    simd.store_full(out, 4 * lanes, simd.fma(a, b, c))
    simd.store_full(out, 5 * lanes, simd.positive(a))
    simd.store_full(out, 6 * lanes, simd.minus_abs(a))
    simd.store_full(out, 7 * lanes, simd.fill(a, 1.5))
    return simd.total(a)


@each_dtype
def test_arithmetic(dtype):
    lanes = simd.LANES[np.dtype(dtype)]
    x = np.random.default_rng(0).standard_normal(2 * lanes).astype(dtype)
    x[1] = np.nan
    a, b = x[:lanes], x[lanes:]
    out = np.empty(8 * lanes, dtype)
    total = arithmetic(x, out, lanes)
    expected = [a + b, a - b, a * b, a / b, a * b + x[0], np.maximum(a, 0), -np.abs(a), np.full(lanes, 1.5)]
    np.testing.assert_allclose(out, np.concatenate(expected), rtol=4 * np.finfo(dtype).eps)
    assert np.isnan(total)
    x[1] = 0
    np.testing.assert_allclose(arithmetic(x, out, lanes), a.sum(), rtol=8 * np.finfo(dtype).eps)


@njit
def copy(first, x, other, out, count):
    value = simd.load(x, 3, count)
    simd.store(out, 1, count, simd.add(value, simd.load_either(first, x, 3, other, 0, count)))
    simd.store_full(out, 64, value)
    simd.prefetch(x, 10**9)  # of memory that is not ours, and no one minds


@each_dtype
@pytest.mark.parametrize("first", [True, False])
def test_only_the_lanes_that_count_are_touched(first, dtype):
    lanes = simd.LANES[np.dtype(dtype)]
    x, other = np.arange(20, dtype=dtype), np.arange(100, 120, dtype=dtype)
    for count in range(lanes + 1):
        out = np.full(96, -1, dtype)
        copy(first, x, other, out, count)
        expected = x[3 : 3 + count] + (x[3 : 3 + count] if first else other[:count])
        assert np.array_equal(out[:20], [-1, *expected, *[-1] * (19 - count)])
        assert np.array_equal(out[64 : 64 + lanes], [*x[3 : 3 + count], *[0] * (lanes - count)])


@njit
def choose(x, out, first, last, lanes):
    value = simd.load_full(x, 0)
    simd.store_full(out, 0, simd.keep(value, first, last))
    simd.store_full(out, lanes, simd.where_above(value, 2.0, simd.splat(x[1])))


@each_dtype
def test_lanes_that_are_not_chosen_are_zero(dtype):
    lanes = simd.LANES[np.dtype(dtype)]
    x, out = np.arange(lanes, dtype=dtype), np.full(2 * lanes, np.nan, dtype)
    x[-1] = np.nan
    for first, last in [(-3, 2), (0, lanes - 1), (3, 5), (5, 3), (lanes, lanes + 9)]:
        choose(x, out, first, last, lanes)
        inside = (np.arange(lanes) >= first) & (np.arange(lanes) < last)
        assert np.array_equal(out[:lanes], np.where(inside, x, 0))
        assert np.array_equal(out[lanes:], np.where(x > 2, 1, 0))
