"""Softmax over any axis, and the cross-entropies of logits and of probabilities."""

import math

from narae import _core, ops
from narae.engine import Tensor, config, convert_to_tensor, is_tracked, op, record
from narae.engine.dtypes import is_float
from narae.ops.reduce import canonical_axes

__all__ = [
    "binary_crossentropy",
    "categorical_crossentropy",
    "log_softmax",
    "sigmoid_crossentropy",
    "softmax",
    "softmax_crossentropy",
    "sparse_categorical_crossentropy",
]


def to_float(x) -> Tensor:
    """Returns x as a Tensor of floats."""
    x = convert_to_tensor(x)
    return x if is_float(x.dtype) else ops.cast(x, config.floatx())


def on_last_axis(who: str, x: Tensor, axis, function):
    """Returns function(x) along an axis, or several taken as one, for a function of the last."""
    axes = canonical_axes(who, axis, x.ndim)
    if axes == (x.ndim - 1,):
        return function(x)
    order = (*(a for a in range(x.ndim) if a not in axes), *axes)
    in_place = order == tuple(range(x.ndim))
    moved = x if in_place else ops.transpose(x, order)
    size = math.prod(moved.shape[x.ndim - len(axes) :])
    y = function(ops.reshape(moved, (*moved.shape[: x.ndim - len(axes)], size)))
    y = ops.reshape(y, moved.shape)
    return y if in_place else ops.transpose(y, tuple(order.index(a) for a in range(x.ndim)))


# ---- softmax -----------------------------------------------------------------------------------


def _softmax(x):
    y = Tensor(_core.softmax_forward(x.array))
    return record(y, (x,), lambda dy: (_softmax_backward(dy, y),))


def _softmax_backward(dy, y):
    dx = Tensor(_core.softmax_backward(dy.array, y.array))

    def backward(v):  # linear in dy by a symmetric matrix
        dot = ops.sum(y * dy, -1, keepdims=True)
        return _softmax_backward(v, y), v * (dy - dot) - dy * ops.sum(y * v, -1, keepdims=True)

    return record(dx, (dy, y), backward)


@op
def softmax(x, axis: int | tuple[int, ...] | None = -1) -> Tensor:
    """Softmax: y_c = exp(x_c) / sum_j exp(x_j), computed without overflow.

    Args:
        x: tensor (..., C).
        axis: the axis of the classes, or several that are taken as one; None: all.

    Returns:
        A tensor of x's shape that sums to one along the axis.

    >>> narae.ops.softmax([0.0, 0.0]).numpy()
    array([0.5, 0.5], dtype=float32)
    """
    return on_last_axis("softmax", to_float(x), axis, _softmax)


def _log_softmax(x):
    y = Tensor(_core.log_softmax_forward(x.array))
    return record(y, (x,), lambda dy: (_log_softmax_backward(dy, y),))


def _log_softmax_backward(dy, y):
    dx = Tensor(_core.log_softmax_backward(dy.array, y.array))

    def backward(v):
        p = ops.exp(y)
        vp = v * p
        return v - ops.sum(vp, -1, keepdims=True), -vp * ops.sum(dy, -1, keepdims=True)

    return record(dx, (dy, y), backward)


@op
def log_softmax(x, axis: int | tuple[int, ...] | None = -1) -> Tensor:
    """Logarithm of softmax: y_c = x_c - log(sum_j exp(x_j)). See `softmax`."""
    return on_last_axis("log_softmax", to_float(x), axis, _log_softmax)


# ---- cross-entropy -----------------------------------------------------------------------------


def _last(who, x, axis):
    """Returns x with the axis moved to the end."""
    (axis,) = canonical_axes(who, (axis,), x.ndim)
    return x if axis == x.ndim - 1 else ops.moveaxis(x, axis, -1)


def _labels(target) -> Tensor:
    return target if target.dtype in ("int32", "int64") else ops.cast(target, "int64")


