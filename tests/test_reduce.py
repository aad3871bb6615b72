"""Reductions and scans against their references, on every instruction set."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
import pytest

import narae
from helpers import assert_close, randn
from narae import _core, ops
from reference import reduce as reference

# Sizes below, at and above every register, and the cuts between blocks.
SHAPES = [((), None), ((1,), 0), ((17,), 0), ((3, 7), 1), ((3, 8), 0), ((5, 65, 33), 1)]
SHAPES += [((2, 3, 100), (1, 2)), ((4, 5, 6, 7), (1, 2)), ((4, 5, 6), (0, 2)), ((4, 5, 6), ())]
SHAPES += [((2, 40000), 1), ((3000, 17), 0), ((2, 3, 4, 5), (0, 2, 3)), ((2, 3000), 0)]
FLOATS = ["float32", "float64"]


def check_gradient(function, backward, x, scale=None, **kwargs):
    """Compares the gradient of function under a random dy with the reference's."""
    tensor = ops.convert_to_tensor(x)
    with narae.GradientTape() as tape:
        tape.watch(tensor)
        y = function(tensor, **kwargs)
    dy = randn(y.shape, x.dtype.name, seed=1)
    dx = tape.gradient(y, tensor, output_gradients=ops.convert_to_tensor(dy))
    expected = backward(dy.astype("float64"), x.astype("float64"), **kwargs)
    assert dx.dtype == x.dtype.name
    assert_close(dx.numpy(), expected, "composite", scale)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("shape, axis", SHAPES)
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "var", "std", "logsumexp"])
def test_against_reference(isa, name, shape, axis, keepdims, dtype):
    x = randn(shape, dtype)
    wide = x.astype("float64")
    y = getattr(ops, name)(x, axis=axis, keepdims=keepdims).numpy()
    expected = getattr(reference, name)(wide, axis=axis, keepdims=keepdims)
    if name in ("max", "min"):
        assert_close(y, expected, "exact")
    elif name in ("sum", "mean"):
        scale = getattr(np, name)(np.abs(wide), axis=axis, keepdims=keepdims)
        assert_close(y, expected, "reduction", scale)
    else:
        assert_close(y, expected, "composite", scale=1 + np.abs(expected))


@pytest.mark.parametrize("shape, axis", SHAPES)
def test_prod(isa, shape, axis):
    x = 1 + randn(shape, "float64") / 100
    assert_close(ops.prod(x, axis).numpy(), np.prod(x, axis), "composite")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape, axis", [((3, 7), 1), ((3, 17), 0), ((4, 5, 6), (0, 2)), ((9,), 0)])
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "var", "std", "logsumexp", "prod"])
def test_gradients(isa, name, shape, axis, dtype):
    x = np.round(randn(shape, dtype) * 4) / 4 if name in ("max", "min") else randn(shape, dtype)
    backward = getattr(reference, name + "_backward")
    for keepdims in (False, True):
        check_gradient(getattr(ops, name), backward, x, axis=axis, keepdims=keepdims)


def test_gradient_of_prod_is_exact_at_zeros(isa):
    x = np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 5.0], [1.0, 2.0, 3.0]])
    check_gradient(ops.prod, reference.prod_backward, x, axis=1)
    check_gradient(ops.prod, reference.prod_backward, x, axis=0)


def test_gradient_of_max_is_shared_among_ties():
    x = ops.convert_to_tensor([[1.0, 2.0, 2.0], [3.0, 0.0, 3.0]])
    gradient = narae.grad(lambda x: ops.max(x))(x)
    np.testing.assert_allclose(gradient.numpy(), [[0, 0, 0], [0.5, 0, 0.5]])
    gradient = narae.grad(lambda x: ops.sum(ops.min(x, axis=0)))(x)
    np.testing.assert_allclose(gradient.numpy(), [[1, 0, 1], [0, 1, 0]])


