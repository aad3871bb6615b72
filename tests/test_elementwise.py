"""Arithmetic, comparisons, casts and selection on every instruction set."""

import numpy as np
import pytest

from helpers import assert_close, gradients, randn
from narae import ops
from narae.engine import convert_to_tensor
from reference import elementwise as reference

PAIRS = [
    ((3, 4), (4,)), ((3, 1), (1, 5)), ((2, 3, 4), (3, 1)), ((1,), (5, 2)), ((), (2, 3)),
    ((4, 1, 6, 1), (1, 3, 1, 17)), ((2, 1, 2, 1, 2, 1, 2, 1), (1, 3, 1, 3, 1, 3, 1, 3)),
    ((33,), (33,)), ((300, 200), (200,)), ((300, 200), (300, 1)), ((0, 3), (1, 3)),
]  # fmt: skip


BINARY = [name for name in reference.BINARY if name not in ("floor_divide",)]


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_binary(isa, name, dtype):
    for i, (sa, sb) in enumerate(PAIRS):
        a, b = randn(sa, dtype, seed=i), randn(sb, dtype, seed=i + 50)
        if name == "power":
            a = np.abs(a) + np.asarray(0.5, dtype)
        if name in ("divide", "divide_no_nan", "mod"):
            b = b + np.where(b < 0, -0.5, 0.5).astype(dtype)
        y, (da, db), dy = gradients(getattr(ops, name), a, b)
        wide = a.astype("float64"), b.astype("float64")
        expected = reference.binary(*wide, name)
        if name == "mod":  # on the edge of a multiple, both sides are right
            off = np.abs(y - expected) < 0.5 * np.abs(wide[1])
            expected = np.where(off, expected, y)
        assert_close(y, expected, scale=1 + np.abs(expected))
        ea, eb = reference.binary_backward(dy.astype("float64"), *wide, name)
        with np.errstate(all="ignore"):
            sa, sb = reference.binary_backward(
                np.abs(dy).astype("float64"), *map(np.abs, wide), name
            )
        if name == "mod":
            continue
        assert_close(da, ea, scale=4 * np.sqrt(max(y.size, 1)) * (1 + np.abs(sa)))
        assert_close(db, eb, scale=4 * np.sqrt(max(y.size, 1)) * (1 + np.abs(sb)))


@pytest.mark.parametrize(
    "name",
    [
        "add",
        "subtract",
        "multiply",
        "maximum",
        "minimum",
        "mod",
        "floor_divide",
        "bitwise_and",
        "bitwise_or",
        "bitwise_xor",
    ],
)
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_integers_as_numpy(isa, name, dtype):
    info = np.iinfo(dtype)
    random = np.random.default_rng(3)
    edges = np.array([info.min, info.max, 0, 1, 2, 7, info.max - 1, info.min + 1], dtype)
    a = np.concatenate([edges, random.integers(info.min, info.max, 200, dtype, True)])
    a = a.reshape(-1, 1)
    b = np.concatenate([edges, random.integers(0, 9, 21).astype(dtype)])
    if info.min < 0:
        b = np.concatenate([b, np.array([-1, -2, -7], dtype)])
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(a, b)
    y = getattr(ops, name)(a, b)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.numpy(), expected)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32", "float64", "bool"])
@pytest.mark.parametrize(
    "name",
    [
        "equal",
        "not_equal",
        "less",
        "less_equal",
        "greater",
        "greater_equal",
        "logical_and",
        "logical_or",
        "logical_xor",
    ],
)
def test_comparisons_as_numpy(isa, name, dtype):
    random = np.random.default_rng(4)
    a, b = (random.integers(0, 3, s).astype(dtype) for s in ((37, 1), (1, 33)))
    if dtype.startswith("float"):
        a[:4, 0] = np.nan, np.inf, -np.inf, -0.0
        b[0, :4] = np.nan, np.inf, -np.inf, 0.0
    y = getattr(ops, name)(a, b)
    assert y.dtype == "bool"
    np.testing.assert_array_equal(y.numpy(), getattr(np, name)(a, b))


@pytest.mark.parametrize(
    "name",
    [
        "maximum",
        "minimum",
        "add",
        "multiply",
        "divide",
        "power",
        "mod",
        "floor_divide",
        "arctan2",
        "hypot",
        "logaddexp",
        "fmax",
        "fmin",
        "fmod",
    ],
)
def test_special_values_as_numpy(isa, name):
    v = np.float32([0.0, -0.0, 1, -1, 2.5, -2.5, np.inf, -np.inf, np.nan, 1e-40, 3e38])
    a, b = v[:, None], v[None, :]
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(a, b)
    y = getattr(ops, name)(a, b).numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("source", ["bool", "uint8", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("target", ["bool", "uint8", "int32", "int64", "float32", "float64"])
def test_cast_as_numpy(isa, source, target):
    x = np.array([0, 1, 2, 100, 200, 255, 3.7 if source.startswith("f") else 3]).astype(source)
    x = np.concatenate([x, np.array([-1, -3.7]).astype(source)]) if source[0] in "if" else x
    if source.startswith("float") and target == "uint8":
        x = x[x >= 0]  # what NumPy makes of -1.0 depends on the machine
    y = ops.cast(x, target)
    assert y.dtype == target
    np.testing.assert_array_equal(y.numpy(), x.astype(target))


def test_cast_out_of_range(isa):
    x = np.float64([np.nan, np.inf, -np.inf, 1e30, -1e30])
    assert (ops.cast(x, "int32").numpy() == np.iinfo("int32").min).all()
    assert (ops.cast(x, "int64").numpy() == np.iinfo("int64").min).all()
    assert ops.saturate_cast([-5.0, 300.0, 7.9], "uint8").numpy().tolist() == [0, 255, 7]
    assert ops.saturate_cast([-(2**40), 2**40], "int32").numpy().tolist() == [-(2**31), 2**31 - 1]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "bool"])
