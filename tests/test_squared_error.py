"""The mean squared error against its reference, on every instruction set."""

import numpy as np
import pytest

import narae
from helpers import assert_close, randn
from narae import _core, ops
from reference import squared_error as reference
from reference.finite_difference import gradient

SHAPES = [(1, 1), (33, 1), (5, 7), (4, 16), (9, 33), (2, 3, 1000), (3, 40000), (70, 600), (0, 3)]


def wide(*arrays):
    return [a.astype("float64") for a in arrays]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels(isa, shape, dtype):
    t, p, dy = randn(shape, dtype), randn(shape, dtype, seed=1), randn(shape[:-1], dtype, seed=2)
    tensors = [ops.convert_to_tensor(x) for x in (t, p)]
    with narae.GradientTape() as tape:
        tape.watch(tensors)
        y = ops.mean_squared_error(*tensors)
    got = tape.gradient(y, tensors, output_gradients=ops.convert_to_tensor(dy))
    t, p, dy = wide(t, p, dy)
    assert_close(y, reference.mean_squared_error(t, p), "reduction")
    # An error is as exact as its terms are large.
    scale = 2 / shape[-1] * np.abs(dy[..., None]) * (np.abs(p) + np.abs(t))
    expected = reference.mean_squared_error_backward(dy, t, p)
    assert_close(got, expected, "elementwise", (scale, scale))


def test_no_columns(isa):
    empty = np.ones((2, 0), "float32")
    assert np.isnan(_core.squared_error_forward(empty, empty)).all()
    assert _core.squared_error_backward(np.ones(2, "float32"), empty, empty).shape == (2, 0)


def test_threads_and_replay():
    t, p, dy = randn((70000, 3)), randn((70000, 3), seed=1), randn((70000,), seed=2)
    results = []
    before = _core.num_threads()
    try:
        for threads in (1, 3):
            _core.set_num_threads(threads)
            recording = _core.Recording()
            recording.begin()
            y, dp = _core.squared_error_forward(t, p), _core.squared_error_backward(dy, t, p)
            recording.end()
            results.append((y.copy(), dp.copy()))
        y[...], dp[...] = 0, 0
        recording.replay()
        results.append((y, dp))
    finally:
        _core.set_num_threads(before)
    for result in results[1:]:
        for one, other in zip(results[0], result):
            np.testing.assert_array_equal(one, other)


def test_reference():
    t, p, dy = (randn((3, 4)[:ndim], "float64", seed=ndim) for ndim in (2, 2, 1))
    dt, dp = reference.mean_squared_error_backward(dy, t, p + 1)
    numerical = gradient(lambda x: reference.mean_squared_error(x, p + 1), t, dy)
    np.testing.assert_allclose(dt, numerical, rtol=1e-7, atol=1e-9)
    numerical = gradient(lambda x: reference.mean_squared_error(t, x), p + 1, dy)
    np.testing.assert_allclose(dp, numerical, rtol=1e-7, atol=1e-9)


def test_second_derivatives():
    t, p = randn((3, 4), "float64"), randn((3, 4), "float64", seed=1)
    x = ops.convert_to_tensor(p)
    with narae.GradientTape() as outer:
        outer.watch(x)
        with narae.GradientTape() as inner:
            inner.watch(x)
            y = ops.mean_squared_error(t, x)
        (dx,) = inner.gradient(y, [x])
        total = ops.sum(dx * dx)
    expected = 2 * (2 / 4) ** 2 * (p - t)
    np.testing.assert_allclose(outer.gradient(total, x).numpy(), expected, rtol=1e-12)


def test_other_shapes_and_dtypes():
    t, p = np.array([[1.0], [2.0]]), np.array([[1.0, 3.0]])
    np.testing.assert_allclose(ops.mean_squared_error(t, p).numpy(), [2.0, 1.0])
    whole = ops.mean_squared_error(np.array([1, 5]), np.array([2, 2]))
    assert whole.dtype == "float32" and float(whole) == 5.0
    assert float(ops.mean_squared_error([0.5], [1])) == 0.25
    half = ops.mean_squared_error(*(ops.cast(x, "bfloat16") for x in (t[:, 0], p[0])))
    assert half.dtype == "bfloat16" and float(half) == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 3)), np.ones((3, 2))), r"one shape.*\(2, 3\) and \(3, 2\)"),
        ((np.ones(()), np.ones(())), "one shape"),
    ],
)
def test_binding_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        _core.squared_error_forward(*arguments)


def test_binding_refuses_a_wrong_gradient():
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"dy of shape \(2,\)"):
        _core.squared_error_backward(np.ones(3), x, x)
