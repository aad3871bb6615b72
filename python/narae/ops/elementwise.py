"""Arithmetic and comparisons, element by element, with broadcasting.

Dtypes: Python numbers take the dtype of the other operand; float wins over int (see
`narae.engine.dtypes`). Gradients are made of ops, so they can be differentiated again.
"""

import functools
from typing import Any

import numpy as np

from narae import _core
from narae.engine import Tensor, config, convert_to_tensor, dtypes, is_tracked, op, record
from narae.engine.tensor import autocast

__all__ = [
    "add", "arctan2", "bitwise_and", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift",
    "bitwise_xor", "broadcast_to", "cast", "divide", "divide_no_nan", "equal", "floor_divide",
    "greater", "greater_equal", "heaviside", "hypot", "left_shift", "less", "less_equal", "log",
    "logical_and", "logical_or", "logical_xor", "maximum", "minimum", "mod", "multiply",
    "negative", "not_equal", "power", "reciprocal", "right_shift", "sqrt", "square", "subtract",
    "sum_to_shape", "true_divide", "where",
]  # fmt: skip


# ---- operands ---------------------------------------------------------
def _kind(x) -> type | str:
    """Returns x's dtype, or the Python type of a plain number, which is weak."""
    return bool if isinstance(x, bool) else int if isinstance(x, int) else float


def operands(*xs) -> tuple[Tensor, ...]:
    """Returns all as Tensors of their common dtype."""
    if len(xs) == 2 and isinstance(xs[0], Tensor):  # the usual pairs, without delay
        kind = xs[0].array.dtype
        if isinstance(xs[1], Tensor):
            if kind is xs[1].array.dtype and autocast.dtype is None:
                return xs
        elif type(xs[1]) is float and kind.kind == "f" and autocast.dtype is None:
            return xs[0], Tensor(np.array(xs[1], kind))
    plain = [isinstance(x, (bool, int, float)) for x in xs]
    if all(plain):
        xs, plain = [convert_to_tensor(x) for x in xs], [False] * len(xs)
    xs = [x if weak else convert_to_tensor(x) for x, weak in zip(xs, plain)]
    dtype = dtypes.result_type(*(_kind(x) if weak else x.dtype for x, weak in zip(xs, plain)))
    return tuple(
        Tensor(np.asarray(x, dtype)) if weak else x if x.dtype == dtype else cast(x, dtype)
        for x, weak in zip(xs, plain)
    )


def floating(x: Any) -> Tensor:
    """Returns x as a Tensor of floats: integers become floatx."""
    x = convert_to_tensor(x)
    return x if dtypes.is_float(x.dtype) else cast(x, config.floatx())


def floating_operands(x1, x2) -> tuple[Tensor, Tensor]:
    x1, x2 = operands(x1, x2)
    return (x1, x2) if dtypes.is_float(x1.dtype) else (floating(x1), floating(x2))


# ---- helpers for gradients ---------------------------------------------------------
@op
def sum_to_shape(x: Any, shape: tuple[int, ...]) -> Tensor:
    """Sums `x` down to a shape that broadcasts to its own: the gradient of `broadcast_to`."""
    x = convert_to_tensor(x)
    if x.shape == tuple(shape):
        return x
    y = Tensor(_core.sum_to_shape(x.array, tuple(shape)))
    return record(y, (x,), lambda dy: (broadcast_to(dy, x.shape),))


@op
def broadcast_to(x: Any, shape: tuple[int, ...]) -> Tensor:
    """Repeats `x` to a shape, by NumPy's rules of broadcasting."""
    x, shape = convert_to_tensor(x), tuple(shape)
    if x.shape == shape:
        return x
    if len(shape) < x.ndim or any(
        n not in (1, m) for n, m in zip(x.shape, shape[len(shape) - x.ndim :])
    ):
        raise ValueError(
            "narae.ops.broadcast_to: expected a shape that x broadcasts to. "
            f"Received: x.shape={x.shape}, shape={shape}"
        )
    y = Tensor(_core.contiguous(np.broadcast_to(x.array, shape)))
    return record(y, (x,), lambda dy: (sum_to_shape(dy, x.shape),))


def _binary(kernel, a, b, slopes):
    """y = kernel(a, b). slopes: functions of dy for the gradients of a and of b, before summing."""
    y = Tensor(kernel(a.array, b.array))
    wanted = is_tracked(a), is_tracked(b)
    if not any(wanted):
        return record(y, (a, b), None)

    def backward(dy):
        return tuple(
            sum_to_shape(slope(dy), x.shape) if want else None
            for x, want, slope in zip((a, b), wanted, slopes)
        )

    return record(y, (a, b), backward)


def constant(array: np.ndarray) -> Tensor:
    """Returns a Tensor through which no gradient flows."""
    return record(Tensor(array), (), None)


