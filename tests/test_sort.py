"""Order: sorting, the largest, ranks."""

import numpy as np
import pytest

from helpers import randn
from narae import _core, ops
from narae.engine import GradientTape, KerasTensor, Tensor
from narae.engine.recording import RecordedStep
from reference import index as reference

DTYPES = ["float32", "float64", "int32", "int64"]
FLOATS = DTYPES[:2]
# Rows are sorted by insertion up to 48, by digits beyond, in the scratch up to 65536 of 4 bytes.
SHAPES = [(1,), (0,), (3, 0), (0, 3), (5, 2), (4, 17), (3, 48), (3, 49), (2, 3, 300), (2, 70_000)]


def values(shape, dtype, seed=0):
    """Numbers of both signs over a wide range, and many that are equal."""
    x = randn(shape, "float64", seed)
    x = np.where(np.abs(x) < 0.5, np.round(x * 4), np.sign(x) * np.abs(x) ** 9 * 1000)
    return x.astype(dtype)


def special(dtype):
    """One row with everything that has an order of its own."""
    limits = np.finfo(dtype)
    row = [np.nan, 1, -0.0, np.inf, 0.0, -np.inf, limits.tiny / 4, -limits.max, -np.nan, 0.0, -1]
    return np.array(row * 7, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_argsort_is_stable(isa, dtype, shape):
    x = values(shape, dtype)
    y = ops.argsort(x)
    np.testing.assert_array_equal(y, np.argsort(x, -1, kind="stable"))
    assert y.dtype == "int32"
    np.testing.assert_array_equal(ops.sort(x), reference.sort(x))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("count", [11, 77])
def test_nan_infinities_and_zeros(isa, dtype, count):
    x = special(dtype)[:count]
    order = ops.argsort(x).numpy()
    np.testing.assert_array_equal(order, np.argsort(x, kind="stable"))
    np.testing.assert_array_equal(np.signbit(ops.sort(x)), np.signbit(x[order]))  # -0 stays -0


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_extreme_integers(isa, dtype):
    limits = np.iinfo(dtype)
    x = np.array([0, limits.max, -1, limits.min, 1, limits.max - 1] * 10, dtype)
    np.testing.assert_array_equal(ops.sort(x), np.sort(x))
    np.testing.assert_array_equal(ops.top_k(x, 12)[0], np.sort(x)[::-1][:12])


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3, None])
@pytest.mark.parametrize("dtype", ["float32", "uint8", "bool"])
def test_axes(axis, dtype):
    x = (np.abs(randn((3, 4, 5))) * 2).astype(dtype)
    np.testing.assert_array_equal(ops.sort(x, axis), np.sort(x, axis))
    np.testing.assert_array_equal(ops.argsort(x, axis), np.argsort(x, axis, kind="stable"))
    assert ops.sort(x, axis).dtype == dtype


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axis", [0, -1])
def test_sort_backward(isa, dtype, axis):
    x, dy = randn((4, 60), dtype), randn((4, 60), dtype, 1)
    t = Tensor(x)
    with GradientTape() as tape:
        tape.watch(t)
        y = ops.sort(t, axis)
    dx = tape.gradient(y, t, output_gradients=Tensor(dy))
    np.testing.assert_array_equal(dx, reference.sort_backward(dy, x, axis))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, k", [
    ((1,), 1), ((5, 2), 1), ((4, 17), 17), ((3, 100), 5), ((2, 3, 300), 32), ((2, 300), 33),
    ((3, 7), 0), ((0, 3), 2), ((2, 70_000), 3), ((2, 70_000), 100),
])  # fmt: skip
def test_top_k(isa, dtype, shape, k):
    x = values(shape, dtype)
    y, indices = ops.top_k(x, k)
    expected = reference.top_k(x, k)
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(indices, expected[1])
    assert indices.dtype == "int32" and y.dtype == dtype


