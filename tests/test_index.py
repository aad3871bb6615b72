"""Reading and writing by index: values, gradients, range checks, threads, recordings."""

import itertools

import numpy as np
import pytest

from helpers import assert_close, randn
from narae import _core, ops, random
from narae.engine import GradientTape, KerasTensor, Tensor
from narae.engine.recording import RecordedStep
from narae.training.data import gather_rows
from reference import index as reference

DTYPES = ["float32", "float64", "int32", "int64", "uint8", "bool"]
NUMBERS = DTYPES[:4]
FLOATS = DTYPES[:2]

# (A, R, B) and count: sizes before, along and behind the axis, and the number of indices
SHAPES = [
    ((1, 1, 1), 1), ((1, 5, 1), 7), ((3, 4, 1), 5), ((1, 3, 2), 4), ((2, 3, 7), 5), ((1, 9, 16), 3),
    ((1, 50, 17), 40), ((4, 6, 33), 2), ((1, 7, 65), 30), ((2, 2, 1000), 3), ((1, 300, 64), 2000),
    ((1, 2000, 1), 30), ((1, 4, 0), 3), ((0, 4, 2), 3), ((2, 3, 4), 0), ((1, 3000, 128), 500),
]  # fmt: skip


def numbers(shape, dtype, seed=0):
    """Small integers for integer dtypes, normal numbers for floats."""
    x = randn(shape, "float64", seed) * 5
    return (np.abs(x) % 5 > 2 if dtype == "bool" else np.abs(x) if dtype == "uint8" else x).astype(
        dtype
    )


def places(shape, size, dtype="int64", seed=0, negative=True):
    """Indices for an axis, negative ones among them."""
    low = -size if negative else 0
    return np.random.default_rng((seed, size)).integers(low, size, shape).astype(dtype)


def gradient(function, x, dy):
    x = Tensor(x)
    with GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x, output_gradients=Tensor(dy)).numpy()


def threads_agree(function):
    """Asserts that any number of threads gives the same bits, and returns them."""
    before, results = _core.num_threads(), []
    for threads in (1, 2, 3):
        _core.set_num_threads(threads)
        results.append(np.asarray(function()))
    _core.set_num_threads(before)
    assert len({r.tobytes() for r in results}) == 1
    return results[0]


# ---- take --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, count", SHAPES)
def test_take(isa, dtype, shape, count):
    x, indices = numbers(shape, dtype), places(count, shape[1], "int32")
    y = threads_agree(lambda: ops.take(x, indices, axis=1))
    np.testing.assert_array_equal(y, reference.take(x, indices, 1))
    assert y.dtype == dtype


@pytest.mark.parametrize("width", [512, 500])  # rows of whole registers, and others
def test_large_results_are_streamed(isa, width):
    x, indices = randn((2, 5, width)), places(4500, 5)
    y = threads_agree(lambda: ops.take(x, indices, axis=1))
    assert y.nbytes > 2**24
    np.testing.assert_array_equal(y, np.take(x, indices, axis=1, mode="wrap"))


@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_any_index_out_of_range_is_found(dtype, wrap):
    limits = np.iinfo(dtype)
    good = np.arange(0 if not wrap else -7, 7, dtype=dtype)
    expected = good % 7
    np.testing.assert_array_equal(_core.index_resolve("f", good[:, None], (7,), wrap), expected)
    for bad in (7, -8 if wrap else -1, limits.min, limits.max):
        given = np.append(good, np.asarray(bad, dtype))
        with pytest.raises(IndexError, match=rf"narae.ops.f: .*Received: {bad} at position"):
            _core.index_resolve("f", given[:, None], (7,), wrap)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape, count", SHAPES)
