"""Functions of one argument, element by element.

`cast`, `negative`, `square`, `sqrt`, `reciprocal` and `log`, which arithmetic and its gradients
need, are in `elementwise.py`. Gradients are made of ops, so they can be differentiated again.
"""

import builtins
import math
from typing import Any

import numpy as np

from narae import _core
from narae.engine import Tensor, convert_to_tensor, dtypes, op, record
from narae.ops.elementwise import (
    add,
    cast,
    constant,
    divide,
    equal,
    floating,
    greater_equal,
    less,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    number,
    of_input,
    of_output,
    reciprocal,
    square,
    subtract,
    where,
)  # fmt: skip

__all__ = [
    "abs", "absolute", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh",
    "bitwise_invert", "bitwise_not", "cbrt", "ceil", "clip", "copy", "cos", "cosh", "deg2rad",
    "erf", "erfc", "erfinv", "exp", "exp2", "expm1", "fabs", "floor", "isfinite", "isinf",
    "isnan", "isneginf", "isposinf", "log10", "log1p", "log2", "logical_not", "nan_to_num",
    "rad2deg", "round", "rsqrt", "saturate_cast", "sign", "signbit", "sin", "sinc", "sinh",
    "tan", "trunc",
]  # fmt: skip


# ---- tests ---------------------------------------------------------
@op
def logical_not(x: Any) -> Tensor:
    """Tells where `x` is zero."""
    return Tensor(_core.logical_not(convert_to_tensor(x).array))


@op
def isnan(x: Any) -> Tensor:
    """Tells where `x` is NaN."""
    x = convert_to_tensor(x)
    return Tensor(_core.isnan(x.array)) if dtypes.is_float(x.dtype) else not_equal(x, x)


@op
def isinf(x: Any) -> Tensor:
    """Tells where `x` is infinite."""
    x = convert_to_tensor(x)
    return Tensor(_core.isinf(x.array)) if dtypes.is_float(x.dtype) else not_equal(x, x)


@op
def isfinite(x: Any) -> Tensor:
    """Tells where `x` is neither infinite nor NaN."""
    x = convert_to_tensor(x)
    return Tensor(_core.isfinite(x.array)) if dtypes.is_float(x.dtype) else equal(x, x)


@op
def isposinf(x: Any) -> Tensor:
    """Tells where `x` is plus infinity."""
    return equal(floating(x), math.inf)


@op
def isneginf(x: Any) -> Tensor:
    """Tells where `x` is minus infinity."""
    return equal(floating(x), -math.inf)


@op
def signbit(x: Any) -> Tensor:
    """Tells where the sign bit is set: negative numbers and -0."""
    x = convert_to_tensor(x)
    if dtypes.is_float(x.dtype):  # 1 / -0 is minus infinity
        x = where(equal(x, 0.0), Tensor(_core.reciprocal(x.array)), x)
    return less(x, 0)


# ---- mathematical functions ---------------------------------------------------------
@op
def abs(x: Any) -> Tensor:
    """Computes `|x|`."""
    x = number(x)
    return of_input(_core.abs, x, sign)


@op
def absolute(x: Any) -> Tensor:
    """Computes `|x|`; the same as `abs`."""
    return abs(x)


@op
def fabs(x: Any) -> Tensor:
    """Computes `|x|` as a float."""
    return abs(floating(x))


@op
def sign(x: Any) -> Tensor:
    """Gives -1, 0 or 1."""
    return constant(_core.sign(number(x).array))


@op
def rsqrt(x: Any) -> Tensor:
    """Computes `1 / sqrt(x)`."""
    x = floating(x)
    return of_output(x, _core.rsqrt(x.array), lambda y: multiply(multiply(y, square(y)), -0.5))


@op
def cbrt(x: Any) -> Tensor:
    """Computes the cube root."""
    x = floating(x)
    return of_output(x, _core.cbrt(x.array), lambda y: divide(1 / 3, square(y)))


@op
def exp(x: Any) -> Tensor:
    """Computes `e ** x`."""
    x = floating(x)
    return of_output(x, _core.exp(x.array), lambda y: y)


@op
def exp2(x: Any) -> Tensor:
    """Computes `2 ** x`."""
    x = floating(x)
    return of_output(x, _core.exp2(x.array), lambda y: multiply(y, math.log(2)))


@op
def expm1(x: Any) -> Tensor:
    """Computes `e ** x - 1`, exact also for small `x`."""
    x = floating(x)
    return of_output(x, _core.expm1(x.array), lambda y: add(y, 1.0))


