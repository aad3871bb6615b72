"""Functions of one argument and activations on every instruction set."""

import math

import numpy as np
import pytest

from helpers import assert_close, gradients, randn
from narae import ops
from narae.engine import GradientTape, convert_to_tensor
from reference import unary as reference

SHAPES = [(), (1,), (3, 7), (8,), (16,), (5, 17), (2, 65), (2, 3, 100), (0, 4), (70_001,)]
# Where each function is smooth and defined, and what else it takes.
DOMAIN = {
    "log": (0.1, 9), "log2": (0.1, 9), "log10": (0.1, 9), "log1p": (-0.9, 5), "sqrt": (0.1, 9),
    "rsqrt": (0.1, 9), "arcsin": (-0.9, 0.9), "arccos": (-0.9, 0.9), "arctanh": (-0.9, 0.9),
    "erfinv": (-0.9, 0.9), "arccosh": (1.1, 9), "tan": (-1.2, 1.2), "cbrt": (0.1, 9),
    "reciprocal": (0.2, 3),
}  # fmt: skip
PARAMS = {
    "relu": [{}], "leaky_relu": [{}, {"negative_slope": 0.3}], "elu": [{}, {"alpha": 0.5}],
    "celu": [{}, {"alpha": 2.0}], "gelu": [{"approximate": True}, {"approximate": False}],
    "hard_shrink": [{}, {"threshold": 1.0}], "soft_shrink": [{}, {"threshold": 1.0}],
    "threshold": [{"threshold": 0.5, "default_value": -1.0}], "squareplus": [{}, {"b": 1.0}],
    "clip": [{"x_min": -0.5, "x_max": 0.7}],
}  # fmt: skip
UNARY = [(name, p) for name in reference.UNARY for p in PARAMS.get(name, [{}])]


def inputs_for(name, shape, dtype):
    low, high = DOMAIN.get(name, (-4, 4))
    u = np.random.default_rng(len(shape) + 7).uniform(low, high, shape)
    u = np.where(np.abs(np.abs(u) - np.round(np.abs(u))) < 1e-3, u + 0.01, u)  # off the kinks
    return np.asarray(u, dtype)


@pytest.mark.parametrize("name, params", UNARY, ids=[f"{n}{list(p.values())}" for n, p in UNARY])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_unary(isa, name, params, dtype):
    for shape in [(), (7,), (3, 17), (5, 64), (0, 3)]:
        x = inputs_for(name, shape, dtype)
        y, (dx,), dy = gradients(lambda x: getattr(ops, name)(x, **params), x)
        wide = x.astype("float64")
        expected = np.asarray(reference.unary(wide, name, **params), "float64")
        slope = reference.unary_backward(dy.astype("float64"), wide, name, **params)
        # Terms of the size of x (and of 1) cancel in these.
        scale = np.maximum(np.abs(expected), 1 + np.abs(x)) * 2
        assert_close(y, expected, scale=scale)
        if dx is None:
            assert not np.any(slope), "no gradient, where the reference has one"
        else:
            flat = np.abs(dy) * (1 + np.abs(wide)) * 2
            assert_close(dx, np.asarray(slope, "float64"), scale=np.maximum(np.abs(slope), flat))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_length(isa, shape, dtype):
    x = randn(shape, dtype)
    for name in ("exp", "tanh", "relu", "negative", "floor", "square"):
        wide = x.astype("float64")
        assert_close(getattr(ops, name)(x).numpy(), np.asarray(reference.unary(wide, name)))


@pytest.mark.parametrize(
    "name",
    [
        "exp",
        "expm1",
        "log",
        "log1p",
        "log2",
        "log10",
        "sqrt",
        "tanh",
        "sin",
        "cos",
        "abs",
        "sign",
        "floor",
        "ceil",
        "trunc",
        "round",
        "reciprocal",
        "negative",
        "square",
        "isnan",
        "isinf",
        "isfinite",
        "isposinf",
        "isneginf",
        "signbit",
        "logical_not",
    ],
)
def test_special_values_of_one_argument(isa, name):
    v = np.float32([0.0, -0.0, 1, -1, 0.5, 1.5, 2.5, -2.5, np.inf, -np.inf, np.nan, 1e-40, 3e38])
    f = getattr(np, name) if hasattr(np, name) else None
    with np.errstate(all="ignore"):
        expected = f(v)
    y = getattr(ops, name)(v).numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-37)
    if y.dtype == np.float32:
        zero = expected == 0
        assert (np.signbit(y[zero]) == np.signbit(expected[zero])).all()