def test_take_backward(isa, dtype, shape, count):
    x, indices = numbers(shape, dtype), places(count, shape[1])
    dy = randn((shape[0], count, shape[2]), dtype, 1)
    dx = threads_agree(lambda: gradient(lambda x: ops.take(x, indices, 1), x, dy))
    expected = reference.take_backward(dy.astype("float64"), x, indices % max(shape[1], 1), 1)
    scale = reference.take_backward(np.abs(dy).astype("float64"), x, indices % shape[1], 1)
    assert_close(dx, expected, "reduction", scale)


PLACES = np.array([[0, 1], [1, -1], [1, 0]])


@pytest.mark.parametrize("axis", [0, 1, 2, -1, None])
@pytest.mark.parametrize("index_shape", [(), (4,), (2, 3), (0,), (2, 0)])
def test_take_axes_and_shapes_of_indices(axis, index_shape):
    x = numbers((3, 4, 5), "float32")
    indices = places(index_shape, 3, "int32")
    np.testing.assert_array_equal(ops.take(x, indices, axis), np.take(x, indices, axis))


@pytest.mark.parametrize(
    "key",
    [
        (slice(None), PLACES, ..., -1, slice(0, 1)), (slice(None), PLACES, ..., 0, 0),
        (slice(None), PLACES, 0), (..., PLACES, 0), (0, ..., PLACES, 1), (PLACES, PLACES, ...),
        (slice(1, 3), 1, ..., PLACES), (slice(None), PLACES, None, 1),
    ],
)  # fmt: skip
def test_items_by_arrays_as_numpy_has_them(key):
    """Index arrays that a slice, None or `...`, even of no axes, keeps apart come first."""
    x = numbers((4, 3, 2, 2), "float32")
    np.testing.assert_array_equal(Tensor(x)[key], x[key])


def test_take_accepts_lists_and_narrow_integers():
    x = [10.0, 20.0, 30.0]
    assert ops.take(x, [2, -3]).numpy().tolist() == [30, 10]
    assert ops.take(x, np.array([2, -3], "int8")).numpy().tolist() == [30, 10]
    assert ops.take(x, np.array([1], "uint16")).numpy().tolist() == [20]
    assert ops.take(x, []).shape == (0,)
    assert ops.take(KerasTensor((None, 7)), [1, 2], axis=1).shape == (None, 2)
    assert ops.take(x, KerasTensor((None, 7), "int32"), axis=0).shape == (None, 7)


def test_repeated_indices_add_up_in_order(isa):
    # 1e8 + 1 rounds to 1e8 in float32: only the order of the terms tells the sum
    dy = np.array([1e8, 1, -1e8, 1], "float32")
    dx = gradient(lambda x: ops.take(x, [2, 2, 2, 2], 0), np.zeros(3, "float32"), dy)
    assert dx.tolist() == [0, 0, 1]
    wide = np.repeat(dy[:, None], 5000, 1)
    table = np.zeros((3, 5000), "float32")
    dx = threads_agree(lambda: gradient(lambda x: ops.take(x, [2, 2, 2, 2], 0), table, wide))
    np.testing.assert_array_equal(dx[2], np.ones(5000))


@pytest.mark.parametrize("bad", [5, -6, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63)])
def test_an_index_out_of_range_is_an_index_error(isa, bad):
    x = np.zeros((2, 5, 3), "float32")
    indices = np.array([[0, 1], [bad, 99]])
    with pytest.raises(IndexError, match=rf"take.*\[-5, 5\).*{bad} at position \(1, 0\)"):
        ops.take(x, indices, axis=1)
    with pytest.raises(IndexError, match=f"take_along_axis.*{bad}"):
        ops.take_along_axis(x, np.full((2, 1, 3), bad), axis=1)
    with pytest.raises(IndexError, match=f"scatter.*{bad}"):
        ops.scatter([[bad]], [1.0], (5,))
    with pytest.raises(IndexError, match=f"scatter_update.*for axis 1.*{bad}"):
        ops.scatter_update(x, [[1, bad]], np.zeros((1, 3), "float32"))
    with pytest.raises(IndexError, match=rf"segment_sum.*\[0, 5\).*{bad}"):
        ops.segment_sum([1.0], [bad], 5)
    with pytest.raises(IndexError, match=f"get_item.*{bad}"):
        Tensor(x)[:, np.array([bad])]


