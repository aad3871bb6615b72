"""Functions made of other ops: differences, integrals, products of vectors, control flow."""

import functools
import math
from typing import Any

import numpy as np

from narae.engine import Tensor, config, convert_to_tensor, op
from narae.engine import tree as _tree
from narae.ops.creation import arange, ones_like, zeros_like
from narae.ops.elementwise import (
    add,
    cast,
    constant,
    divide,
    equal,
    floating,
    floating_operands,
    less,
    less_equal,
    logical_and,
    logical_or,
    maximum,
    minimum,
    mod,
    multiply,
    negative,
    not_equal,
    numbers,
    operands,
    power,
    subtract,
    where,
)  # fmt: skip
from narae.ops.reduce import all as _all
from narae.ops.reduce import max as _max
from narae.ops.reduce import min as _min
from narae.ops.reduce import sum as _sum
from narae.ops.shape import (
    diagonal,
    expand_dims,
    flip,
    get_item,
    moveaxis,
    reshape,
    stack,
    unstack,
)  # fmt: skip
from narae.ops.unary import abs as _abs
from narae.ops.unary import exp, exp2, isfinite, isnan, log1p, sign

__all__ = [
    "allclose", "angle", "array_equal", "associative_scan", "cond", "conj", "conjugate", "cross",
    "diff", "fmax", "fmin", "fmod", "fori_loop", "geomspace", "imag", "isclose", "isreal", "kron",
    "ldexp", "logaddexp", "logaddexp2", "map", "nonzero", "ptp", "real", "scan", "select",
    "switch", "trace", "trapezoid", "vander", "vectorize", "vectorized_map", "while_loop",
]  # fmt: skip

_slice = slice


# ---- complex numbers: narae's are real ----------------------------------------------------------
@op
def real(x: Any) -> Tensor:
    """Gives `x`: narae's numbers are real."""
    return convert_to_tensor(x)


@op
def conj(x: Any) -> Tensor:
    """Gives `x`, which is its own conjugate."""
    return convert_to_tensor(x)


@op
def conjugate(x: Any) -> Tensor:
    """Gives `x`; the same as `conj`."""
    return convert_to_tensor(x)


@op
def imag(x: Any) -> Tensor:
    """Gives zeros."""
    return zeros_like(x)


@op
def isreal(x: Any) -> Tensor:
    """Gives True everywhere."""
    return ones_like(x, "bool")


@op
def angle(x: Any) -> Tensor:
    """Gives 0 for positive numbers and pi for negative ones."""
    x = floating(x)
    return where(less(x, 0.0), math.pi, where(not_equal(x, x), x, zeros_like(x)))


# ---- functions of two arguments -----------------------------------------------------------------
@op
def fmax(x1: Any, x2: Any) -> Tensor:
    """Gives the larger of both; the other one where one is NaN."""
    a, b = operands(x1, x2)
    return where(isnan(a), b, where(isnan(b), a, maximum(a, b)))


@op
def fmin(x1: Any, x2: Any) -> Tensor:
    """Gives the smaller of both; the other one where one is NaN."""
    a, b = operands(x1, x2)
    return where(isnan(a), b, where(isnan(b), a, minimum(a, b)))


@op
def fmod(x1: Any, x2: Any) -> Tensor:
    """Computes the remainder `x1 - trunc(x1 / x2) * x2`, which has the sign of `x1`."""
    a, b = numbers("fmod", x1, x2)
    return multiply(sign(a), mod(_abs(a), _abs(b)))


@op
def logaddexp(x1: Any, x2: Any) -> Tensor:
    """Computes `log(exp(x1) + exp(x2))` without overflow."""
    a, b = floating_operands(x1, x2)
    high = maximum(a, b)
    same = equal(a, b)  # also both infinite, whose difference is NaN
    gap = where(same, 0.0, negative(_abs(subtract(a, b))))
    return add(high, log1p(exp(gap)))


@op
def logaddexp2(x1: Any, x2: Any) -> Tensor:
    """Computes `log2(2**x1 + 2**x2)` without overflow."""
    a, b = floating_operands(x1, x2)
    return divide(logaddexp(multiply(a, math.log(2)), multiply(b, math.log(2))), math.log(2))


