"""Losses on real numbers: squared, absolute, relative and logarithmic errors, likelihoods."""

import math
from typing import Any

from narae import ops
from narae.engine import config
from narae.engine.tensor import Tensor
from narae.losses.loss import LossFunctionWrapper, match_ranks


def _pair(y_true: Any, y_pred: Any) -> tuple[Tensor, Tensor]:
    y_pred = ops.convert_to_tensor(y_pred)
    return match_ranks(ops.convert_to_tensor(y_true, dtype=y_pred.dtype), y_pred)


def mean_squared_error(y_true: Any, y_pred: Any) -> Tensor:
    """Computes `mean((y_true - y_pred)^2)` over the last axis.

    Args:
        y_true: targets, `(batch, ..., d)`.
        y_pred: predictions, same shape.

    Returns:
        One value per sample, `(batch, ...)`.

    >>> narae.losses.mean_squared_error([[0.0, 2.0]], [[1.0, 2.0]])
    narae.Tensor([0.5], shape=(1,), dtype=float32)
    """
    y_true, y_pred = _pair(y_true, y_pred)
    return ops.mean_squared_error(y_true, y_pred)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Tensor:
    """Computes `mean(|y_true - y_pred|)` over the last axis.

    Args:
        y_true: targets, `(batch, ..., d)`.
        y_pred: predictions, same shape.

    Returns:
        One value per sample, `(batch, ...)`.
    """
    y_true, y_pred = _pair(y_true, y_pred)
    return ops.mean(ops.abs(y_true - y_pred), axis=-1)


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Tensor:
    """Computes `100 * mean(|y_true - y_pred| / max(|y_true|, epsilon))` over the last axis.

    Args:
        y_true: targets, `(batch, ..., d)`.
        y_pred: predictions, same shape.

    Returns:
        One value in percent per sample, `(batch, ...)`.
    """
    y_true, y_pred = _pair(y_true, y_pred)
    scale = ops.maximum(ops.abs(y_true), config.epsilon())
    return 100.0 * ops.mean(ops.abs((y_true - y_pred) / scale), axis=-1)


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Tensor:
    """Computes `mean((log(1 + y_true) - log(1 + y_pred))^2)` over the last axis.

    Values below `epsilon` count as `epsilon`.

    Args:
        y_true: targets, `(batch, ..., d)`.
        y_pred: predictions, same shape.

    Returns:
        One value per sample, `(batch, ...)`.
    """
    y_true, y_pred = _pair(y_true, y_pred)
    epsilon = config.epsilon()
    log_true = ops.log(ops.maximum(y_true, epsilon) + 1.0)
    log_pred = ops.log(ops.maximum(y_pred, epsilon) + 1.0)
    return ops.mean(ops.square(log_pred - log_true), axis=-1)


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Tensor:
    """Computes Huber's loss over the last axis: quadratic near zero, linear beyond `delta`.

    With `e = y_pred - y_true`: `e^2 / 2` where `|e| <= delta`, else `delta * |e| - delta^2 / 2`.

    Source: Huber, 1964.

    Args:
        y_true: targets, `(batch, ..., d)`.
        y_pred: predictions, same shape.
        delta: the error at which the loss turns linear.

    Returns:
        One value per sample, `(batch, ...)`.
    """
    y_true, y_pred = _pair(y_true, y_pred)
    size = ops.abs(y_pred - y_true)
    # q * (|e| - q / 2) with q = min(|e|, delta) is both branches at once.
    quadratic = ops.minimum(size, delta)
    return ops.mean(quadratic * (size - 0.5 * quadratic), axis=-1)


def log_cosh(y_true: Any, y_pred: Any) -> Tensor:
    """Computes `mean(log(cosh(y_pred - y_true)))` over the last axis.

    Args:
        y_true: targets, `(batch, ..., d)`.
        y_pred: predictions, same shape.

    Returns:
        One value per sample, `(batch, ...)`.
    """
    y_true, y_pred = _pair(y_true, y_pred)
    error = y_pred - y_true
    # log(cosh(x)) = x + softplus(-2x) - log(2) does not overflow.
    return ops.mean(error + ops.softplus(-2.0 * error) - math.log(2.0), axis=-1)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """Computes `-sum(y_true / |y_true| * y_pred / |y_pred|)`, -1 for the same direction.

    Args:
        y_true: targets, `(batch, ..., d)`.
        y_pred: predictions, same shape.
        axis: the axis of the vectors.

    Returns:
        One value per vector.
    """
    y_true, y_pred = _pair(y_true, y_pred)
    return -ops.sum(ops.normalize(y_true, axis=axis) * ops.normalize(y_pred, axis=axis), axis=axis)