def test_indices_into_nothing():
    assert ops.take(np.zeros((0, 3)), np.zeros(0, "int32"), axis=0).shape == (0, 3)
    with pytest.raises(IndexError, match=r"\[0, 0\)"):
        ops.take(np.zeros((0, 3)), [0], axis=0)


def test_replays_check_their_indices():
    table = np.arange(10.0, dtype="float32").reshape(5, 2)
    step = RecordedStep(lambda ids: ops.take(table, ids, axis=0))
    for ids in ([0, 4], [1, -1]):
        np.testing.assert_array_equal(step(np.array(ids, "int32")).numpy(), table[ids])
    with pytest.raises(IndexError, match="5 at position"):
        step(np.array([0, 5], "int32"))
    np.testing.assert_array_equal(step(np.array([3, 3], "int32")).numpy(), table[[3, 3]])
    assert step.recorded


# ---- along an axis -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, count", SHAPES)
def test_take_along_axis(isa, dtype, shape, count):
    x, indices = numbers(shape, dtype), places((shape[0], count, shape[2]), shape[1], "int32")
    y = threads_agree(lambda: ops.take_along_axis(x, indices, axis=1))
    np.testing.assert_array_equal(y, reference.take_along_axis(x, indices, 1))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape, count", [s for s in SHAPES if 0 not in s[0]])
def test_take_along_axis_backward(isa, dtype, shape, count):
    x, indices = numbers(shape, dtype), places((shape[0], count, shape[2]), shape[1])
    dy = randn(indices.shape, dtype, 1)
    dx = threads_agree(lambda: gradient(lambda x: ops.take_along_axis(x, indices, 1), x, dy))
    at = indices % shape[1]
    expected = reference.take_along_axis_backward(dy.astype("float64"), x, at, 1)
    scale = reference.take_along_axis_backward(np.abs(dy).astype("float64"), x, at, 1)
    assert_close(dx, expected, "reduction", scale)


@pytest.mark.parametrize("axis", [0, 1, -1, None])
def test_take_along_axis_broadcasts(axis):
    x = numbers((3, 4), "float32")
    indices = places((2,) if axis is None else (1, 2) if axis else (2, 1), 3)
    np.testing.assert_array_equal(
        ops.take_along_axis(x, indices, axis), np.take_along_axis(x, indices, axis)
    )


# ---- scatter -----------------------------------------------------------------------------------

SCATTERS = [((5,), 1, 3), ((4, 3), 1, 9), ((4, 3), 2, 6), ((3, 4, 33), 2, 20), ((300, 64), 1, 2000)]


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("shape, K, N", SCATTERS)
def test_scatter(isa, dtype, shape, K, N):
    indices = np.stack([places(N, n, seed=k) for k, n in enumerate(shape[:K])], -1)
    values = numbers((N, *shape[K:]), dtype)
    y = threads_agree(lambda: ops.scatter(indices, values, shape))
    wide = values.astype("float64")
    scale = reference.scatter(indices, np.abs(wide), shape)
    expected = reference.scatter(indices, wide, shape)
    assert_close(y, expected, "exact" if "int" in dtype else "reduction", scale)
    dy = randn(shape, "float64", 3)
    dvalues = gradient(lambda v: ops.scatter(indices, v, shape), wide, dy)
    np.testing.assert_array_equal(dvalues, reference.scatter_backward(dy, indices, values, shape))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, K, N", [((5,), 1, 3), ((4, 3), 2, 6), ((300, 64), 1, 200)])