# ---- comparisons --------------------------------------------------------------------------------
@op
def isclose(
    x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Tells where `|x1 - x2| <= atol + rtol * |x2|`, or both are the same infinity."""
    a, b = floating_operands(x1, x2)
    near = less_equal(_abs(subtract(a, b)), add(multiply(_abs(b), rtol), atol))
    near = logical_or(equal(a, b), logical_and(near, isfinite(b)))
    return logical_or(near, logical_and(isnan(a), isnan(b))) if equal_nan else near


@op
def allclose(
    x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Tells whether all elements are close: `|x1 - x2| <= atol + rtol * |x2|`."""
    return _all(isclose(x1, x2, rtol, atol, equal_nan))


@op
def array_equal(x1: Any, x2: Any) -> Tensor:
    """Tells whether shapes and all elements are the same."""
    a, b = operands(x1, x2)
    return _all(equal(a, b)) if a.shape == b.shape else constant(np.array(False))


@op
def nonzero(x: Any) -> tuple[Tensor, ...]:
    """Gives the indices of the elements that are not zero, one tensor for each axis."""
    return where(not_equal(x, 0))


@op
def ptp(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Computes the maximum minus the minimum."""
    return subtract(_max(x, axis, keepdims), _min(x, axis, keepdims))


# ---- along an axis ------------------------------------------------------------------------------
def _part(x, axis, start, stop):
    return get_item(x, (_slice(None),) * (axis % x.ndim) + (_slice(start, stop),))


@op
def diff(a: Any, n: int = 1, axis: int = -1) -> Tensor:
    """Computes the differences of neighbours, n times over."""
    x = convert_to_tensor(a)
    if x.ndim == 0 or n < 0:
        raise ValueError(
            f"narae.ops.diff: expected an axis and n >= 0. Received: a.shape={x.shape}, n={n}"
        )
    for _ in range(n):
        later, earlier = _part(x, axis, 1, None), _part(x, axis, None, -1)
        x = not_equal(later, earlier) if x.dtype == "bool" else subtract(later, earlier)
    return x


@op
def trapezoid(y: Any, x: Any = None, dx: float = 1.0, axis: int = -1) -> Tensor:
    """Integrates along an axis by the trapezoidal rule, at places `x` or `dx` apart."""
    y = floating(y)
    width = dx
    if x is not None:
        x = floating(x)
        width = diff(x, axis=axis if x.ndim > 1 else -1)
        if x.ndim == 1:
            width = reshape(width, [-1 if i == axis % y.ndim else 1 for i in range(y.ndim)])
    middle = add(_part(y, axis, 1, None), _part(y, axis, None, -1))
    return _sum(multiply(multiply(middle, width), 0.5), axis)


@op
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """Sums the diagonal of two axes."""
    return _sum(diagonal(x, offset, axis1, axis2), -1)


# ---- products -----------------------------------------------------------------------------------
@op
def cross(
    x1: Any, x2: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Tensor:
    """Computes the cross product of vectors with 2 or 3 elements along an axis."""
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = operands(x1, x2)
    a, b = moveaxis(a, axisa, -1), moveaxis(b, axisb, -1)
    if a.shape[-1] not in (2, 3) or b.shape[-1] not in (2, 3):
        raise ValueError(
            "narae.ops.cross: expected vectors of 2 or 3 elements. "
            f"Received: x1.shape={a.shape}, x2.shape={b.shape}"
        )
    flat = a.shape[-1] == b.shape[-1] == 2
    a, b = (unstack(t, axis=-1) + [zeros_like(t[..., 0])] * (3 - t.shape[-1]) for t in (a, b))
    third = subtract(multiply(a[0], b[1]), multiply(a[1], b[0]))
    if flat:
        return third
    first = subtract(multiply(a[1], b[2]), multiply(a[2], b[1]))
    second = subtract(multiply(a[2], b[0]), multiply(a[0], b[2]))
    return stack([first, second, third], axisc)


@op
def kron(x1: Any, x2: Any) -> Tensor:
    """Computes the Kronecker product: each element of `x1` times all of `x2`, in blocks."""
    a, b = operands(x1, x2)
    rank = max(a.ndim, b.ndim)
    of_a = (1,) * (rank - a.ndim) + a.shape
    of_b = (1,) * (rank - b.ndim) + b.shape
    blocks = multiply(
        reshape(a, [n for m in of_a for n in (m, 1)]), reshape(b, [n for m in of_b for n in (1, m)])
    )
    return reshape(blocks, [m * n for m, n in zip(of_a, of_b)])


@op
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Tensor:
    """Makes the matrix of powers of a vector: column j is `x ** (N - 1 - j)` (or `x ** j`)."""
    x = convert_to_tensor(x)
    powers = arange(x.size if N is None else N, dtype=x.dtype)
    return power(expand_dims(x, -1), powers if increasing else flip(powers))


@op
def ldexp(x1: Any, x2: Any) -> Tensor:
    """Computes `x1 * 2 ** x2`."""
    x = floating(x1)
    return multiply(x, exp2(cast(x2, x.dtype)))


def geomspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    dtype: str | None = None,
    axis: int = 0,
) -> Tensor:
    """Gives `num` values from `start` to `stop` of which each is the last one times a constant."""
    a, b = (np.asarray(convert_to_tensor(v).read("geomspace()"), "float64") for v in (start, stop))
    return convert_to_tensor(np.geomspace(a, b, num, endpoint, axis=axis), dtype or config.floatx())


@op
def select(condlist: list, choicelist: list, default: Any = 0) -> Tensor:
    """Gives, element by element, the choice of the first condition that holds, or the default."""
    if len(condlist) != len(choicelist):
        raise ValueError(
            "narae.ops.select: expected as many choices as conditions. "
            f"Received: {len(condlist)} conditions, {len(choicelist)} choices"
        )
    y = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist)):
        y = where(condition, choice, y)
    return y


# ---- control flow: Python's, which reads the values it decides by -------------------------------
def cond(pred: Any, true_fn: Any, false_fn: Any) -> Any:
    """Calls `true_fn()` if the condition holds, else `false_fn()`, and gives the result."""
    return true_fn() if bool(pred) else false_fn()


def switch(index: Any, branches: list, *operands: Any) -> Any:
    """Calls the branch of a number with the operands; numbers beyond mean the first or last."""
    return branches[min(max(int(index), 0), len(branches) - 1)](*operands)


def while_loop(cond: Any, body: Any, loop_vars: Any, maximum_iterations: int | None = None) -> Any:
    """Repeats `loop_vars = body(*loop_vars)` while `cond(*loop_vars)` holds."""
    several = isinstance(loop_vars, (list, tuple))
    values = tuple(loop_vars) if several else (loop_vars,)
    turn = 0
    while (maximum_iterations is None or turn < maximum_iterations) and bool(cond(*values)):
        result = body(*values)
        values = tuple(result) if several else (result,)
        turn += 1
    return type(loop_vars)(values) if several else values[0]


def fori_loop(lower: int, upper: int, body_fun: Any, init_val: Any) -> Any:
    """Repeats `value = body_fun(i, value)` for i from `lower` to before `upper`."""
    value = init_val
    for i in range(int(lower), int(upper)):
        value = body_fun(i, value)
    return value


def _stacked(results: list) -> Any:
    return _tree.map_structure(lambda *xs: stack(xs, 0), *results)


def map(f: Any, xs: Any) -> Any:
    """Applies a function to each slice along axis 0 and stacks the results."""
    n = len(_tree.flatten(xs)[0])
    return _stacked([f(_tree.map_structure(lambda x, i=i: x[i], _tensors(xs))) for i in range(n)])


def vectorized_map(function: Any, elements: Any) -> Any:
    """Applies a function to each slice along axis 0; the same as `map`."""
    return map(function, elements)


def _tensors(xs):
    return _tree.map_structure(convert_to_tensor, xs)


def scan(
    f: Any, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False, unroll=1
) -> tuple:
    """Carries a value along axis 0: `carry, y = f(carry, x)` for each x.

    Returns:
        The last carry, and the ys stacked.
    """
    if xs is None and length is None:
        raise ValueError("narae.ops.scan: expected xs or length. Received: neither")
    n = len(_tree.flatten(xs)[0]) if xs is not None else int(length)
    xs = None if xs is None else _tensors(xs)
    carry, ys = init, [None] * n
    for i in range(n)[::-1] if reverse else range(n):
        x = None if xs is None else _tree.map_structure(lambda t, i=i: t[i], xs)
        carry, ys[i] = f(carry, x)
    return carry, None if n == 0 or ys[0] is None else _stacked(ys)


def associative_scan(f: Any, elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """Combines elements from the first on: y[0] = x[0], y[i] = f(y[i - 1], x[i])."""
    leaves = [unstack(x, axis=axis) for x in _tree.flatten(_tensors(elems))]
    n = len(leaves[0])
    order = range(n)[::-1] if reverse else range(n)
    results, last = [None] * n, None
    for i in order:
        x = _tree.pack_sequence_as(elems, [leaf[i] for leaf in leaves])
        last = x if last is None else f(last, x)
        results[i] = last
    return _tree.map_structure(lambda *ys: stack(ys, axis), *results)


def vectorize(pyfunc: Any, *, excluded: Any = None, signature: str | None = None) -> Any:
    """Returns a function that applies `pyfunc` to scalars, one by one, with broadcasting."""
    if excluded or signature:
        raise ValueError("narae.ops.vectorize: expected neither excluded nor signature")

    @functools.wraps(pyfunc)
    def wrapper(*args):
        arrays = np.broadcast_arrays(*(convert_to_tensor(a).read("vectorize()") for a in args))
        results = [
            convert_to_tensor(pyfunc(*(convert_to_tensor(v) for v in values)))
            for values in zip(*(a.ravel() for a in arrays))
        ]
        return reshape(stack(results), (*arrays[0].shape, *results[0].shape))

    return wrapper
