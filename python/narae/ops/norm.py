"""Normalizations: x_hat = (x - mean) / sqrt(variance + epsilon), then scaled and shifted."""

import math

import numpy as np

from narae import _core, ops
from narae.engine import Tensor, config, convert_to_tensor, op, record
from narae.ops.reduce import canonical_axes
from narae.ops.softmax import on_last_axis, to_float

__all__ = [
    "batch_normalization",
    "batch_normalization_training",
    "group_normalization",
    "layer_normalization",
    "normalize",
    "rms_normalization",
]


def _parameter(who: str, name: str, value, size: int, dtype: str):
    """Returns gamma, beta, a mean ... as a vector of the normalized axes' size, or None.

    Next to a bfloat16 x it is float32, as are the statistics.
    """
    if value is None:
        return None
    value = convert_to_tensor(value, "float32" if dtype == "bfloat16" else dtype)
    if value.size != size:
        raise ValueError(
            f"narae.ops.{who}: expected {name} with {size} values, the size of the axis. "
            f"Received: {name}.shape={value.shape}"
        )
    return value if value.ndim == 1 else ops.reshape(value, (size,))


def _array(x):
    return None if x is None else x.array


def _inputs(*tensors) -> tuple:
    return tuple(x for x in tensors if x is not None)


def _tensors(*arrays) -> tuple:
    return tuple(Tensor(a) for a in arrays if a is not None)


def _axes_size(who, x, axis) -> int:
    return math.prod(x.shape[a] for a in canonical_axes(who, axis, x.ndim))


def _epsilon(epsilon) -> float:
    return config.epsilon() if epsilon is None else float(epsilon)


# ---- over the last axis ------------------------------------------------------------------------


def _rows(x) -> np.ndarray:
    return x.array.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _layer(x, gamma, beta, epsilon):
    y, mean, r = _core.layer_norm_forward(_rows(x), _array(gamma), _array(beta), epsilon)

    def backward(dy):
        dx, dgamma, dbeta = _core.layer_norm_backward(
            _rows(dy), _rows(x), _array(gamma), mean, r, gamma is not None, beta is not None
        )
        return _tensors(dx.reshape(x.shape), dgamma, dbeta)

    return record(Tensor(y.reshape(x.shape)), _inputs(x, gamma, beta), backward)


@op
def layer_normalization(
    x, gamma=None, beta=None, axis: int | tuple[int, ...] = -1, epsilon: float | None = None, **_
) -> Tensor:
    """Normalizes each sample over its axes: y = gamma * (x - mean) / sqrt(var + epsilon) + beta.

    Args:
        x: tensor.
        gamma: scale, of the shape of the normalized axes, or None.
        beta: shift, of the same shape, or None.
        axis: the axis or axes that mean and variance are taken over.
        epsilon: added to the variance; `narae.config.epsilon()` by default.

    Returns:
        A tensor of x's shape.

    Raises:
        ValueError: gamma or beta of another size.

    >>> narae.ops.layer_normalization([[0.0, 2.0]]).numpy().round(3)
    array([[-1.,  1.]], dtype=float32)
    """
    who, x = "layer_normalization", to_float(x)
    size, epsilon = _axes_size(who, x, axis), _epsilon(epsilon)
    gamma = _parameter(who, "gamma", gamma, size, x.dtype)
    beta = _parameter(who, "beta", beta, size, x.dtype)
    return on_last_axis(who, x, axis, lambda x: _layer(x, gamma, beta, epsilon))


def _rms(x, scale, epsilon):
    y, r = _core.rms_norm_forward(_rows(x), _array(scale), epsilon)

    def backward(dy):
        dx, dscale = _core.rms_norm_backward(
            _rows(dy), _rows(x), _array(scale), r, scale is not None
        )
        return _tensors(dx.reshape(x.shape), dscale)

    return record(Tensor(y.reshape(x.shape)), _inputs(x, scale), backward)