@pytest.mark.parametrize(
    "name",
    [
        "relu",
        "relu6",
        "leaky_relu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "mish",
        "softplus",
        "softsign",
        "sigmoid",
        "tanh",
        "hard_sigmoid",
        "hard_tanh",
        "hard_shrink",
        "soft_shrink",
        "log_sigmoid",
    ],
)
def test_activations_keep_nan(isa, name):
    y = getattr(ops, name)(np.float32([np.nan, 1.0])).numpy()
    assert np.isnan(y[0]) and np.isfinite(y[1])


def test_activations_far_out(isa):
    x = np.float32([-1e4, -200, 200, 1e4])
    expected = {
        "sigmoid": [0, 0, 1, 1], "tanh": [-1, -1, 1, 1], "softplus": [0, 0, 200, 1e4],
        "silu": [0, 0, 200, 1e4], "gelu": [0, 0, 200, 1e4], "mish": [0, 0, 200, 1e4],
        "elu": [-1, -1, 200, 1e4], "log_sigmoid": [-1e4, -200, 0, 0], "relu": [0, 0, 200, 1e4],
    }  # fmt: skip
    for name, y in expected.items():
        _, (dx,), _ = gradients(getattr(ops, name), x)
        np.testing.assert_allclose(getattr(ops, name)(x).numpy(), y, rtol=1e-6, atol=1e-37)
        assert np.isfinite(dx.numpy()).all()


def test_second_derivatives():
    for f, second in [
        (lambda x: x**3, lambda x: 6 * x),
        (ops.exp, np.exp),
        (ops.log, lambda x: -1 / x**2),
        (lambda x: 1 / x, lambda x: 2 / x**3),
        (lambda x: ops.sqrt(x), lambda x: -0.25 * x**-1.5),
        (ops.sin, lambda x: -np.sin(x)),
        (ops.tanh, lambda x: -2 * np.tanh(x) / np.cosh(x) ** 2),
        (ops.sigmoid, lambda x: (lambda s: s * (1 - s) * (1 - 2 * s))(1 / (1 + np.exp(-x)))),
        (ops.softplus, lambda x: (lambda s: s * (1 - s))(1 / (1 + np.exp(-x)))),
        (lambda x: x * ops.relu(x), lambda x: 2 + 0 * x),
    ]:
        x = convert_to_tensor(np.array([0.5, 1.0, 2.0]))
        with GradientTape() as outer:
            outer.watch(x)
            with GradientTape() as inner:
                inner.watch(x)
                y = f(x)
            dx = inner.gradient(y, x)
        np.testing.assert_allclose(outer.gradient(dx, x).numpy(), second(x.numpy()), rtol=1e-10)


def test_clip_with_tensors_and_none():
    x = np.float32([-2, 0, 2])
    assert ops.clip(x, None, 1).numpy().tolist() == [-2, 0, 1]
    assert ops.clip(x, np.float32([-1, 0.5, 0]), 1.0).numpy().tolist() == [-1, 0.5, 1]
    assert ops.clip(np.array([1, 5, 9]), 2, 6).numpy().tolist() == [2, 5, 6]


def test_the_rest_of_one_argument(isa):
    x = np.float32([-2.5, -0.5, 0, 0.5, 1.25, 30])
    for name in ("deg2rad", "rad2deg", "sinc", "fabs", "exp2"):
        np.testing.assert_allclose(
            getattr(ops, name)(x).numpy(), getattr(np, name)(x), rtol=1e-5, atol=1e-6
        )
    np.testing.assert_array_equal(ops.round(x * 1.11, 1).numpy(), np.round(x * 1.11, 1))
    v = np.float32([np.nan, np.inf, -np.inf, 1])
    np.testing.assert_array_equal(ops.nan_to_num(v).numpy(), np.nan_to_num(v))
    assert ops.nan_to_num(v, 1.0, 2.0, 3.0).numpy().tolist() == [1, 2, 3, 1]
    np.testing.assert_array_equal(ops.bitwise_not([1, 2]).numpy(), [-2, -3])
    erf_of = [math.erf(float(v)) for v in ops.erfinv(np.float64([0.3, -0.999, 1e-9])).numpy()]
    np.testing.assert_allclose(erf_of, [0.3, -0.999, 1e-9], rtol=1e-14)
    assert ops.erfinv([1.0, -1.0]).numpy().tolist() == [math.inf, -math.inf]


def test_glu():
    x = randn((3, 8))
    y, (dx,), dy = gradients(ops.glu, x)
    assert_close(y, reference.glu(x.astype("float64")))
    assert_close(dx, reference.glu_backward(dy.astype("float64"), x.astype("float64")))
    with pytest.raises(ValueError, match="narae.ops.glu: expected an even size"):
        ops.glu(randn((3, 7)))
