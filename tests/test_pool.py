"""Pooling against the reference on every instruction set, and against Keras."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
import pytest

from helpers import assert_close, randn
from narae import _core, ops
from narae.engine import GradientTape, KerasTensor, convert_to_tensor, grad, value_and_grad
from reference import pool as reference


def check(name, x, dtype="float32", **options):
    x = x.astype(dtype)
    tensor = convert_to_tensor(x)
    with GradientTape() as tape:
        tape.watch(tensor)
        y = getattr(ops, name)(tensor, **options)
    kind = "exact" if name == "max_pool" else "reduction"
    forward, backward = getattr(reference, name), getattr(reference, f"{name}_backward")
    scale = forward(np.abs(x), **options)
    assert_close(y.numpy(), forward(x, **options), kind, scale)
    dy = randn(y.shape, dtype, seed=5)
    ops.multiply(x, np.nan)  # leaves NaN in memory, which dx is likely to get next
    dx = tape.gradient(y, tensor, output_gradients=convert_to_tensor(dy))
    scale = backward(np.abs(dy), x, **options)
    assert_close(dx.numpy(), backward(dy, x, **options), "reduction", scale)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("window", "strides"), [(2, None), (3, 1), (3, 2), (2, 3), (1, 2)])
@pytest.mark.parametrize("size", [(9,), (7, 6), (4, 5, 3)])
@pytest.mark.parametrize("name", ["max_pool", "average_pool"])
def test_pool(isa, name, size, window, strides, padding, dtype):
    options = {"pool_size": window, "strides": strides, "padding": padding}
    check(name, randn((2, *size, 3)), dtype, **options)


@pytest.mark.parametrize("channels", [1, 15, 16, 17, 64, 100, 131])
@pytest.mark.parametrize("batch", [1, 17])
@pytest.mark.parametrize("name", ["max_pool", "average_pool"])
def test_pool_channels(isa, name, batch, channels):
    x = randn((batch, 5, 6, channels))
    check(name, x, pool_size=(2, 3), strides=(2, 2), padding="same")


def test_first_of_equal_cells_gets_the_gradient(isa):
    check("max_pool", np.zeros((2, 6, 6, 20)), pool_size=3, strides=1)
    check("max_pool", np.round(randn((2, 6, 6, 20))), pool_size=3, strides=1, padding="same")


def test_nan_and_infinity(isa):
    x = randn((1, 4, 4, 2))
    x[0, 1, 1, 0], x[0, :2, :2, 1], x[0, 3, 3, 1] = np.nan, -np.inf, np.inf
    y = ops.max_pool(x, 2).numpy()
    assert np.isnan(y[0, 0, 0, 0]) and np.isnan(y).sum() == 1
    assert y[0, 0, 0, 1] == -np.inf and y[0, 1, 1, 1] == np.inf


def test_average_of_averages():
    x = randn((1, 6, 5, 2), "float64")
    f = grad(lambda x: ops.sum(ops.average_pool(x, 2, 1) ** 2))
    g = grad(lambda x: ops.sum(f(x) ** 2))(x).numpy()
    moved = x.copy()
    moved[0, 2, 2, 1] += 1e-5
    h = [float(ops.sum(f(v) ** 2)) for v in (moved, x)]
    np.testing.assert_allclose(g[0, 2, 2, 1], (h[0] - h[1]) / 1e-5, rtol=1e-3)


def test_layouts_dtypes_and_empty_batches():
    x = randn((2, 3, 8, 9))
    for f in (ops.max_pool, ops.average_pool):
        y = f(x, 2, data_format="channels_first").numpy()
        np.testing.assert_array_equal(y, np.moveaxis(f(np.moveaxis(x, 1, -1), 2).numpy(), -1, 1))
        assert f(randn((0, 8, 8, 3)), 3, padding="same").shape == (0, 3, 3, 3)
        assert f(KerasTensor((None, None, 9, 3)), 2).shape == (None, None, 4, 3)
    y = ops.max_pool(np.arange(8).reshape(1, 8, 1).astype("int32"), 2)
    assert y.dtype == "int32" and y.numpy().ravel().tolist() == [1, 3, 5, 7]


def test_threads_give_the_same_bits(isa):
    x, before = randn((3, 17, 18, 130)), _core.num_threads()
    results = []
    for threads in (1, 3):
        _core.set_num_threads(threads)
        f = value_and_grad(lambda x: ops.sum(ops.max_pool(x, 3, 1) * ops.average_pool(x, 3, 1)))
        results.append([t.numpy() for t in f(x)])
    _core.set_num_threads(before)
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("f", [ops.max_pool, ops.average_pool])
@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((2, 5, 5, 3), {"pool_size": 6}, "at least as large as the window"),
        ((2, 5, 5, 3), {"pool_size": 0}, "pool_size to be a positive"),
        ((2, 5, 5, 3), {"pool_size": (2, 2, 2)}, "tuple of 2"),
        ((2, 5, 5, 3), {"pool_size": 2, "strides": 0}, "strides to be a positive"),
        ((2, 5, 5, 3), {"pool_size": 2, "padding": "causal"}, "padding"),
        ((2, 5, 5, 3), {"pool_size": 2, "data_format": "last"}, "data_format"),
        ((2, 5), {"pool_size": 2}, "one to three spatial axes"),
    ],
)
def test_bad_arguments(f, shape, options, message):
    with pytest.raises(ValueError, match=message) as error:
        f(randn(shape), **options)
    assert str(error.value).startswith("narae.ops.") and "Received: " in str(error.value)


@pytest.mark.keras
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("window", "strides"), [(2, 2), (3, 1), (3, 2), ((2, 3), (3, 1))])
def test_keras(window, strides, padding):
    keras = pytest.importorskip("keras")
    x = randn((2, 9, 8, 4))
    for name in ("max_pool", "average_pool"):
        expected = getattr(keras.ops, name)(x, window, strides, padding)
        actual = getattr(ops, name)(x, window, strides, padding)
        np.testing.assert_allclose(actual, np.asarray(expected), rtol=1e-5, atol=1e-6)