def test_scatter_update(isa, dtype, shape, K, N):
    x, values = numbers(shape, dtype), numbers((N, *shape[K:]), dtype, 1)
    flat = np.random.default_rng(0).permutation(np.prod(shape[:K]))[:N]
    indices = np.stack(np.unravel_index(flat, shape[:K]), -1)
    y = threads_agree(lambda: ops.scatter_update(x, indices, values))
    np.testing.assert_array_equal(y, reference.scatter_update(x, indices, values))
    if dtype in FLOATS:
        dy, a, b = randn(shape, dtype, 3), Tensor(x), Tensor(values)
        with GradientTape() as tape:
            tape.watch([a, b])
            y = ops.scatter_update(a, indices, b)
        found = tape.gradient(y, [a, b], output_gradients=Tensor(dy))
        expected = reference.scatter_update_backward(dy, x, indices, values)
        for g, e in zip(found, expected):
            np.testing.assert_array_equal(g, e)


def test_of_equal_places_the_last_counts(isa):
    y = ops.scatter_update(np.zeros(3, "float32"), [[1], [1], [-2]], [1.0, 2.0, 3.0])
    assert y.numpy().tolist() == [0, 3, 0]


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize(
    "reduction, ufunc",
    [("add", np.add), ("max", np.maximum), ("min", np.minimum), ("mul", np.multiply)],
)
def test_scatter_update_with_a_reduction(isa, dtype, reduction, ufunc):
    x, values = numbers((6, 19), dtype), numbers((9, 19), dtype, 1)
    indices = places(9, 6)
    expected = x.astype("float64")
    ufunc.at(expected, indices, values.astype("float64"))
    y = ops.scatter_update(x, indices[:, None], values, reduction).numpy()
    scale = None if "int" in dtype else 100 * np.ones_like(expected)
    assert_close(y, expected.astype(dtype), scale=scale)
    np.testing.assert_array_equal(x, numbers((6, 19), dtype))  # the input is as it was


def test_the_gradient_of_scatter_update_by_adding():
    x = np.zeros((3, 2), "float32")
    dy, updates = randn((3, 2)), np.ones((2, 2), "float32")
    dx = gradient(lambda x: ops.scatter_update(x, [[1], [1]], updates, "add"), x, dy)
    np.testing.assert_array_equal(dx, dy)
    du = gradient(lambda u: ops.scatter_update(x, [[1], [1]], u, "add"), updates, dy)
    np.testing.assert_array_equal(du, dy[[1, 1]])


# ---- segments ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("shape, count", [((7,), 3), ((20, 5), 4), ((1000, 33), 50), ((0, 2), 3)])
def test_segments(isa, dtype, shape, count):
    x, ids = numbers(shape, dtype), places(shape[0], count, "int32", negative=False)
    wide = x.astype("float64")
    total = threads_agree(lambda: ops.segment_sum(x, ids, count))
    kind = "exact" if "int" in dtype else "reduction"
    scale = reference.segment_sum(np.abs(wide), ids, count)
    assert_close(total, reference.segment_sum(wide, ids, count), kind, scale)
    limits = np.iinfo(dtype) if "int" in dtype else None
    low, high = (limits.min, limits.max) if limits else (-np.inf, np.inf)
    for function, ufunc, start in (
        (ops.segment_max, np.maximum, low),
        (ops.segment_min, np.minimum, high),
    ):
        expected = np.full((count, *shape[1:]), start, dtype)
        ufunc.at(expected, ids, x)
        np.testing.assert_array_equal(function(x, ids, count), expected)