def of_input(kernel, x, slope):
    """y = kernel(x) with dy/dx = slope(x)."""
    return record(Tensor(kernel(x.array)), (x,), lambda dy: (multiply(dy, slope(x)),))


def of_output(x: Tensor, y: np.ndarray, slope) -> Tensor:
    """Records y with dy/dx = slope(y).

    The gradient keeps y's array, not the Tensor, whose node would then keep itself alive.
    """
    return record(Tensor(y), (x,), lambda dy: (multiply(dy, slope(of_output(x, y, slope))),))


# ---- arithmetic ---------------------------------------------------------
@op
def add(x1: Any, x2: Any) -> Tensor:
    """Computes `x1 + x2`, element by element.

    Args:
        x1, x2: tensors or numbers whose shapes broadcast.

    >>> narae.ops.add([1, 2], 0.5).numpy()
    array([1.5, 2.5], dtype=float32)
    """
    a, b = operands(x1, x2)
    if a.dtype == "bool":
        return logical_or(a, b)
    return _binary(_core.add, a, b, (lambda dy: dy, lambda dy: dy))


@op
def subtract(x1: Any, x2: Any) -> Tensor:
    """Computes `x1 - x2`."""
    a, b = numbers("subtract", x1, x2)
    return _binary(_core.subtract, a, b, (lambda dy: dy, negative))


@op
def multiply(x1: Any, x2: Any) -> Tensor:
    """Computes `x1 * x2`."""
    a, b = operands(x1, x2)
    if a.dtype == "bool":
        return logical_and(a, b)
    return _binary(_core.multiply, a, b, (lambda dy: multiply(dy, b), lambda dy: multiply(dy, a)))


@op
def divide(x1: Any, x2: Any) -> Tensor:
    """Computes `x1 / x2`; integers give floats."""
    a, b = floating_operands(x1, x2)
    return _binary(
        _core.divide,
        a,
        b,
        (lambda dy: divide(dy, b), lambda dy: negative(divide(multiply(dy, divide(a, b)), b))),
    )


@op
def true_divide(x1: Any, x2: Any) -> Tensor:
    """Computes `x1 / x2`; the same as `divide`."""
    return divide(x1, x2)


@op
def divide_no_nan(x1: Any, x2: Any) -> Tensor:
    """Computes `x1 / x2`, and 0 where `x2` is 0."""
    a, b = floating_operands(x1, x2)
    return _binary(
        _core.divide_no_nan,
        a,
        b,
        (
            lambda dy: divide_no_nan(dy, b),
            lambda dy: negative(divide_no_nan(multiply(dy, divide_no_nan(a, b)), b)),
        ),
    )


@op
def floor_divide(x1: Any, x2: Any) -> Tensor:
    """Computes the floor of `x1 / x2`; an integer divided by zero gives 0."""
    a, b = numbers("floor_divide", x1, x2)
    return constant(_core.floor_divide(a.array, b.array))


@op
def mod(x1: Any, x2: Any) -> Tensor:
    """Computes the remainder `x1 - floor(x1 / x2) * x2`, which has the sign of `x2`."""
    a, b = numbers("mod", x1, x2)
    return _binary(
        _core.mod,
        a,
        b,
        (lambda dy: dy, lambda dy: negative(multiply(dy, floor_divide(a, b)))),
    )


@op
def power(x1: Any, x2: Any) -> Tensor:
    """Computes `x1 ** x2`."""
    if isinstance(x2, (int, float)) and not isinstance(x2, bool):
        if x2 == 2:
            return square(x1)
        if x2 == 1:
            return operands(x1, x2)[0]
        if x2 == 0.5:
            return sqrt(x1)
    a, b = numbers("power", x1, x2)

    def slope_a(dy):  # 0 ** (b - 1) is infinite where b is 0
        safe = power(a, where(equal(b, 0), 1.0, subtract(b, 1)))
        return multiply(dy, where(equal(b, 0), 0.0, multiply(b, safe)))

    def slope_b(dy):
        return multiply(dy, multiply(power(a, b), log(where(greater(a, 0), a, 1.0))))

    return _binary(_core.power, a, b, (slope_a, slope_b))


def _extreme(kernel, wins, x1, x2):
    """maximum or minimum: the gradient goes to the one that wins; a tie is shared."""
    a, b = operands(x1, x2)

    def slope(mine, other):
        half = lambda dy: where(equal(mine, other), multiply(dy, 0.5), 0.0)  # noqa: E731
        return lambda dy: where(wins(mine, other), dy, half(dy))

    return _binary(kernel, a, b, (slope(a, b), slope(b, a)))


@op
def maximum(x1: Any, x2: Any) -> Tensor:
    """Gives the larger of both; NaN if either is."""
    return _extreme(_core.maximum, greater, *_not_bool(x1, x2))


