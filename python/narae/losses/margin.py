"""Margin losses: hinge, squared hinge and categorical hinge."""

from typing import Any

from narae import ops
from narae.engine.tensor import Tensor
from narae.losses.loss import LossFunctionWrapper


def _signed(y_true: Any, y_pred: Tensor) -> Tensor:
    """Turns labels 0 and 1 into -1 and 1; other labels stay."""
    y_true = ops.cast(y_true, y_pred.dtype)
    is_binary = ops.all(ops.logical_or(ops.equal(y_true, 0), ops.equal(y_true, 1)))
    return ops.where(is_binary, 2.0 * y_true - 1.0, y_true)


def hinge(y_true: Any, y_pred: Any) -> Tensor:
    """Computes `mean(max(1 - y_true * y_pred, 0))` over the last axis.

    Args:
        y_true: labels -1 or 1, `(batch, ..., d)`; 0 and 1 are turned into them.
        y_pred: scores, same shape.

    Returns:
        One value per sample, `(batch, ...)`.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    return ops.mean(ops.maximum(1.0 - _signed(y_true, y_pred) * y_pred, 0.0), axis=-1)


def squared_hinge(y_true: Any, y_pred: Any) -> Tensor:
    """Computes `mean(max(1 - y_true * y_pred, 0)^2)` over the last axis.

    Args:
        y_true: labels -1 or 1, `(batch, ..., d)`; 0 and 1 are turned into them.
        y_pred: scores, same shape.

    Returns:
        One value per sample, `(batch, ...)`.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    margin = ops.maximum(1.0 - _signed(y_true, y_pred) * y_pred, 0.0)
    return ops.mean(ops.square(margin), axis=-1)


def categorical_hinge(y_true: Any, y_pred: Any) -> Tensor:
    """Computes `max(neg - pos + 1, 0)`, `pos` the true class's score, `neg` the best of the others.

    Args:
        y_true: one-hot labels, `(batch, ..., classes)`.
        y_pred: scores, same shape.

    Returns:
        One value per sample, `(batch, ...)`.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = ops.cast(y_true, y_pred.dtype)
    pos = ops.sum(y_true * y_pred, axis=-1)
    neg = ops.max((1.0 - y_true) * y_pred, axis=-1)
    return ops.maximum(neg - pos + 1.0, 0.0)


class Hinge(LossFunctionWrapper):
    """The hinge loss, `mean(max(1 - y_true * y_pred, 0))`.

    Args:
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "hinge",
        dtype: Any = None,
    ) -> None:
        super().__init__(hinge, reduction, name, dtype)


class SquaredHinge(LossFunctionWrapper):
    """The squared hinge loss, `mean(max(1 - y_true * y_pred, 0)^2)`.

    Args:
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "squared_hinge",
        dtype: Any = None,
    ) -> None:
        super().__init__(squared_hinge, reduction, name, dtype)


class CategoricalHinge(LossFunctionWrapper):
    """The hinge loss between the true class's score and the best of the others.

    Args:
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "categorical_hinge",
        dtype: Any = None,
    ) -> None:
        super().__init__(categorical_hinge, reduction, name, dtype)