def poisson(y_true: Any, y_pred: Any) -> Tensor:
    """Computes `mean(y_pred - y_true * log(y_pred + epsilon))` over the last axis.

    Args:
        y_true: counts, `(batch, ..., d)`.
        y_pred: predicted rates, same shape.

    Returns:
        One value per sample, `(batch, ...)`.
    """
    y_true, y_pred = _pair(y_true, y_pred)
    return ops.mean(y_pred - y_true * ops.log(y_pred + config.epsilon()), axis=-1)


def kl_divergence(y_true: Any, y_pred: Any) -> Tensor:
    """Computes `sum(y_true * log(y_true / y_pred))` over the last axis.

    Both are clipped to `[epsilon, 1]` first.

    Args:
        y_true: target distribution, `(batch, ..., d)`.
        y_pred: predicted distribution, same shape.

    Returns:
        One value per sample, `(batch, ...)`.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = ops.convert_to_tensor(y_true, dtype=y_pred.dtype)
    y_true = ops.clip(y_true, config.epsilon(), 1.0)
    y_pred = ops.clip(y_pred, config.epsilon(), 1.0)
    return ops.sum(y_true * ops.log(y_true / y_pred), axis=-1)


class MeanSquaredError(LossFunctionWrapper):
    """The mean of squared errors, `mean((y_true - y_pred)^2)`.

    Args:
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.

    >>> narae.losses.MeanSquaredError()([[0.0], [2.0]], [[1.0], [2.0]])
    narae.Tensor(0.5, shape=(), dtype=float32)
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "mean_squared_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(mean_squared_error, reduction, name, dtype)


class MeanAbsoluteError(LossFunctionWrapper):
    """The mean of absolute errors, `mean(|y_true - y_pred|)`.

    Args:
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "mean_absolute_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(mean_absolute_error, reduction, name, dtype)


class MeanAbsolutePercentageError(LossFunctionWrapper):
    """The mean of absolute errors in percent of the target.

    Args:
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "mean_absolute_percentage_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(mean_absolute_percentage_error, reduction, name, dtype)


class MeanSquaredLogarithmicError(LossFunctionWrapper):
    """The mean of squared differences of `log(1 + y)`.

    Args:
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "mean_squared_logarithmic_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(mean_squared_logarithmic_error, reduction, name, dtype)


class Huber(LossFunctionWrapper):
    """Huber's loss: squared for errors up to `delta`, linear beyond.

    Args:
        delta: the error at which the loss turns linear.
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.
    """

    def __init__(
        self,
        delta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "huber_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(huber, reduction, name, dtype, delta=delta)


class LogCosh(LossFunctionWrapper):
    """The mean of `log(cosh(y_pred - y_true))`, a smooth stand-in for the absolute error.

    Args:
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "log_cosh",
        dtype: Any = None,
    ) -> None:
        super().__init__(log_cosh, reduction, name, dtype)


class CosineSimilarity(LossFunctionWrapper):
    """The negative cosine of the angle between target and prediction.

    Args:
        axis: the axis of the vectors.
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.
    """

    def __init__(
        self,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "cosine_similarity",
        dtype: Any = None,
    ) -> None:
        super().__init__(cosine_similarity, reduction, name, dtype, axis=axis)


class Poisson(LossFunctionWrapper):
    """The negative log-likelihood of counts under Poisson rates, without its constant part.

    Args:
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "poisson",
        dtype: Any = None,
    ) -> None:
        super().__init__(poisson, reduction, name, dtype)


class KLDivergence(LossFunctionWrapper):
    """The Kullback-Leibler divergence of the prediction from the target distribution.

    Args:
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "kl_divergence",
        dtype: Any = None,
    ) -> None:
        super().__init__(kl_divergence, reduction, name, dtype)