@op
def log1p(x: Any) -> Tensor:
    """Computes `log(1 + x)`, exact also for small `x`."""
    return of_input(_core.log1p, floating(x), lambda x: reciprocal(add(x, 1.0)))


@op
def log2(x: Any) -> Tensor:
    """Computes the logarithm to base 2."""
    return of_input(_core.log2, floating(x), lambda x: divide(1 / math.log(2), x))


@op
def log10(x: Any) -> Tensor:
    """Computes the logarithm to base 10."""
    return of_input(_core.log10, floating(x), lambda x: divide(1 / math.log(10), x))


@op
def sin(x: Any) -> Tensor:
    """Computes the sine of an angle in radians."""
    return of_input(_core.sin, floating(x), cos)


@op
def cos(x: Any) -> Tensor:
    """Computes the cosine of an angle in radians."""
    return of_input(_core.cos, floating(x), lambda x: negative(sin(x)))


@op
def tan(x: Any) -> Tensor:
    """Computes the tangent of an angle in radians."""
    x = floating(x)
    return of_output(x, _core.tan(x.array), lambda y: add(square(y), 1.0))


@op
def sinh(x: Any) -> Tensor:
    """Computes `(exp(x) - exp(-x)) / 2`."""
    return of_input(_core.sinh, floating(x), cosh)


@op
def cosh(x: Any) -> Tensor:
    """Computes `(exp(x) + exp(-x)) / 2`."""
    return of_input(_core.cosh, floating(x), sinh)


@op
def arcsin(x: Any) -> Tensor:
    """Computes the angle in [-pi/2, pi/2] whose sine is `x`."""
    return of_input(_core.arcsin, floating(x), lambda x: rsqrt(subtract(1.0, square(x))))


@op
def arccos(x: Any) -> Tensor:
    """Computes the angle in [0, pi] whose cosine is `x`."""
    return of_input(_core.arccos, floating(x), lambda x: negative(rsqrt(subtract(1.0, square(x)))))


@op
def arctan(x: Any) -> Tensor:
    """Computes the angle in (-pi/2, pi/2) whose tangent is `x`."""
    return of_input(_core.arctan, floating(x), lambda x: reciprocal(add(square(x), 1.0)))


@op
def arcsinh(x: Any) -> Tensor:
    """Computes the inverse of `sinh`."""
    return of_input(_core.arcsinh, floating(x), lambda x: rsqrt(add(square(x), 1.0)))


@op
def arccosh(x: Any) -> Tensor:
    """Computes the inverse of `cosh`, not negative."""
    return of_input(_core.arccosh, floating(x), lambda x: rsqrt(subtract(square(x), 1.0)))


@op
def arctanh(x: Any) -> Tensor:
    """Computes the inverse of `tanh`."""
    return of_input(_core.arctanh, floating(x), lambda x: reciprocal(subtract(1.0, square(x))))


@op
def erf(x: Any) -> Tensor:
    """Computes the error function, `2 / sqrt(pi)` times the integral of `exp(-t**2)` to `x`."""
    return of_input(
        _core.erf,
        floating(x),
        lambda x: multiply(exp(negative(square(x))), 2 / math.sqrt(math.pi)),
    )


@op
def erfc(x: Any) -> Tensor:
    """Computes `1 - erf(x)`, exact also where erf is near 1."""
    return of_input(
        _core.erfc,
        floating(x),
        lambda x: multiply(exp(negative(square(x))), -2 / math.sqrt(math.pi)),
    )


@op
def erfinv(x: Any) -> Tensor:
    """Computes the inverse of `erf` on (-1, 1)."""
    x = floating(x)
    return of_output(
        x, _core.erfinv(x.array), lambda y: multiply(exp(square(y)), math.sqrt(math.pi) / 2)
    )


@op
def sinc(x: Any) -> Tensor:
    """Computes `sin(pi x) / (pi x)`, and 1 at 0."""
    x = multiply(floating(x), math.pi)
    zero = equal(x, 0.0)
    return where(zero, 1.0, divide(sin(x), where(zero, 1.0, x)))


@op
def deg2rad(x: Any) -> Tensor:
    """Converts degrees to radians."""
    return multiply(floating(x), math.pi / 180)


@op
def rad2deg(x: Any) -> Tensor:
    """Converts radians to degrees."""
    return multiply(floating(x), 180 / math.pi)


