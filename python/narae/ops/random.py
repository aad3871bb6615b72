"""Random draws. Each takes a key = (seed, counter) from its seed and reads it on the native side.

The numbers depend on the key alone: not on the number of threads, nor on recording or not; nor on
the instruction set, up to the rounding of floats. They are public in `narae.random`.
"""

import operator
from typing import Any

import numpy as np

from narae import _core
from narae.engine import SeedGenerator, Tensor, config, convert_to_tensor, no_gradients, op, record
from narae.engine.dtypes import FLOATS, standardize_dtype
from narae.engine.random import next_key
from narae.ops.elementwise import cast, floating, multiply, where

__all__ = ["dropout"]

Seed = int | SeedGenerator | None


def _sizes(shape: Any) -> tuple[int, ...]:
    return (operator.index(shape),) if np.ndim(shape) == 0 else tuple(map(operator.index, shape))


def _dtype(who: str, dtype: Any, allowed: tuple[str, ...]) -> np.dtype:
    name = standardize_dtype(dtype)
    if name not in allowed:
        raise ValueError(
            f"narae.random.{who}: expected dtype to be one of {allowed}. Received: dtype={dtype!r}"
        )
    return np.dtype(name)


def uniform(
    shape: Any,
    minval: float = 0.0,
    maxval: float = 1.0,
    dtype: str | None = None,
    seed: Seed = None,
) -> Tensor:
    """Draws floats uniformly from [minval, maxval).

    float32 has 2^24 equidistant values there, float64 2^53.

    Args:
        shape: shape of the result.
        minval: the least value.
        maxval: the bound that is not reached.
        dtype: `"float32"` or `"float64"`; floatx by default.
        seed: an integer (the same numbers at every call), a `narae.random.SeedGenerator` (others at
            every call), or None for the default generator.

    Returns:
        A tensor of the given shape.

    Raises:
        ValueError: minval > maxval, or a dtype that is no float.

    >>> narae.random.uniform((2, 3), seed=1).shape
    (2, 3)
    """
    dtype = _dtype("uniform", config.floatx() if dtype is None else dtype, FLOATS)
    key = next_key(seed).array
    return Tensor(_core.random_uniform(key, _sizes(shape), float(minval), float(maxval), dtype))


def normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: str | None = None, seed: Seed = None
) -> Tensor:
    """Draws floats from the normal distribution: p(y) ~ exp(-(y - mean)^2 / (2 stddev^2)).

    Args:
        shape: shape of the result.
        mean: the mean.
        stddev: the standard deviation.
        dtype: `"float32"` or `"float64"`; floatx by default.
        seed: an integer, a `narae.random.SeedGenerator` or None.

    Returns:
        A tensor of the given shape.
    """
    dtype = _dtype("normal", dtype, FLOATS)
    key = next_key(seed).array
    return Tensor(_core.random_normal(key, _sizes(shape), float(mean), float(stddev), dtype))


def truncated_normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: str | None = None, seed: Seed = None
) -> Tensor:
    """Draws floats from the normal distribution within two standard deviations of the mean.

    Args:
        shape: shape of the result.
        mean: the mean.
        stddev: the standard deviation before truncation; that of the result is 0.880 times it.
        dtype: `"float32"` or `"float64"`; floatx by default.
        seed: an integer, a `narae.random.SeedGenerator` or None.

    Returns:
        A tensor of the given shape.
    """
    dtype = _dtype("truncated_normal", dtype, FLOATS)
    key = next_key(seed).array
    return Tensor(
        _core.random_truncated_normal(key, _sizes(shape), float(mean), float(stddev), dtype)
    )


def randint(
    shape: Any, minval: int, maxval: int, dtype: str = "int32", seed: Seed = None
) -> Tensor:
    """Draws integers uniformly from [minval, maxval).

    Args:
        shape: shape of the result.
        minval: the least value.
        maxval: the bound that is not reached.
        dtype: `"uint8"`, `"int32"` or `"int64"`.
        seed: an integer, a `narae.random.SeedGenerator` or None.

    Returns:
        A tensor of the given shape.

    Raises:
        ValueError: minval >= maxval, or values that the dtype does not hold.

    >>> narae.random.randint((3,), 5, 6).numpy()
    array([5, 5, 5], dtype=int32)
    """
    dtype = _dtype("randint", dtype, ("uint8", "int32", "int64"))
    key = next_key(seed).array
    return Tensor(_core.random_randint(key, _sizes(shape), int(minval), int(maxval), dtype))