@op
def minimum(x1: Any, x2: Any) -> Tensor:
    """Gives the smaller of both; NaN if either is."""
    return _extreme(_core.minimum, less, *_not_bool(x1, x2))


def _not_bool(x1, x2):
    a, b = operands(x1, x2)
    return (a, b) if a.dtype != "bool" else (cast(a, "int32"), cast(b, "int32"))


def numbers(who: str, x1, x2) -> tuple[Tensor, Tensor]:
    a, b = operands(x1, x2)
    if a.dtype == "bool":
        raise TypeError(
            f"narae.ops.{who}: expected numbers. Received: x1 and x2 of dtype bool; use "
            "logical_xor, logical_and or logical_or, or cast them."
        )
    return a, b


@op
def arctan2(x1: Any, x2: Any) -> Tensor:
    """Computes the angle of the point (x2, x1) in [-pi, pi]."""
    a, b = floating_operands(x1, x2)
    squares = lambda: add(square(a), square(b))  # noqa: E731
    return _binary(
        _core.arctan2,
        a,
        b,
        (
            lambda dy: divide(multiply(dy, b), squares()),
            lambda dy: negative(divide(multiply(dy, a), squares())),
        ),
    )


@op
def hypot(x1: Any, x2: Any) -> Tensor:
    """Computes `sqrt(x1**2 + x2**2)` without overflow on the way."""
    a, b = floating_operands(x1, x2)
    return _binary(
        _core.hypot,
        a,
        b,
        (
            lambda dy: divide_no_nan(multiply(dy, a), hypot(a, b)),
            lambda dy: divide_no_nan(multiply(dy, b), hypot(a, b)),
        ),
    )


@op
def heaviside(x1: Any, x2: Any) -> Tensor:
    """Gives 0 for negative `x1`, 1 for positive, and `x2` for zero."""
    a, b = operands(x1, x2)
    zero = Tensor(np.zeros((), a.dtype))
    return where(equal(a, zero), b, cast(greater(a, zero), a.dtype))


# ---- comparisons and logic ---------------------------------------------------------
@op
def equal(x1: Any, x2: Any) -> Tensor:
    """Tells where `x1 == x2`."""
    a, b = operands(x1, x2)
    return Tensor(_core.equal(a.array, b.array))


@op
def not_equal(x1: Any, x2: Any) -> Tensor:
    """Tells where `x1 != x2`."""
    a, b = operands(x1, x2)
    return Tensor(_core.not_equal(a.array, b.array))


@op
def less(x1: Any, x2: Any) -> Tensor:
    """Tells where `x1 < x2`."""
    a, b = operands(x1, x2)
    return Tensor(_core.less(a.array, b.array))


@op
def less_equal(x1: Any, x2: Any) -> Tensor:
    """Tells where `x1 <= x2`."""
    a, b = operands(x1, x2)
    return Tensor(_core.less_equal(a.array, b.array))


@op
def greater(x1: Any, x2: Any) -> Tensor:
    """Tells where `x1 > x2`."""
    a, b = operands(x1, x2)
    return Tensor(_core.less(b.array, a.array))


@op
def greater_equal(x1: Any, x2: Any) -> Tensor:
    """Tells where `x1 >= x2`."""
    a, b = operands(x1, x2)
    return Tensor(_core.less_equal(b.array, a.array))


@op
def logical_and(x1: Any, x2: Any) -> Tensor:
    """Tells where both are nonzero."""
    a, b = operands(x1, x2)
    return Tensor(_core.logical_and(a.array, b.array))


@op
def logical_or(x1: Any, x2: Any) -> Tensor:
    """Tells where one or both are nonzero."""
    a, b = operands(x1, x2)
    return Tensor(_core.logical_or(a.array, b.array))


@op
def logical_xor(x1: Any, x2: Any) -> Tensor:
    """Tells where just one is nonzero."""
    a, b = operands(x1, x2)
    return Tensor(_core.logical_xor(a.array, b.array))


@op
def where(condition: Any, x1: Any = None, x2: Any = None) -> Tensor:
    """Gives `x1` where the condition holds, else `x2`; all three broadcast.

    Without `x1` and `x2`: the indices where it holds, one tensor for each dimension.

    >>> narae.ops.where([True, False], [1, 2], 0).numpy()
    array([1, 0], dtype=int32)
    """
    if x1 is None or x2 is None:
        if x1 is not x2:
            raise ValueError("narae.ops.where: expected both x1 and x2, or neither.")
        found = convert_to_tensor(condition).read("where() of one argument").nonzero()
        return tuple(convert_to_tensor(i) for i in found)
    c = convert_to_tensor(condition)
    c = c if c.dtype == "bool" else not_equal(c, 0)
    a, b = operands(x1, x2)
    y = Tensor(_core.where(c.array, a.array, b.array))
    wanted = is_tracked(a), is_tracked(b)
    if not any(wanted):
        return record(y, (a, b), None)

    def backward(dy):
        zero = Tensor(np.zeros((), dy.array.dtype))
        da = sum_to_shape(where(c, dy, zero), a.shape) if wanted[0] else None
        db = sum_to_shape(where(c, zero, dy), b.shape) if wanted[1] else None
        return da, db

    return record(y, (a, b), backward)