def test_second_derivatives():
    x = ops.convert_to_tensor([1.0, 2.0, 4.0])
    for f in (ops.sum, ops.mean, ops.var, ops.logsumexp):

        def first(x, f=f):
            return ops.sum(narae.grad(lambda x: f(x * x * x))(x) * ops.array([1.0, -2.0, 3.0]))

        step = 1e-2
        exact = narae.grad(first)(x).numpy()
        for i in range(3):
            up, down = x.numpy().copy(), x.numpy().copy()
            up[i] += step
            down[i] -= step
            numeric = (float(first(up)) - float(first(down))) / (2 * step)
            assert exact[i] == pytest.approx(numeric, rel=2e-2, abs=0.5)


@pytest.mark.parametrize("dtype", [*FLOATS, "int32", "int64", "uint8"])
@pytest.mark.parametrize("shape, axis", [((3, 7), 1), ((70, 33), 0), ((4, 5, 6), 1), ((50000,), 0)])
def test_argmax_and_argmin_take_the_first(isa, shape, axis, dtype):
    x = np.round(np.abs(randn(shape, "float64")) * 3).astype(dtype)
    for name in ("argmax", "argmin"):
        y = getattr(ops, name)(x, axis=axis)
        assert y.dtype == "int32"
        np.testing.assert_array_equal(y.numpy(), getattr(np, name)(x, axis=axis))
        assert int(getattr(ops, name)(x)) == getattr(np, name)(x)