def _sparse(x, labels):
    y, ms = _core.sparse_crossentropy_forward(x.array, labels.array)

    def backward(dy):
        if is_tracked(x) or is_tracked(dy):
            one_hot = ops.one_hot(labels, x.shape[-1], dtype=x.dtype)
            return (ops.expand_dims(dy, -1) * (_softmax(x) - one_hot),)
        dx = _core.sparse_crossentropy_backward(dy.array, x.array, labels.array, ms)
        return (Tensor(dx),)

    return record(Tensor(y), (x,), backward)


def _sparse_of_probabilities(p, labels):
    epsilon = config.epsilon()
    y = _core.sparse_crossentropy_of_probabilities(p.array, labels.array, epsilon)

    def backward(dy):
        dp = _core.sparse_crossentropy_of_probabilities_backward(
            dy.array, p.array, labels.array, epsilon
        )
        return (Tensor(dp),)

    return record(Tensor(y), (p,), backward)


def _both(gradients):
    dx, dt = gradients
    return Tensor(dx), None if dt is None else Tensor(dt)


def _dense(x, target):
    y, ms = _core.crossentropy_forward(x.array, target.array)
    want_dt = is_tracked(target)

    def backward(dy):
        if is_tracked(x) or is_tracked(dy) or is_tracked(target):
            d, log_p = ops.expand_dims(dy, -1), _log_softmax(x)
            total = ops.sum(target, -1, keepdims=True)
            return d * (ops.exp(log_p) * total - target), -d * log_p
        return _both(_core.crossentropy_backward(dy.array, x.array, target.array, ms, want_dt))

    return record(Tensor(y), (x, target), backward)


def _dense_of_probabilities(p, target):
    epsilon = config.epsilon()
    y = _core.crossentropy_of_probabilities(p.array, target.array, epsilon)
    want_dt = is_tracked(target)
    return record(
        Tensor(y),
        (p, target),
        lambda dy: _both(
            _core.crossentropy_of_probabilities_backward(
                dy.array, p.array, target.array, epsilon, want_dt
            )
        ),
    )


@op
def softmax_crossentropy(x, target, axis: int = -1) -> Tensor:
    """Cross-entropy of logits, one loss for each row: -sum_c target_c * log_softmax(x)_c.

    Softmax, logarithm and sum are one kernel; so is the gradient.

    Args:
        x: logits (..., C).
        target: integer labels (...) in [0, C), or weights of the classes (..., C).
        axis: the axis of the classes in x (and in dense targets).

    Returns:
        Losses (...).

    Raises:
        ValueError: a label outside [0, C), or shapes that do not fit.

    >>> narae.ops.softmax_crossentropy([[0.0, 0.0]], [1]).numpy().round(3)
    array([0.693], dtype=float32)
    """
    x, target = to_float(x), convert_to_tensor(target)
    x = _last("softmax_crossentropy", x, axis)
    if target.ndim == x.ndim - 1 and not is_float(target.dtype):
        return _sparse(x, _labels(target))
    return _dense(x, _last("softmax_crossentropy", ops.cast(target, x.dtype), axis))


@op
def sparse_categorical_crossentropy(
    target, output, from_logits: bool = False, axis: int = -1
) -> Tensor:
    """Cross-entropy of integer labels, one loss for each row: -log(output[label]).

    Args:
        target: labels (...) or (..., 1) in [0, C), of any dtype.
        output: probabilities, or logits (..., C). Probabilities are divided by their sum and
            clipped to [epsilon, 1 - epsilon].
        from_logits: whether output holds logits.
        axis: the axis of the classes in output.

    Returns:
        Losses (...).

    Raises:
        ValueError: a label outside [0, C), or shapes that do not fit.
    """
    target, output = convert_to_tensor(target), to_float(output)
    if output.ndim < 1:
        raise ValueError(
            "narae.ops.sparse_categorical_crossentropy: expected output of at least one "
            f"dimension. Received: output.shape={output.shape}"
        )
    output = _last("sparse_categorical_crossentropy", output, axis)
    if target.ndim == output.ndim and target.shape[-1] == 1:
        target = ops.squeeze(target, -1)
    if target.shape != output.shape[:-1]:
        hint = (
            " Dense targets, such as one-hot rows, go with categorical_crossentropy."
            if target.shape == output.shape
            else ""
        )
        raise ValueError(
            "narae.ops.sparse_categorical_crossentropy: expected one label for each row of "
            f"output. Received: target.shape={target.shape}, output.shape={output.shape}.{hint}"
        )
    labels = _labels(target)
    return _sparse(output, labels) if from_logits else _sparse_of_probabilities(output, labels)