# ---- bits ---------------------------------------------------------
def _bits(who: str, kernel, logic, x, y) -> Tensor:
    a, b = operands(x, y)
    if dtypes.is_float(a.dtype):
        raise TypeError(f"narae.ops.{who}: expected integers. Received: dtype {a.dtype}")
    if a.dtype == "bool":
        return logic(a, b)
    return Tensor(kernel(a.array, b.array))


@op
def bitwise_and(x: Any, y: Any) -> Tensor:
    """Computes `x & y`, bit by bit."""
    return _bits("bitwise_and", _core.bitwise_and, logical_and, x, y)


@op
def bitwise_or(x: Any, y: Any) -> Tensor:
    """Computes `x | y`, bit by bit."""
    return _bits("bitwise_or", _core.bitwise_or, logical_or, x, y)


@op
def bitwise_xor(x: Any, y: Any) -> Tensor:
    """Computes `x ^ y`, bit by bit."""
    return _bits("bitwise_xor", _core.bitwise_xor, logical_xor, x, y)


def _shift(who: str, kernel, x, y) -> Tensor:
    a, b = (cast(t, "int32") if t.dtype == "bool" else t for t in operands(x, y))
    return _bits(who, kernel, None, a, b)


@op
def bitwise_left_shift(x: Any, y: Any) -> Tensor:
    """Computes `x << y`."""
    return _shift("bitwise_left_shift", _core.left_shift, x, y)


@op
def left_shift(x: Any, y: Any) -> Tensor:
    """Computes `x << y`; the same as `bitwise_left_shift`."""
    return bitwise_left_shift(x, y)


@op
def bitwise_right_shift(x: Any, y: Any) -> Tensor:
    """Computes `x >> y`, which keeps the sign."""
    return _shift("bitwise_right_shift", _core.right_shift, x, y)


@op
def right_shift(x: Any, y: Any) -> Tensor:
    """Computes `x >> y`; the same as `bitwise_right_shift`."""
    return bitwise_right_shift(x, y)


# ---- dtype ---------------------------------------------------------
@op
def cast(x: Any, dtype: str) -> Tensor:
    """Converts to another dtype. Floats are cut to integers; nonzero becomes True.

    >>> narae.ops.cast([0.9, -1.9], "int32").numpy()
    array([ 0, -1], dtype=int32)
    """
    dtype = dtypes.standardize_dtype(dtype)
    x = x if isinstance(x, Tensor) else convert_to_tensor(x)
    if x.dtype == dtype:
        return x
    y = Tensor(_core.cast(x.array, np.dtype(dtype)))
    if not dtypes.is_float(dtype) or not dtypes.is_float(x.dtype):
        return record(y, (), None)
    return record(y, (x,), lambda dy: (cast(dy, x.dtype),))


def in_float32(function):
    """Lets an op made of several kernels take bfloat16: computed in float32 and rounded once."""

    @functools.wraps(function)
    def wrapper(x, *args, **kwargs):
        x = convert_to_tensor(x)
        if x.dtype != "bfloat16":
            return function(x, *args, **kwargs)
        y = function(cast(x, "float32"), *args, **kwargs)
        return tuple(cast(t, x.dtype) for t in y) if isinstance(y, tuple) else cast(y, x.dtype)

    return wrapper


# ---- functions of one argument that those above need; all others are in unary.py ----
def number(x) -> Tensor:
    x = convert_to_tensor(x)
    return cast(x, "int32") if x.dtype == "bool" else x


@op
def negative(x: Any) -> Tensor:
    """Computes `-x`."""
    x = number(x)
    return record(Tensor(_core.negative(x.array)), (x,), lambda dy: (negative(dy),))


@op
def square(x: Any) -> Tensor:
    """Computes `x * x`."""
    x = number(x)
    return of_input(_core.square, x, lambda x: multiply(x, 2))


@op
def sqrt(x: Any) -> Tensor:
    """Computes the square root; NaN for negative numbers."""
    x = floating(x)
    return of_output(x, _core.sqrt(x.array), lambda y: divide(0.5, y))


@op
def reciprocal(x: Any) -> Tensor:
    """Computes `1 / x`."""
    x = floating(x)
    return of_output(x, _core.reciprocal(x.array), lambda y: negative(square(y)))


@op
def log(x: Any) -> Tensor:
    """Computes the natural logarithm: minus infinity for 0, NaN for negative numbers."""
    return of_input(_core.log, floating(x), reciprocal)