def test_segment_gradients():
    x, ids = randn((6, 2), "float64"), np.array([0, 2, 0, 2, 2, 0])
    x[4] = x[3] = 9.0  # equal maxima share the gradient
    dy = randn((4, 2), "float64", 1)
    np.testing.assert_array_equal(
        gradient(lambda x: ops.segment_sum(x, ids, 4), x, dy),
        reference.segment_sum_backward(dy, x, ids, 4),
    )
    dx = gradient(lambda x: ops.segment_max(x, ids, 4), x, dy)
    np.testing.assert_allclose(dx[[1, 3, 4]], dy[2] * np.array([[0], [0.5], [0.5]]))
    zero = x[[0, 2, 5]] == x[[0, 2, 5]].max(0)
    np.testing.assert_allclose(dx[[0, 2, 5]], dy[0] * zero)


def test_segments_are_counted_when_not_given():
    assert ops.segment_sum([1.0, 2.0], [3, 0]).numpy().tolist() == [2, 0, 0, 1]
    assert ops.segment_prod([3.0, 2.0, 5.0], [1, 1, 2], 4).numpy().tolist() == [1, 6, 5, 1]
    assert ops.segment_sum(np.array([True, True]), [0, 0], 1).numpy().tolist() == [2]


@pytest.mark.parametrize("weights", [None, "int32", "float32", "float64"])
@pytest.mark.parametrize("minlength", [0, 3, 20])
def test_bincount(isa, weights, minlength):
    x = places(100, 9, negative=False)
    w = None if weights is None else np.arange(100).astype(weights)
    y = ops.bincount(x, w, minlength).numpy()
    np.testing.assert_array_equal(y, np.bincount(x, w, minlength))
    assert y.dtype == (weights or "int32")
    rows = ops.bincount(x.reshape(4, 25), None if w is None else w.reshape(4, 25), 9).numpy()
    for n in range(4):
        part = slice(25 * n, 25 * n + 25)
        np.testing.assert_array_equal(
            rows[n], np.bincount(x[part], None if w is None else w[part], 9)
        )


# ---- one and many hot --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (0,), (2, 3, 4), (5000,)])
def test_one_hot(isa, dtype, shape):
    x = np.random.default_rng(0).integers(-2, 9, shape)  # outside of [0, 7) too
    y = ops.one_hot(x, 7, dtype=dtype)
    np.testing.assert_array_equal(y, reference.one_hot(x, 7))
    assert y.dtype == dtype


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
def test_one_hot_axes(axis):
    x = places((3, 5), 4, negative=False)
    expected = np.moveaxis(reference.one_hot(x, 4), -1, axis)
    np.testing.assert_array_equal(ops.one_hot(x, 4, axis), expected)


@pytest.mark.parametrize("shape", [(4,), (3, 5), (0, 5), (3, 0), (3, 5, 2)])
def test_multi_hot(isa, shape):
    x = np.random.default_rng(0).integers(-1, 8, shape)
    expected = reference.one_hot(x, 7)
    expected = expected.max(0 if len(shape) == 1 else 1, initial=0)
    np.testing.assert_array_equal(ops.multi_hot(x, 7), expected)
    assert ops.multi_hot(KerasTensor((None, 5), "int32"), 7).shape == (None, 7)


# ---- indexing ----------------------------------------------------------------------------------