# ---- rounding and limits ---------------------------------------------------------
def _whole(kernel, x) -> Tensor:
    """Rounding leaves integers as they are, and has the derivative zero."""
    x = convert_to_tensor(x)
    return constant(kernel(x.array)) if dtypes.is_float(x.dtype) else x


@op
def floor(x: Any) -> Tensor:
    """Rounds down."""
    return _whole(_core.floor, x)


@op
def ceil(x: Any) -> Tensor:
    """Rounds up."""
    return _whole(_core.ceil, x)


@op
def trunc(x: Any) -> Tensor:
    """Rounds towards zero."""
    return _whole(_core.trunc, x)


@op
def round(x: Any, decimals: int = 0) -> Tensor:
    """Rounds to so many decimals; halves go to the even neighbour."""
    if decimals == 0:
        return _whole(_core.round, x)
    x = convert_to_tensor(x)
    scale = 10.0 ** builtins.abs(decimals)
    up, down = (multiply, divide) if decimals > 0 else (divide, multiply)
    return cast(down(_whole(_core.round, up(floating(x), scale)), scale), x.dtype)


@op
def clip(x: Any, x_min: Any, x_max: Any) -> Tensor:
    """Limits `x` to [x_min, x_max]; numbers, tensors or None for no limit.

    >>> narae.ops.clip([-2, 0, 7], -1, 3).numpy()
    array([-1,  0,  3], dtype=int32)
    """
    x = convert_to_tensor(x)
    if dtypes.is_float(x.dtype) and _is_number(x_min) and _is_number(x_max):
        low = -math.inf if x_min is None else float(x_min)
        high = math.inf if x_max is None else float(x_max)
        y = Tensor(_core.clip_forward(x.array, low, high))
        return record(y, (x,), lambda dy: (_clip_backward(dy, x, low, high),))
    y = x if x_min is None else maximum(x, x_min)
    return y if x_max is None else minimum(y, x_max)


def _is_number(x) -> bool:
    return x is None or isinstance(x, (int, float))


def _clip_backward(dy, x, low, high):
    dx = Tensor(_core.clip_backward(dy.array, x.array, low, high))
    return record(dx, (dy,), lambda g: (_clip_backward(g, x, low, high),))


@op
def nan_to_num(
    x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """Replaces NaN by `nan` and infinities by `posinf`, `neginf` (the largest numbers if None)."""
    x = convert_to_tensor(x)
    if not dtypes.is_float(x.dtype):
        return x
    largest = float(dtypes.finfo(x.dtype).max)
    y = where(isnan(x), float(nan), x)
    y = where(equal(x, math.inf), largest if posinf is None else float(posinf), y)
    return where(equal(x, -math.inf), -largest if neginf is None else float(neginf), y)


# ---- bits and dtypes ---------------------------------------------------------
@op
def bitwise_not(x: Any) -> Tensor:
    """Computes `~x`, bit by bit."""
    x = convert_to_tensor(x)
    if dtypes.is_float(x.dtype):
        raise TypeError(f"narae.ops.bitwise_not: expected integers. Received: dtype {x.dtype}")
    return logical_not(x) if x.dtype == "bool" else Tensor(_core.bitwise_not(x.array))


@op
def bitwise_invert(x: Any) -> Tensor:
    """Computes `~x`, bit by bit; the same as `bitwise_not`."""
    return bitwise_not(x)


@op
def saturate_cast(x: Any, dtype: str) -> Tensor:
    """Converts to another dtype; values beyond its range become its ends."""
    x, dtype = convert_to_tensor(x), dtypes.standardize_dtype(dtype)
    if dtypes.is_float(dtype) or dtype == "bool" or x.dtype in ("bool", dtype):
        return cast(x, dtype)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    if not dtypes.is_float(x.dtype):
        own = np.iinfo(x.dtype)
        return cast(clip(x, max(low, own.min), min(high, own.max)), dtype)
    y = where(less(x, float(low)), 0.0, x)
    y = where(greater_equal(y, float(high)), 0.0, y)
    y = where(less(x, float(low)), low, cast(y, dtype))
    return cast(where(greater_equal(x, float(high)), high, y), dtype)


@op
def copy(x: Any) -> Tensor:
    """Gives the same values in memory of their own."""
    x = convert_to_tensor(x)
    return record(Tensor(_core.copy(x.array)), (x,), lambda dy: (dy,))
