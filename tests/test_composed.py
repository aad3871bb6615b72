"""Functions made of other ops, held against NumPy."""

import numpy as np
import pytest

from helpers import randn
from narae import ops
from narae.engine import GradientTape, convert_to_tensor


def same(got, expected):
    np.testing.assert_allclose(got.numpy(), expected, rtol=2e-6, atol=1e-6)


def test_as_numpy():
    x, y = randn((4, 5)), randn((4, 5), seed=1)
    same(ops.diff(x), np.diff(x))
    same(ops.diff(x, 2, 0), np.diff(x, 2, 0))
    same(ops.diff([True, False, False]), np.diff([True, False, False]))
    same(ops.trapezoid(x, dx=0.5), np.trapezoid(x, dx=0.5))
    same(ops.trapezoid(x, np.float32([0, 1, 3, 4]), axis=0), np.trapezoid(x, [0, 1, 3, 4], axis=0))
    same(ops.trapezoid(x, y), np.trapezoid(x, y))
    same(ops.trace(x, 1), np.trace(x, 1))
    same(ops.kron(x, y[0]), np.kron(x, y[0]))
    same(ops.kron(x[:2, :2], y), np.kron(x[:2, :2], y))
    same(ops.cross(x[:, :3], y[:, :3]), np.cross(x[:, :3], y[:, :3]))
    same(ops.cross(x[:3].T, y[:3], axisb=0), np.cross(x[:3].T, y[:3], axisb=0))
    same(ops.cross(x[:, :2], y[:, :2]), x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0])
    same(ops.vander([1.0, 2.0, 3.0]), np.vander([1, 2, 3]))
    same(ops.vander([1, 2, 3], 2, True), np.vander([1, 2, 3], 2, True))
    same(ops.ldexp(x, [1, 2, 3, 4, 5]), np.ldexp(x, [1, 2, 3, 4, 5]))
    same(ops.geomspace(1, 1000, 4), np.geomspace(1, 1000, 4))
    same(ops.ptp(x, 1), np.ptp(x, 1))
    same(ops.angle(x), np.angle(x))
    same(ops.select([x > 1, x > 0], [x, -x], 9.0), np.select([x > 1, x > 0], [x, -x], 9.0))
    for a, b in zip(ops.nonzero(x > 0), np.nonzero(x > 0), strict=True):
        same(a, b)
    assert bool(ops.allclose(x, x + 1e-9)) and not bool(ops.allclose(x, y))
    assert bool(ops.array_equal(x, x)) and not bool(ops.array_equal(x, x[:2]))
    assert ops.isreal(x).numpy().all() and not ops.imag(x).numpy().any()
    same(ops.real(x), x)


def test_control_flow():
    assert float(ops.cond(convert_to_tensor(True), lambda: ops.ones(()), lambda: None)) == 1
    assert ops.switch(5, [lambda x: x, lambda x: 2 * x], 3) == 6
    i, total = ops.while_loop(lambda i, t: i < 4, lambda i, t: (i + 1, t + i), (0, 0))
    assert (i, total) == (4, 6)
    assert ops.while_loop(lambda i: True, lambda i: i + 1, 0, maximum_iterations=3) == 3
    assert ops.fori_loop(1, 5, lambda i, v: v * i, 1) == 24
    x = convert_to_tensor(np.float32([1, 2, 3]))
    same(ops.map(lambda v: v * v, x), [1, 4, 9])
    same(ops.vectorized_map(lambda v: v + 1, x), [2, 3, 4])
    carry, ys = ops.scan(lambda c, v: (c + v, c * v), ops.zeros(()), x)
    assert float(carry) == 6
    same(ys, [0, 2, 9])
    _, ys = ops.scan(lambda c, v: (c + v, c), ops.zeros(()), x, reverse=True)
    same(ys, [5, 3, 0])
    same(ops.associative_scan(lambda a, b: a + b, x), [1, 3, 6])
    same(ops.associative_scan(lambda a, b: a + b, x, reverse=True), [6, 5, 3])
    same(ops.vectorize(lambda a, b: a + b)([1.0, 2.0], [[1.0], [2.0]]), [[2, 3], [3, 4]])


def test_gradient_through_scan():
    x = convert_to_tensor(np.float32([1, 2, 3]))
    with GradientTape() as tape:
        tape.watch(x)
        y, _ = ops.scan(lambda c, v: (c * v, None), ops.ones(()), x)
    same(tape.gradient(y, x), [6, 3, 2])


def test_errors():
    with pytest.raises(ValueError, match="narae.ops.cross: expected vectors"):
        ops.cross(randn((4,)), randn((4,)))
    with pytest.raises(ValueError, match="narae.ops.select: expected as many"):
        ops.select([True], [])
    with pytest.raises(ValueError, match="narae.ops.scan: expected xs or length"):
        ops.scan(lambda c, x: (c, x), 0)
    with pytest.raises(ValueError, match="narae.ops.diff: expected an axis"):
        ops.diff(3.0)
    with pytest.raises(ValueError, match="narae.ops.vectorize: expected neither"):
        ops.vectorize(abs, signature="()->()")