@op
def rms_normalization(
    x, scale=None, axis: int | tuple[int, ...] = -1, epsilon: float | None = None
) -> Tensor:
    """Divides by the root of the mean square: y = scale * x / sqrt(mean(x^2) + epsilon).

    Args:
        x: tensor.
        scale: of the shape of the normalized axes, or None.
        axis: the axis or axes that the mean is taken over.
        epsilon: added to the mean square; `narae.config.epsilon()` by default.
    """
    who, x = "rms_normalization", to_float(x)
    x = ops.reshape(x, (1,)) if x.ndim == 0 else x
    scale = _parameter(who, "scale", scale, _axes_size(who, x, axis), x.dtype)
    return on_last_axis(who, x, axis, lambda x: _rms(x, scale, _epsilon(epsilon)))


# ---- by channels -------------------------------------------------------------------------------


def _channels_last(who, x, axis, function):
    """Returns function(x) for a function that wants the channels last; tuples keep their rest."""
    (axis,) = canonical_axes(who, (axis,), x.ndim)
    if axis == x.ndim - 1:
        return function(x)
    y = function(ops.moveaxis(x, axis, -1))
    if isinstance(y, tuple):
        return (ops.moveaxis(y[0], -1, axis), *y[1:])
    return ops.moveaxis(y, -1, axis)


def _positions(x, samples: int) -> np.ndarray:
    """x as (samples, positions, channels)."""
    start = 0 if samples == 1 else 1
    return x.array.reshape(samples, math.prod(x.shape[start:-1]), x.shape[-1])


def _by_channels(x, gamma, beta, samples, groups, epsilon):
    """y, mean (samples, C), variance (samples, C)."""
    rows = _positions(x, samples)
    mean, variance = _core.channel_norm_moments(rows, groups)
    y = _core.channel_norm_forward(rows, mean, variance, _array(gamma), _array(beta), epsilon)

    def backward(dy):
        dy = _positions(dy, samples)
        dgamma, dbeta = _core.channel_norm_sums(dy, rows, mean, variance, epsilon)
        dx = _core.channel_norm_backward(
            dy, rows, mean, variance, _array(gamma), dgamma, dbeta, groups, epsilon
        )
        return _tensors(
            dx.reshape(x.shape),
            None if gamma is None else _core.reduce_sum(dgamma, (0, 1)),
            None if beta is None else _core.reduce_sum(dbeta, (0, 1)),
        )

    y = record(Tensor(y.reshape(x.shape)), _inputs(x, gamma, beta), backward)
    return y, mean, variance