def test_where(isa, dtype):
    random = np.random.default_rng(5)
    for shapes in [((5, 33),) * 3, ((33,), (5, 1), ()), ((4, 1), (1, 7), (4, 7))]:
        c = random.random(shapes[0]) < 0.5
        a, b = (random.integers(0, 2, s).astype(dtype) for s in shapes[1:])
        y = ops.where(c, a, b)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.numpy(), np.where(c, a, b))


def test_where_gradient(isa):
    c, a, b = np.random.default_rng(6).random((3, 4)) < 0.5, randn((3, 4)), randn((4,))
    y, (da, db), dy = gradients(lambda a, b: ops.where(c, a, b), a, b)
    ea, eb = reference.where_backward(dy, c, a, b)
    assert_close(da, ea)
    assert_close(db, eb, scale=3 * np.ones(4))
    assert [i.numpy().tolist() for i in ops.where([[True, False], [False, True]])] == [[0, 1]] * 2


@pytest.mark.parametrize("shape, target", [((3, 4), (4,)), ((3, 4), (3, 1)), ((3, 4), ()),
                                           ((2, 3, 4), (1, 3, 1)), ((50_000, 3), (3,)),
                                           ((3, 50_000), (3, 1)), ((200, 3, 90), (3, 1)),
                                           ((100_000,), (1,)), ((0, 3), (3,)),
                                           ((3, 40_000), (40_000,)), ((70, 5000), (5000,)),
                                           ((2, 9, 8200), (2, 1, 8200))])  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sum_to_shape(isa, shape, target, dtype):
    x = randn(shape, dtype)
    y = ops.sum_to_shape(x, target).numpy()
    scale = reference.unbroadcast(np.abs(x).astype("float64"), target)
    assert_close(y, reference.unbroadcast(x.astype("float64"), target), "reduction", scale=scale)


def test_same_bits_for_any_number_of_threads():
    from narae.engine import config

    x, before = randn((70_000, 3)), config.num_threads()
    results = []
    for threads in (1, 2, 5):
        config.set_num_threads(threads)
        results.append((ops.sum_to_shape(x, (3,)).numpy(), ops.tanh(x).numpy(), (x * x)))
    config.set_num_threads(before)
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other))


def test_python_numbers_are_weak():
    x = convert_to_tensor(np.float32([1, 2]))
    assert (x + 1).dtype == (1 / x).dtype == (x * 2.5).dtype == "float32"
    assert (convert_to_tensor([1, 2]) + 1).dtype == "int32"
    assert (convert_to_tensor([1, 2]) * 0.5).dtype == "float32"
    assert (convert_to_tensor([1, 2]) / 2).dtype == "float32"
    assert (convert_to_tensor([True]) + 1).dtype == "int32"
    assert (np.float64([1.0]) * x).dtype == "float64"
    assert (x * np.float64(2.0)).dtype == "float32"  # a NumPy float is a Python float
    assert (-x).numpy().tolist() == [-1, -2] and (2**x).numpy().tolist() == [2, 4]


def test_power_by_numbers(isa):
    x = randn((37,))
    for exponent in (0, 1, 2, 3, -1, 0.5):
        positive = np.abs(x) + np.float32(0.1)
        y, (dx,), dy = gradients(lambda x, e=exponent: ops.power(x, e), positive)
        wide = positive.astype("float64")
        assert_close(y, wide**exponent, scale=1 + wide**exponent)
        slope = exponent * wide ** (exponent - 1) * dy
        if dx is not None:
            assert_close(dx, slope, scale=4 * np.abs(slope) + 1)


def test_the_rest_as_numpy(isa):
    x = np.float32([-2.5, -0.5, 0, 0.5, 1.25, 30])
    np.testing.assert_array_equal(ops.heaviside(x, 0.5).numpy(), np.heaviside(x, 0.5))
    close = ops.isclose(np.float32([1, np.inf, np.nan]), np.float32([1 + 1e-6, np.inf, np.nan]))
    assert close.numpy().tolist() == [True, True, False]
    np.testing.assert_array_equal(ops.left_shift([1, 3], 4).numpy(), [16, 48])
    np.testing.assert_array_equal(ops.right_shift([-16, 48], 4).numpy(), [-1, 3])
    np.testing.assert_array_equal(ops.logaddexp2([1.0], [1.0]).numpy(), [2.0])


def test_errors():
    with pytest.raises(ValueError, match="narae.ops.add: expected shapes that broadcast"):
        ops.add(randn((3,)), randn((4,)))
    with pytest.raises(TypeError, match="narae.ops.subtract: expected numbers"):
        ops.subtract([True], [False])
    with pytest.raises(TypeError, match="narae.ops.bitwise_and: expected integers"):
        ops.bitwise_and(1.5, 2.5)
    with pytest.raises(ValueError, match="narae.ops.where: expected both x1 and x2"):
        ops.where([True], [1.0])
    with pytest.raises(ValueError, match="narae.ops.broadcast_to: expected a shape"):
        ops.broadcast_to(randn((3,)), (4,))
    with pytest.raises(ValueError, match="narae: expected a dtype out of"):
        ops.cast([1.0], "complex64")
    with pytest.raises(ValueError, match="narae.ops.multiply: expected at most 8 dimensions"):
        ops.multiply(randn((2, 1) * 5), randn((1, 2) * 5))