A = np.array
KEYS = [
    A([1, 0, -1]), A([[0, 1], [2, 0]]), (A([0, 1]), A([3, -1])), (slice(None), A([2, 0])),
    (slice(None), A([2, 0]), 1), (0, slice(None), A([1, 2])), (A([0, 1]), slice(1, 3), A([0, 4])),
    (..., A([1, 1])), (None, A([1, 2])), (A([[0], [2]]), A([1, 3])), (A([0]), None, A([1])),
    (slice(None, None, -1), slice(1, None, 2), A([4, 0, 4])), (A(2), A([0, 1, 2])),
    (A([True, False, True]),), (slice(None), A([True, False, True, False]), A([1, 2])),
    np.arange(12).reshape(3, 4) % 3 == 0, (A([], dtype="int64"),), ([0, 2], [1, 1]),
    (1, ..., A([0, 2])), (A([1]), A([2]), A([3])),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing_with_arrays(key):
    x = randn((3, 4, 5), "float64")
    expected = x[key]
    np.testing.assert_array_equal(Tensor(x)[key], expected)
    dy = randn(expected.shape, "float64", 1)
    dx = np.zeros_like(x)
    np.add.at(dx, key, dy)
    np.testing.assert_allclose(gradient(lambda x: x[key], x, dy), dx, rtol=1e-14)


def test_indexing_with_tensors_is_replayed():
    x = Tensor(randn((4, 5)))
    step = RecordedStep(lambda i, j: x[i, j])
    for i, j in (([0, 1], [2, 3]), ([-1, 2], [0, 0])):
        np.testing.assert_array_equal(step(A(i), A(j)).numpy(), x.array[i, j])
    with pytest.raises(IndexError, match="for axis 1"):
        step(A([0, 0]), A([0, 5]))
    assert step.recorded


@pytest.mark.parametrize(
    "key, message",
    [
        ((A([0, 1]), A([0, 1, 2])), "broadcast"),
        ((0, 0, A([0]), 0), "at most 3 indices"),
        ((..., A([0]), ...), r"one `\.\.\.`"),
        (True, "truth value"),
        (A([3]), r"\[-3, 3\)"),
    ],
)
def test_bad_indexing(key, message):
    with pytest.raises(IndexError, match=message):
        Tensor(np.zeros((3, 4, 5)))[key]


def test_unravel_index():
    flat = np.arange(-24, 24)
    for found, expected in zip(
        ops.unravel_index(flat, (2, 3, 4)), np.unravel_index(flat % 24, (2, 3, 4))
    ):
        np.testing.assert_array_equal(found, expected)


# ---- derivatives of derivatives, names, rows ---------------------------------------------------


def test_gradients_of_gradients():
    x, ids = Tensor(randn((5, 3), "float64")), A([1, 1, 4])
    functions = [
        lambda x: ops.take(x, ids, 0),
        lambda x: ops.take_along_axis(x, A([[0, 1, 0]]), 0),
        lambda x: ops.scatter(ids[:, None], x[:3], (5, 3)),
        lambda x: ops.segment_sum(x, A([0, 1, 1, 0, 0]), 2),
        lambda x: ops.scatter_update(x, [[1]], x[:1]),
    ]  # fmt: skip
    for f in functions:
        with GradientTape() as outer:
            outer.watch(x)
            with GradientTape() as inner:
                inner.watch(x)
                y = ops.sum(f(x) ** 3)
            g = inner.gradient(y, x)
            s = ops.sum(g * x)
        found = outer.gradient(s, x).numpy()  # of x . grad y = 3 y: 3 grad y
        np.testing.assert_allclose(found, 3 * g.numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: ops.take([1.0], [0.5]), TypeError, "integers"),
        (lambda: ops.take([1.0], [0], axis=1), ValueError, "axis"),
        (lambda: ops.take_along_axis(np.ones((2, 3)), [[0], [0], [0]], 1), ValueError, "x's shape"),
        (lambda: ops.take_along_axis(np.ones((2, 3)), [0], 1), ValueError, "x's shape"),
        (lambda: ops.scatter([[0]], [1.0, 2.0], (3,)), ValueError, "values"),
        (lambda: ops.scatter([0], [1.0], (3,)), ValueError, "values"),
        (lambda: ops.scatter([[0, 0]], [1.0], (3,)), ValueError, "indices"),
        (lambda: ops.scatter_update([1.0], [[0]], [[1.0]]), ValueError, "updates|values"),
        (lambda: ops.scatter_update([1.0], [[0]], [1.0], "mean"), ValueError, "reduction"),
        (lambda: ops.segment_sum([1.0, 2.0], [0], 1), ValueError, "segment for each row"),
        (lambda: ops.segment_sum([1.0], [-1], 1), IndexError, "segment_sum"),
        (lambda: ops.bincount([-1]), ValueError, ">= 0"),
        (lambda: ops.bincount([1], [1.0, 2.0]), ValueError, "weights"),
        (lambda: ops.one_hot([0], -1), ValueError, "num_classes"),
        (lambda: ops.one_hot([0], 3, axis=2), ValueError, "axis"),
        (lambda: ops.multi_hot([0]), ValueError, "num_classes"),
        (lambda: ops.one_hot([0], 3, sparse=True), NotImplementedError, "sparse"),
        (lambda: ops.unravel_index([6], (2, 3)), IndexError, "6"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_bindings_check_shapes():
    x, flat = np.zeros((3, 4), "float32"), np.zeros(2, "int64")
    with pytest.raises(ValueError, match="axis"):
        _core.index_take(x, flat, 2)
    with pytest.raises(ValueError, match="axes of the indices"):
        _core.index_combine("add", None, x, flat, 0, 5)
    with pytest.raises(ValueError, match="x of shape"):
        _core.index_combine("add", np.zeros((5, 3), "float32"), x[:2], flat, 0, 5)
    with pytest.raises(ValueError, match="dtype"):
        _core.index_update(np.zeros((5, 4), "int32"), x[:2], flat)
    with pytest.raises(ValueError, match="x's shape"):
        _core.index_take_along_axis(x, flat, 0)
    with pytest.raises(TypeError, match="layout"):
        _core.index_take(x.T, flat, 0)
    with pytest.raises(TypeError, match="int64"):
        _core.index_take(x, flat.astype("int32"), 0)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "bool", "complex128", "int16"])
