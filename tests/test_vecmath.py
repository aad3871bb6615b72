"""core/vecmath.h: the stated errors, on a grid over all floats, and the special values."""

import math

import numpy as np
import pytest

from narae import _core

_erf = np.vectorize(math.erf, otypes=[np.longdouble])


def _sigmoid(x):
    return np.where(x < 0, np.exp(-np.abs(x)), 1) / (1 + np.exp(-np.abs(x)))


def _softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


# name: kernel, reference, largest error in units of the last place as stated in vecmath.h
FUNCTIONS = {
    "exp": (_core.exp, np.exp, 1.5),
    "exp2": (_core.exp2, np.exp2, 1.5),
    "expm1": (_core.expm1, np.expm1, 2),
    "log": (_core.log, np.log, 2),
    "log1p": (_core.log1p, np.log1p, 3),
    "tanh": (_core.tanh_forward, np.tanh, 4),
    "sigmoid": (_core.sigmoid_forward, _sigmoid, 3),
    "softplus": (_core.softplus_forward, _softplus, 4),
    "erf": (_core.erf, _erf, 3),
    "sin": (_core.sin, np.sin, 2),
    "cos": (_core.cos, np.cos, 2),
}
FLUSHED = {"sigmoid"}  # may give 0 where the result is subnormal


def every_float32(step):
    """Bit patterns a step apart: all exponents, subnormals, infinities and NaNs, both signs."""
    x = np.arange(0, 2**32, step, dtype=np.uint64).astype(np.uint32).view(np.float32)
    return np.concatenate([x, np.float32([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-45, -1e-45])])


def some_float64(count=40_000):
    """Random bit patterns, and magnitudes where the functions bend."""
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**64, count, dtype=np.uint64).view(np.float64)
    usual = random.normal(size=count) * 10.0 ** random.uniform(-12, 3, count)
    special = [np.inf, -np.inf, np.nan, 0.0, -0.0, 5e-324, -5e-324, 2.0**-1022, 1.0, -1.0]
    near = random.normal(size=count)
    return np.concatenate([bits, usual, near, 1 + usual * 1e-3, special])


def check(name, x):
    kernel, reference, ulps = FUNCTIONS[name]
    wide = np.longdouble if x.dtype == np.float64 else np.float64
    with np.errstate(all="ignore"):
        expected = reference(x.astype(wide)).astype(wide)
        rounded = expected.astype(x.dtype)
        y = kernel(x)
        spacing = np.spacing(np.abs(rounded)).astype(wide)
        error = np.abs(y.astype(wide) - expected) / spacing
        same = (y == rounded) | (np.isnan(y) & np.isnan(rounded))
        if name in FLUSHED:
            same |= (y == 0) & (np.abs(expected) < np.finfo(x.dtype).tiny)
    error = np.where(same, 0, error)
    worst = np.nanargmax(np.where(np.isnan(error), np.inf, error))
    assert error[worst] <= ulps, f"x={x[worst]!r}: {y[worst]!r}, expected {expected[worst]!r}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32(isa, name):
    check(name, every_float32(20_011))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float64(isa, name):
    check(name, some_float64())


def test_power(isa):
    """x^y of float32 within 1.5 ulp, and the special values of C's pow."""
    random = np.random.default_rng(0)
    special = [0, 1, 2, 3, 0.5, 1.5, 1e-45, 1e-38, 3e38, 2**22 + 0.5, 2**24 - 1, 2**24, np.inf]
    special = np.float32([*special, *(-v for v in special), np.nan])
    x, y = (v.ravel() for v in np.meshgrid(special, special))
    magnitudes = np.exp(random.normal(size=60_000) * 3)
    any_x, any_y = random.integers(0, 2**32, (2, 60_000), dtype=np.uint32).view(np.float32)
    usual = random.normal(size=60_000) * 10, random.integers(-20, 20, 60_000)
    x = np.concatenate([x, magnitudes, -magnitudes, any_x], dtype="float32", casting="unsafe")
    y = np.concatenate([y, *usual, any_y], dtype="float32", casting="unsafe")
    with np.errstate(all="ignore"):
        expected = np.power(x.astype("float64"), y.astype("float64"))
        rounded, actual = expected.astype("float32"), _core.power(x, y)
        ulps = np.abs(actual - expected) / np.spacing(np.abs(rounded))
    same = (actual == rounded) & (np.signbit(actual) == np.signbit(rounded))
    ulps = np.where(same | (np.isnan(actual) & np.isnan(rounded)), 0, ulps)
    worst = np.nanargmax(np.where(np.isnan(ulps), np.inf, ulps))
    assert ulps[worst] <= 1.5, (x[worst], y[worst], actual[worst], expected[worst])
    for exponent in np.float32([1.7, -3, 0.5, np.nan, np.inf]):  # one for all, a row of seven
        row = _core.power(x[:7], np.full((), exponent))
        np.testing.assert_array_equal(row, _core.power(x[:7], np.full(7, exponent)))


def test_normal_distribution(isa):
    """gelu(x) / x is Phi(x): 4 ulp for x >= -1, below 4 + x^2 / 2 of them, and half of one each for
    the product and the quotient."""
    x = np.float32(np.concatenate([np.linspace(-12.5, 6, 200_001), [1e-30, -1e-30, 20, 1e30]]))
    wide = x.astype("float64")
    expected = np.vectorize(math.erfc)(-wide * math.sqrt(0.5)) / 2
    ulps = (_core.gelu_forward(x) / wide - expected) / np.spacing(expected.astype("float32"))
    assert (np.abs(ulps) <= 5 + np.where(wide < -1, wide * wide / 2, 0)).all()


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_wherever_an_element_lies(isa, name, dtype):
    """A lane of a whole register and one of a ragged tail give the same bits."""
    kernel = FUNCTIONS[name][0]
    x = np.random.default_rng(1).normal(size=67).astype(dtype)
    y = kernel(x)
    for i in (0, 1, 15, 16, 33, 66):
        assert kernel(x[i : i + 1])[0] == y[i]