@op
def batch_normalization_training(
    x, gamma=None, beta=None, axis: int = -1, epsilon: float = 1e-3
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalizes each channel over the batch and all positions, with the batch's own moments.

    y = gamma * (x - mean) / sqrt(variance + epsilon) + beta

    Args:
        x: tensor (N, ..., C).
        gamma: scale (C,) or None.
        beta: shift (C,) or None.
        axis: the axis of the channels.
        epsilon: added to the variance.

    Returns:
        y of x's shape, mean (C,) and variance (C,). Gradients flow through y alone.
    """
    who, x = "batch_normalization_training", to_float(x)
    size = _axes_size(who, x, (axis,))
    gamma = _parameter(who, "gamma", gamma, size, x.dtype)
    beta = _parameter(who, "beta", beta, size, x.dtype)

    def run(x):
        y, mean, variance = _by_channels(x, gamma, beta, 1, x.shape[-1], epsilon)
        return y, Tensor(mean.reshape(size)), Tensor(variance.reshape(size))

    return _channels_last(who, x, axis, run)


def _with_moments(x, mean, variance, scale, offset, epsilon):
    rows = _positions(x, 1)
    m, v = mean.array[None], variance.array[None]
    y = _core.channel_norm_forward(rows, m, v, _array(scale), _array(offset), epsilon)

    def backward(dy):
        rows_dy = _positions(dy, 1)
        dscale, doffset = _core.channel_norm_sums(rows_dy, rows, m, v, epsilon)
        zero = np.zeros_like(m)
        dx = _core.channel_norm_forward(rows_dy, zero, v, _array(scale), None, epsilon)
        dscale, doffset = Tensor(dscale.reshape(-1)), Tensor(doffset.reshape(-1))
        r = ops.rsqrt(variance + epsilon)
        slope = r if scale is None else r * scale
        gradients = [Tensor(dx.reshape(x.shape)), -slope * doffset, -0.5 * slope * r * dscale]
        gradients += [] if scale is None else [dscale]
        return tuple(gradients + ([] if offset is None else [doffset]))

    inputs = _inputs(x, mean, variance, scale, offset)
    return record(Tensor(y.reshape(x.shape)), inputs, backward)


@op
def batch_normalization(
    x, mean, variance, axis: int, offset=None, scale=None, epsilon: float = 1e-3
) -> Tensor:
    """Normalizes with given moments: y = scale * (x - mean) / sqrt(variance + epsilon) + offset.

    Args:
        x: tensor (N, ..., C).
        mean: (C,).
        variance: (C,).
        axis: the axis of the channels.
        offset: (C,) or None.
        scale: (C,) or None.
        epsilon: added to the variance.
    """
    who, x = "batch_normalization", to_float(x)
    size = _axes_size(who, x, (axis,))
    given = {"mean": mean, "variance": variance, "scale": scale, "offset": offset}
    vectors = [_parameter(who, name, value, size, x.dtype) for name, value in given.items()]
    return _channels_last(who, x, axis, lambda x: _with_moments(x, *vectors, epsilon))


@op
def group_normalization(
    x, gamma=None, beta=None, groups: int = 1, axis: int = -1, epsilon: float = 1e-3
) -> Tensor:
    """Normalizes each sample over its positions and groups of neighbouring channels.

    y = gamma * (x - mean) / sqrt(variance + epsilon) + beta

    Args:
        x: tensor (N, ..., C).
        gamma: scale (C,) or None.
        beta: shift (C,) or None.
        groups: number of groups; C of them is instance normalization, which `groups=-1` means too.
        axis: the axis of the channels.
        epsilon: added to the variance.

    Raises:
        ValueError: groups that do not divide the channels.
    """
    who, x = "group_normalization", to_float(x)
    size = _axes_size(who, x, (axis,))
    if x.ndim < 2:
        raise ValueError(
            f"narae.ops.{who}: expected a batch of samples. Received: x.shape={x.shape}"
        )
    gamma = _parameter(who, "gamma", gamma, size, x.dtype)
    beta = _parameter(who, "beta", beta, size, x.dtype)
    groups = size if groups == -1 else groups

    return _channels_last(
        who, x, axis, lambda x: _by_channels(x, gamma, beta, x.shape[0], groups, epsilon)[0]
    )


@op
def normalize(
    x, axis: int | tuple[int, ...] | None = -1, order: int = 2, epsilon: float | None = None
) -> Tensor:
    """Divides by the norm along the axis: y = x / max(norm(x, order), epsilon).

    Args:
        x: tensor.
        axis: the axis or axes of the norm.
        order: of the norm, a positive integer.
        epsilon: the smallest divisor; `narae.config.epsilon()` by default.
    """
    if not isinstance(order, int) or order < 1:
        raise ValueError(
            f"narae.ops.normalize: expected order to be a positive integer. Received: {order!r}"
        )
    x, epsilon = to_float(x), _epsilon(epsilon)
    x = ops.reshape(x, (1,)) if x.ndim == 0 else x
    if order == 2:  # bounded before the root: the gradient at zero is finite
        squares = ops.sum(ops.square(x), axis, keepdims=True)
        return x * ops.rsqrt(ops.maximum(squares, epsilon * epsilon))
    return x / ops.maximum(ops.norm(x, order, axis, keepdims=True), epsilon)