def test_top_k_backward(isa):
    x, dy = randn((3, 50), "float64"), randn((3, 4), "float64", 1)
    t = Tensor(x)
    with GradientTape() as tape:
        tape.watch(t)
        y = ops.top_k(t, 4)[0]
    dx = tape.gradient(y, t, output_gradients=Tensor(dy))
    np.testing.assert_array_equal(dx, reference.top_k_backward((dy, None), x, 4))


def test_nan_is_the_largest():
    y, indices = ops.top_k(np.array([1, np.nan, 3, np.nan], "float32"), 3)
    assert indices.numpy().tolist() == [1, 3, 2]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("k", [1, 3, 10, 100])
def test_in_top_k(isa, dtype, k):
    x = np.round(randn((200, 10), dtype) * 2)  # with ties
    targets = np.random.default_rng(0).integers(0, 10, 200).astype("int32")
    own = np.take_along_axis(x, targets[:, None], 1)
    np.testing.assert_array_equal(ops.in_top_k(targets, x, k), (x > own).sum(1) < k)


def test_in_top_k_of_nan_is_false():
    assert ops.in_top_k([0, 1], [[np.nan, 1.0], [np.nan, 1.0]], 1).numpy().tolist() == [False, True]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("C", [0, 1, 2, 100])
def test_searchsorted(isa, dtype, side, C):
    x = np.sort(np.random.default_rng(0).integers(-20, 20, C)).astype(dtype)
    v = np.random.default_rng(1).integers(-22, 22, (30, 50)).astype(dtype)
    y = ops.searchsorted(x, v, side)
    np.testing.assert_array_equal(y, np.searchsorted(x, v, side))
    assert y.dtype == "int32"
    np.testing.assert_array_equal(ops.digitize(v, x), np.digitize(v, x))


def test_searchsorted_puts_nan_last():
    x = np.array([-np.inf, 0, 1, np.inf, np.nan], "float32")
    v = np.array([np.nan, np.inf, -0.0, -np.inf], "float32")
    for side in ("left", "right"):
        np.testing.assert_array_equal(ops.searchsorted(x, v, side), np.searchsorted(x, v, side))
    assert ops.searchsorted([1, 2, 3], [2.5]).numpy().tolist() == [2]


def test_threads_do_not_change_the_order(isa):
    x, before, results = values((50, 400), "float32"), _core.num_threads(), []
    for threads in (1, 2, 3):
        _core.set_num_threads(threads)
        results.append((ops.argsort(x).numpy().tobytes(), ops.top_k(x, 7)[1].numpy().tobytes()))
    _core.set_num_threads(before)
    assert len(set(results)) == 1


def test_sorting_is_replayed():
    step = RecordedStep(lambda x: (ops.sort(x), ops.top_k(x, 2)[1]))
    for seed in range(3):
        x = randn((3, 60), seed=seed)
        y, indices = step(x)
        np.testing.assert_array_equal(y.numpy(), np.sort(x))
        np.testing.assert_array_equal(indices.numpy(), reference.top_k(x, 2)[1])
    assert step.recorded


def test_symbols():
    values, indices = ops.top_k(KerasTensor((None, 10)), 3)
    assert values.shape == indices.shape == (None, 3) and indices.dtype == "int32"
    assert ops.argsort(KerasTensor((None, 10))).shape == (None, 10)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: ops.top_k([1.0, 2.0], 3), ValueError, "k between 0 and"),
        (lambda: ops.top_k([1.0, 2.0], -1), ValueError, "k between 0 and"),
        (lambda: ops.top_k(1.0, 1), ValueError, "last axis"),
        (lambda: ops.sort([1.0], axis=1), ValueError, "axis"),
        (lambda: ops.searchsorted([1.0], [1.0], "middle"), ValueError, "side"),
        (lambda: ops.searchsorted([[1.0]], [1.0]), ValueError, "one axis"),
        (lambda: ops.in_top_k([2], [[1.0, 2.0]], 1), IndexError, r"\[0, 2\).*2 at position"),
        (lambda: ops.in_top_k([-1], [[1.0, 2.0]], 1), IndexError, r"\[0, 2\)"),
        (lambda: ops.in_top_k([0, 1], [[1.0, 2.0]], 1), ValueError, "target for each row"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