@op
def categorical_crossentropy(target, output, from_logits: bool = False, axis: int = -1) -> Tensor:
    """Cross-entropy of dense targets, one loss for each row: -sum_c target_c * log(output_c).

    Args:
        target: weights of the classes (..., C), such as one-hot rows.
        output: probabilities, or logits (..., C). Probabilities are divided by their sum and
            clipped to [epsilon, 1 - epsilon].
        from_logits: whether output holds logits.
        axis: the axis of the classes.

    Returns:
        Losses (...).

    Raises:
        ValueError: shapes that differ.
    """
    target, output = convert_to_tensor(target), to_float(output)
    if target.shape != output.shape or output.ndim < 1:
        hint = (
            " Integer labels go with sparse_categorical_crossentropy."
            if target.shape in (output.shape[:-1], (*output.shape[:-1], 1))
            else ""
        )
        raise ValueError(
            "narae.ops.categorical_crossentropy: expected target and output of the same shape "
            "and at least one dimension. "
            f"Received: target.shape={target.shape}, output.shape={output.shape}.{hint}"
        )
    target = _last("categorical_crossentropy", ops.cast(target, output.dtype), axis)
    output = _last("categorical_crossentropy", output, axis)
    return (_dense if from_logits else _dense_of_probabilities)(output, target)


def _binary(x, target):
    want_dt = is_tracked(target)

    def backward(dy):
        if is_tracked(x) or is_tracked(dy) or is_tracked(target):
            return dy * (ops.sigmoid(x) - target), -dy * x
        return _both(_core.binary_crossentropy_backward(dy.array, x.array, target.array, want_dt))

    y = Tensor(_core.binary_crossentropy_forward(x.array, target.array))
    return record(y, (x, target), backward)


def _binary_of_probabilities(p, target):
    epsilon = config.epsilon()
    want_dt = is_tracked(target)
    y = Tensor(_core.binary_crossentropy_of_probabilities(p.array, target.array, epsilon))
    return record(
        y,
        (p, target),
        lambda dy: _both(
            _core.binary_crossentropy_of_probabilities_backward(
                dy.array, p.array, target.array, epsilon, want_dt
            )
        ),
    )


@op
def sigmoid_crossentropy(x, target) -> Tensor:
    """Binary cross-entropy of logits, element by element, without overflow.

    y = max(x, 0) - x * target + log(1 + exp(-|x|))

    Args:
        x: logits.
        target: of x's shape, in [0, 1].
    """
    return binary_crossentropy(target, x, from_logits=True)


@op
def binary_crossentropy(target, output, from_logits: bool = False) -> Tensor:
    """Binary cross-entropy: -target * log(output) - (1 - target) * log(1 - output).

    Args:
        target: in [0, 1].
        output: of target's shape; probabilities, which are clipped to [epsilon, 1 - epsilon], or
            logits.
        from_logits: whether output holds logits.

    Returns:
        One value for each element.

    Raises:
        ValueError: shapes that differ.
    """
    target, output = convert_to_tensor(target), to_float(output)
    if target.shape != output.shape:
        raise ValueError(
            "narae.ops.binary_crossentropy: expected target and output of the same shape. "
            f"Received: target.shape={target.shape}, output.shape={output.shape}"
        )
    target = ops.cast(target, output.dtype)
    return (_binary if from_logits else _binary_of_probabilities)(output, target)