@pytest.mark.parametrize("dtype", [*FLOATS, "int32", "int64", "uint8"])
@pytest.mark.parametrize("R", [1, 3, 15, 16, 17, 64, 255, 256, 257, 300, 1024, 1030, 2600])
def test_argmax_of_rows_at_every_place(isa, R, dtype):
    places = np.unique([0, R // 2, R - 2, R - 1]).clip(0)
    x = np.ones((len(places), R), dtype)
    x[np.arange(len(places)), places] = 3
    x[:, -1] = np.maximum(x[:, -1], 3 * (places[:] < R - 1))  # a second one, later
    np.testing.assert_array_equal(ops.argmax(x, 1).numpy(), np.argmax(x, 1))
    np.testing.assert_array_equal(ops.argmin(3 - x, 1).numpy(), np.argmin(3 - x, 1))


@pytest.mark.parametrize("shape", [(3, 5000), (70, 300), (65, 4099), (21, 1100), (2, 66, 257)])
def test_folds_of_wide_rows(isa, shape):
    x = randn(shape)
    axis, wide = len(shape) - 2, x.astype("float64")
    assert_close(ops.sum(x, axis).numpy(), wide.sum(axis), "reduction", np.abs(wide).sum(axis))
    assert_close(ops.max(x, axis).numpy(), wide.max(axis), "exact")
    assert_close(ops.var(x, axis).numpy(), wide.var(axis), "composite", 1 + wide.var(axis))
    x[..., 1, 7] = np.nan
    assert np.isnan(ops.max(x, axis).numpy()[..., 7]).all()
    assert np.isnan(ops.max(x, axis).numpy()).sum() == max(1, x.size // (shape[-1] * shape[-2]))


@pytest.mark.parametrize("rows", [1, 4, 7])
@pytest.mark.parametrize("R", [1, 10, 16, 33, 512, 513])
def test_a_row_is_folded_in_the_same_order_wherever_it_lies(isa, rows, R):
    x = randn((rows, R))
    for name in ("sum", "max"):
        function = getattr(ops, name)
        together = function(x, 1).numpy()
        assert [function(row, 0).numpy() for row in x] == list(together)


def test_nan(isa):
    x = np.arange(50, dtype="float32")
    x[[7, 30]] = np.nan
    assert np.isnan(float(ops.max(x))) and np.isnan(float(ops.min(x)))
    assert int(ops.argmax(x)) == int(ops.argmin(x)) == 7
    rows = np.zeros((4, 1000), "float32")  # found in a block, in the last one, after it, a NaN
    rows[0, 5], rows[1, 700], rows[2, 999], rows[3, 600:] = 1, 1, 1, np.nan
    np.testing.assert_array_equal(ops.argmax(rows, 1).numpy(), [5, 700, 999, 600])
    np.testing.assert_array_equal(ops.argmax(rows.T, 0).numpy(), [5, 700, 999, 600])
    long = np.zeros((5, 3000), "float32")  # in the first block of a row, a later one, the last
    long[0, 5], long[1, 1500], long[2, 2999], long[3, 2000:], long[4, 9] = 1, 1, 1, np.nan, np.nan
    long[3, 100], long[4, 2500] = 1, 1
    np.testing.assert_array_equal(ops.argmax(long, 1).numpy(), [5, 1500, 2999, 2000, 9])
    np.testing.assert_array_equal(ops.argmin(-long, 1).numpy(), [5, 1500, 2999, 2000, 9])
    both = np.stack([x, np.arange(50, dtype="float32")], 1)
    np.testing.assert_array_equal(ops.max(both, 0).numpy(), [np.nan, 49])
    np.testing.assert_array_equal(ops.argmax(both, 0).numpy(), [7, 49])


def test_infinities_in_logsumexp(isa):
    x = np.array([[-np.inf, -np.inf], [np.inf, 0], [1000, 1000]], "float32")
    np.testing.assert_allclose(ops.logsumexp(x, 1).numpy(), [-np.inf, np.inf, 1000 + np.log(2)])


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers_are_exact(isa, dtype):
    x = np.arange(-500, 1500, dtype=dtype).reshape(40, 50)
    for axis in (0, 1, None):
        for name in ("sum", "max", "min"):
            y = getattr(ops, name)(x, axis)
            assert y.dtype == dtype
            np.testing.assert_array_equal(y.numpy(), getattr(np, name)(x, axis))
        np.testing.assert_array_equal(ops.cumsum(x, axis).numpy(), np.cumsum(x, axis))
    np.testing.assert_array_equal(ops.prod(x[:2] % 3 + 1, 0).numpy(), np.prod(x[:2] % 3 + 1, 0))
    assert ops.mean(x).dtype == "float32"


def test_bools(isa):
    x = randn((5, 70)) > 1
    for axis in (0, 1, None, (0, 1)):
        np.testing.assert_array_equal(ops.any(x, axis).numpy(), np.any(x, axis))
        np.testing.assert_array_equal(ops.all(x, axis).numpy(), np.all(x, axis))
        np.testing.assert_array_equal(ops.sum(x, axis).numpy(), np.sum(x, axis))
        np.testing.assert_array_equal(ops.count_nonzero(x, axis).numpy(), np.count_nonzero(x, axis))
    assert ops.sum(x).dtype == ops.count_nonzero(x).dtype == "int32"
    assert ops.any(x).dtype == "bool" and bool(ops.all([1.0, np.nan])) is True


def test_empty():
    x = np.zeros((3, 0), "float32")
    np.testing.assert_array_equal(ops.sum(x, 1).numpy(), [0, 0, 0])
    np.testing.assert_array_equal(ops.prod(x, 1).numpy(), [1, 1, 1])
    assert ops.sum(x, 0).shape == (0,) and ops.max(x, 0).shape == (0,)
    assert not bool(ops.any(x)) and bool(ops.all(x))
    np.testing.assert_array_equal(ops.max(x, 1, initial=-1.0).numpy(), [-1, -1, -1])
    with pytest.raises(ValueError, match="at least one value to reduce"):
        ops.max(x, 1)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape, axis", [((9,), 0), ((3, 7), 1), ((3, 17), 0), ((2, 5, 9), None)])
def test_scans(isa, shape, axis, dtype):
    x = randn(shape, dtype)
    x.flat[1] = 0  # the gradient of cumprod is exact there too
    for name in ("cumsum", "cumprod"):
        expected = getattr(reference, name)(x.astype("float64"), axis=axis)
        y = getattr(ops, name)(x, axis=axis)
        assert_close(y.numpy(), expected, "composite")
        check_gradient(
            getattr(ops, name), getattr(reference, name + "_backward"), x, axis=axis, scale=20
        )


@pytest.mark.parametrize("order", [1, 2, 3, np.inf, -np.inf])
def test_norm(isa, order):
    x = randn((5, 33), "float64")
    for axis in (0, 1):
        assert_close(ops.norm(x, order, axis).numpy(), reference.norm(x, order, axis), "composite")
        check_gradient(ops.norm, reference.norm_backward, x, ord=order, axis=axis)
    assert_close(ops.norm(x).numpy(), np.linalg.norm(x), "composite")


@pytest.mark.parametrize("order", ["fro", 1, -1, np.inf, -np.inf, None])
def test_matrix_norm(order):
    x = randn((4, 5, 6), "float64")
    for keepdims in (False, True):
        y = ops.norm(x, order, axis=(1, 2), keepdims=keepdims).numpy()
        assert_close(y, np.linalg.norm(x, order, (1, 2), keepdims), "composite")


def test_average():
    x = randn((3, 4), "float64")
    w = np.abs(randn((4,), "float64"))
    assert_close(ops.average(x, 1, w).numpy(), np.average(x, 1, w), "composite", 1)
    assert_close(ops.average(x).numpy(), x.mean(), "composite", 1)
    with pytest.raises(ValueError, match=r"narae.ops.average: expected weights.*\(4,\)"):
        ops.average(x, 0, w)


def test_sum_of_ten_million(isa):
    x = np.random.default_rng(0).random(10**7, dtype=np.float32)
    exact = x.sum(dtype=np.float64)
    assert abs(float(ops.sum(x)) - exact) < 2**-23 * exact
    columns = x.reshape(-1, 10)
    error = np.abs(ops.sum(columns, 0).numpy() - columns.sum(0, dtype=np.float64))
    assert (error < 2**-23 * exact / 10).all()


def test_variance_of_a_large_mean(isa):
    x = (1000 + randn((10000, 5), "float64") / 10).astype("float32")
    for y in (ops.var(x, 0), ops.moments(x, 0)[1], ops.var(x.T.copy(), 1)):
        np.testing.assert_allclose(y.numpy(), x.astype("float64").var(0), rtol=1e-5)


def test_any_number_of_threads_gives_the_same_bits(isa):
    x = randn((300001,))
    columns = x[:300000].reshape(-1, 30)
    before = _core.num_threads()
    results = []
    for threads in (1, 2, 3):
        _core.set_num_threads(threads)
        parts = [ops.sum(x), ops.sum(columns, 0), ops.var(columns, 0), ops.logsumexp(x)]
        parts += [ops.var(columns, 1), ops.logsumexp(columns, 1), ops.argmax(columns, 1)]
        parts += [ops.argmax(x), ops.sum(x[:297000].reshape(66, 4500), 0)]
        results.append([p.numpy().tobytes() for p in parts])
    _core.set_num_threads(before)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("axis", [2, -3, (0, 0), (1, -1)])
def test_bad_axes(axis):
    with pytest.raises(ValueError, match="narae.ops.sum: expected different axes between -2 and 1"):
        ops.sum(np.zeros((2, 3)), axis)


@pytest.mark.keras
def test_dtypes_and_values_as_keras():
    import keras

    x = np.array([[3, 1, 2], [2, 2, 0]])
    cases = [("sum", {}), ("mean", {"axis": 1}), ("prod", {"axis": 0}), ("max", {}), ("std", {})]
    cases += [("argmax", {"axis": 1}), ("cumsum", {"axis": 1}), ("count_nonzero", {}), ("var", {})]
    for name, kwargs in cases:
        for dtype in ("int32", "float32", "bool"):
            if dtype == "bool" and name in ("max", "argmax"):
                continue
            ours = getattr(ops, name)(x.astype(dtype), **kwargs)
            theirs = getattr(keras.ops, name)(x.astype(dtype), **kwargs)
            assert ours.dtype == keras.backend.standardize_dtype(theirs.dtype), (name, dtype)
            np.testing.assert_allclose(ours.numpy(), np.asarray(theirs), rtol=1e-6)
