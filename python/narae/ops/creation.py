"""Tensors made from nothing: zeros, ranges, identity matrices."""

import operator
from typing import Any

import numpy as np

from narae import _core
from narae.engine import Tensor, config, convert_to_tensor, dtypes, op
from narae.ops.elementwise import broadcast_to, cast, operands, power

__all__ = [
    "arange", "empty", "empty_like", "eye", "full", "full_like", "identity", "linspace",
    "logspace", "ones", "ones_like", "tri", "zeros", "zeros_like",
]  # fmt: skip


def _shape_of(who: str, shape) -> tuple[int, ...]:
    try:
        sizes = (
            (operator.index(shape),)
            if np.ndim(shape) == 0
            else tuple(operator.index(n) for n in shape)
        )
    except TypeError:
        sizes = (-1,)
    if any(n < 0 for n in sizes):
        raise ValueError(f"narae.ops.{who}: expected sizes that are >= 0. Received: shape={shape}")
    return sizes


def _filled(who: str, shape, value, dtype) -> Tensor:
    dtype = np.dtype(dtypes.standardize_dtype(dtype))
    return Tensor(_core.full(_shape_of(who, shape), dtype.type(value).item(), dtype))


def zeros(shape: Any, dtype: str | None = None) -> Tensor:
    """Makes a tensor of zeros (of floatx unless a dtype is given)."""
    return _filled("zeros", shape, 0, dtype)


def ones(shape: Any, dtype: str | None = None) -> Tensor:
    """Makes a tensor of ones."""
    return _filled("ones", shape, 1, dtype)


def empty(shape: Any, dtype: str | None = None) -> Tensor:
    """Makes a tensor of zeros: narae has no tensors with undefined values."""
    return _filled("empty", shape, 0, dtype)


def full(shape: Any, fill_value: Any, dtype: str | None = None) -> Tensor:
    """Makes a tensor whose elements are `fill_value` (a number, or what broadcasts to the shape).

    The dtype is floatx unless given.
    """
    if isinstance(fill_value, (bool, int, float)):
        return _filled("full", shape, fill_value, dtype)
    value = convert_to_tensor(fill_value, dtypes.standardize_dtype(dtype))
    return broadcast_to(value, _shape_of("full", shape))


@op
def zeros_like(x: Any, dtype: str | None = None) -> Tensor:
    """Makes zeros of the shape and dtype of `x`."""
    return full_like(x, 0, dtype)


@op
def ones_like(x: Any, dtype: str | None = None) -> Tensor:
    """Makes ones of the shape and dtype of `x`."""
    return full_like(x, 1, dtype)


@op
def empty_like(x: Any, dtype: str | None = None) -> Tensor:
    """Makes zeros of the shape and dtype of `x`."""
    return full_like(x, 0, dtype)


@op
def full_like(x: Any, fill_value: Any, dtype: str | None = None) -> Tensor:
    """Makes a tensor of the shape and dtype of `x` whose elements are `fill_value`."""
    x = convert_to_tensor(x)
    return full(x.shape, fill_value, dtype or x.dtype)


def arange(start: Any, stop: Any = None, step: Any = None, dtype: str | None = None) -> Tensor:
    """Counts from `start` (0 if only one bound is given) to before `stop`, by `step`.

    >>> narae.ops.arange(1, 7, 2).numpy()
    array([1, 3, 5], dtype=int32)
    """
    if stop is None:
        start, stop = 0, start
    start, stop, step = (plain_number(v) for v in (start, stop, 1 if step is None else step))
    if step == 0:
        raise ValueError("narae.ops.arange: expected step to be nonzero. Received: step=0")
    if dtype is None:
        whole = all(isinstance(v, (int, np.integer)) for v in (start, stop, step))
        dtype = "int32" if whole else config.floatx()
    return Tensor(np.arange(start, stop, step).astype(dtypes.standardize_dtype(dtype)))


def plain_number(x):
    """Returns the value of a Tensor of size one; other things as they are."""
    return x.item() if isinstance(x, Tensor) else x


@op
def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: str | None = None,
    axis: int = 0,
) -> Tensor:
    """Gives `num` evenly spaced values from `start` to `stop`."""
    a, b = operands(start, stop)
    dtype = dtype or (a.dtype if dtypes.is_float(a.dtype) else config.floatx())
    a, b = (cast(t, "float64") for t in (a, b))
    a, b = a.read("linspace()"), b.read("linspace()")
    values, step = np.linspace(a, b, num, endpoint, retstep=True, axis=axis)
    y = convert_to_tensor(values, dtypes.standardize_dtype(dtype))
    return (y, convert_to_tensor(step, y.dtype)) if retstep else y


@op
def logspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: float = 10,
    dtype: str | None = None,
    axis: int = 0,
) -> Tensor:
    """Gives `base ** x` for `num` evenly spaced x from `start` to `stop`."""
    x = linspace(start, stop, num, endpoint, False, "float64", axis)
    return cast(power(float(base), x), dtype or config.floatx())


def eye(N: int, M: int | None = None, k: int = 0, dtype: str | None = None) -> Tensor:
    """Makes an (N, M) matrix with ones on the k-th diagonal and zeros elsewhere."""
    return Tensor(np.eye(N, M, k, dtype=dtypes.standardize_dtype(dtype)))


def identity(n: int, dtype: str | None = None) -> Tensor:
    """Makes the (n, n) identity matrix."""
    return eye(n, dtype=dtype)


def tri(N: int, M: int | None = None, k: int = 0, dtype: str | None = None) -> Tensor:
    """Makes an (N, M) matrix of ones at and below the k-th diagonal, zeros above."""
    return Tensor(np.tri(N, M, k, dtype=dtypes.standardize_dtype(dtype)))