def bernoulli(shape: Any, p: float = 0.5, dtype: str = "bool", seed: Seed = None) -> Tensor:
    """Draws truth values: each is true with probability `p`.

    Args:
        shape: shape of the result.
        p: the probability, kept to 31 bits.
        dtype: of the result.
        seed: an integer, a `narae.random.SeedGenerator` or None.

    Returns:
        A tensor of the given shape.

    Raises:
        ValueError: p outside [0, 1].
    """
    return cast(
        Tensor(_core.random_bernoulli(next_key(seed).array, _sizes(shape), float(p))), dtype
    )


@op
def categorical(logits: Any, num_samples: int, dtype: str = "int32", seed: Seed = None) -> Tensor:
    """Draws class indices: c with probability softmax(logits[n])[c].

    Args:
        logits: (batch, classes), unnormalized log-probabilities.
        num_samples: draws for each row.
        dtype: of the result, an integer type.
        seed: an integer, a `narae.random.SeedGenerator` or None.

    Returns:
        Indices (batch, num_samples).

    Raises:
        ValueError: logits that are no matrix, or without classes.
    """
    key = next_key(seed).array
    dtype = _dtype("categorical", dtype, ("uint8", "int32", "int64")).name
    y = _core.random_categorical(key, floating(logits).array, operator.index(num_samples))
    return cast(Tensor(y), dtype)


def permutation(n: int, dtype: str = "int32", seed: Seed = None) -> Tensor:
    """Draws an order of 0 ... n-1, all orders equally likely.

    Args:
        n: how many.
        dtype: `"int32"` or `"int64"`.
        seed: an integer, a `narae.random.SeedGenerator` or None.

    Returns:
        Integers (n,).
    """
    dtype = _dtype("permutation", dtype, ("int32", "int64"))
    return Tensor(_core.random_permutation(next_key(seed).array, operator.index(n), dtype))


@op
def shuffle(x: Any, axis: int = 0, seed: Seed = None) -> Tensor:
    """Puts the slices of `x` along an axis in random order.

    Args:
        x: tensor of any dtype.
        axis: the axis.
        seed: an integer, a `narae.random.SeedGenerator` or None.

    Returns:
        A tensor like x.

    Raises:
        ValueError: an axis that x does not have.
    """
    from narae.ops.index import take

    x = convert_to_tensor(x)
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(
            f"narae.random.shuffle: expected an axis of x. Received: axis={axis}, x.shape={x.shape}"
        )
    return take(x, permutation(x.shape[axis], "int64", seed), axis)


# ---- dropout -----------------------------------------------------------------------------------


@op
def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Seed = None) -> Tensor:
    """Sets a random share of the elements to zero and scales the others up: the mean stays.

    y[i] = x[i] / (1 - rate) with probability 1 - rate, else 0. Its gradient draws the mask again
    from the same key; the mask is never stored.

    Args:
        inputs: tensor of floats.
        rate: the share to drop, in [0, 1], kept to 31 bits.
        noise_shape: shape of the mask where neighbours are dropped together: it broadcasts to that
            of `inputs`; None among its sizes stands for that of `inputs`.
        seed: an integer, a `narae.random.SeedGenerator` or None.

    Returns:
        A tensor like inputs.

    Raises:
        ValueError: a rate outside [0, 1], or a noise_shape that does not broadcast.

    >>> narae.random.dropout(narae.ops.ones(6), 0.5, seed=3).numpy()
    array([2., 0., 2., 2., 0., 2.], dtype=float32)
    """
    x, rate = floating(inputs), float(rate)
    if rate == 0:
        return x
    noise = _noise_shape(x.shape, noise_shape)
    key = next_key(seed)
    return _dropout(x, key, rate) if noise == x.shape else _dropout_together(x, key, rate, noise)


def _noise_shape(shape, noise_shape) -> tuple[int, ...]:
    if noise_shape is None:
        return shape
    noise = tuple(noise_shape)
    last = shape[len(shape) - len(noise) :]
    if len(noise) > len(shape) or any(n not in (None, 1, m) for n, m in zip(noise, last)):
        raise ValueError(
            "narae.random.dropout: expected a noise_shape that broadcasts to the shape of inputs. "
            f"Received: noise_shape={noise}, inputs.shape={shape}"
        )
    return tuple(m if n is None else n for n, m in zip(noise, last))


def _dropout(x, key, rate):
    # The gradient is the same function of dy, hence so is every further one.
    y = Tensor(_core.random_dropout(key.array, x.array, rate))
    return record(y, (x,), lambda dy: (_dropout(dy, key, rate),))


def _dropout_together(x, key, rate, noise):
    with no_gradients():  # of the steps: that would store the mask
        kept = Tensor(_core.random_bernoulli(key.array, noise, 1 - rate))
        y = where(kept, multiply(x, 1 / (1 - rate) if rate < 1 else 0.0), 0.0)
    return record(y, (x,), lambda dy: (_dropout_together(dy, key, rate, noise),))