@pytest.mark.parametrize("shape", [(10,), (10, 3), (10, 28, 28), (10, 0), (1000, 65)])
def test_gather_rows(isa, dtype, shape):
    source = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    indices = np.random.default_rng(1).integers(0, shape[0], 137)
    y = threads_agree(lambda: gather_rows(source, indices))
    np.testing.assert_array_equal(y, source[indices])
    out = np.empty_like(y)
    assert gather_rows(source, indices.tolist(), out) is out
    np.testing.assert_array_equal(out, y)


def test_gather_rows_checks():
    source = np.zeros((10, 3), "float32")
    for bad in (10, -1, 2**63 - 1, -(2**63)):
        with pytest.raises(IndexError, match=rf"\[0, 10\).*{bad} at position 1"):
            gather_rows(source, [0, bad])
    for out in (np.zeros((3, 3), "float32"), np.zeros((2, 3)), np.zeros((2, 4), "float32")):
        with pytest.raises(ValueError, match="gather_rows"):
            gather_rows(source, [0, 1], out)
    with pytest.raises(TypeError, match="layout"):
        gather_rows(source[:, ::2], [0, 1])
    read_only = np.zeros((2, 3), "float32")
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        gather_rows(source, [0, 1], read_only)


def test_shuffling_has_a_gradient():
    x, dy = randn((6, 2), "float64"), randn((6, 2), "float64", 1)
    dx = gradient(lambda x: random.shuffle(x, seed=3), x, dy)
    order = random.permutation(6, seed=3).numpy()
    np.testing.assert_array_equal(dx[order], dy)


def test_empty_scatters():
    for shape, n in itertools.product([(0, 3), (3, 0)], (0, 2)):
        indices = np.zeros((n if shape[0] else 0, 1), "int32")
        y = ops.scatter(indices, np.zeros((len(indices), shape[1])), shape)
        np.testing.assert_array_equal(y, np.zeros(shape))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("width", [1, 40])
def test_integers_wrap_around(isa, dtype, width):
    x = np.full((1, width), np.iinfo(dtype).max, dtype)
    twice = ops.scatter_update(x, [[0]], x, "add")
    np.testing.assert_array_equal(twice, np.full_like(x, -2))
    np.testing.assert_array_equal(ops.scatter_update(x, [[0]], x, "mul"), np.ones_like(x))
