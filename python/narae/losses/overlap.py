"""Losses on overlapping regions, for segmentation: Dice and Tversky."""

from typing import Any

from narae import ops
from narae.engine import config
from narae.engine.tensor import Tensor
from narae.losses.loss import LossFunctionWrapper


def dice(y_true: Any, y_pred: Any, axis: Any = None) -> Tensor:
    """Computes `1 - 2 * sum(y_true * y_pred) / (sum(y_true) + sum(y_pred) + epsilon)`.

    Source: Milletari et al., 2016, arXiv:1606.04797.

    Args:
        y_true: target masks, values in [0, 1].
        y_pred: predicted masks, same shape.
        axis: the axes that make one region; all by default.

    Returns:
        One value per region.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = ops.cast(y_true, y_pred.dtype)
    overlap = ops.sum(y_true * y_pred, axis=axis)
    total = ops.sum(y_true, axis=axis) + ops.sum(y_pred, axis=axis)
    return 1.0 - 2.0 * overlap / (total + config.epsilon())


def tversky(
    y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Any = None
) -> Tensor:
    """Computes `1 - tp / (tp + alpha * missed + beta * added + epsilon)`.

    As in Keras, `alpha` weighs `sum((1 - y_pred) * y_true)`, `beta` `sum(y_pred * (1 - y_true))`.

    Source: Salehi et al., 2017, arXiv:1706.05721.

    Args:
        y_true: target masks, values in [0, 1].
        y_pred: predicted masks, same shape.
        alpha: weight of what the prediction misses.
        beta: weight of what the prediction adds.
        axis: the axes that make one region; all by default.

    Returns:
        One value per region.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = ops.cast(y_true, y_pred.dtype)
    overlap = ops.sum(y_true * y_pred, axis=axis)
    missed = ops.sum((1.0 - y_pred) * y_true, axis=axis)
    added = ops.sum(y_pred * (1.0 - y_true), axis=axis)
    return 1.0 - overlap / (overlap + alpha * missed + beta * added + config.epsilon())


class Dice(LossFunctionWrapper):
    """The Dice loss: one minus twice the overlap over the sum of the two regions.

    Args:
        axis: the axes that make one region; all by default.
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "dice",
        axis: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(dice, reduction, name, dtype, axis=axis)


class Tversky(LossFunctionWrapper):
    """The Tversky loss: Dice with separate weights for misses and additions.

    Args:
        alpha: weight of what the prediction misses.
        beta: weight of what the prediction adds.
        axis: the axes that make one region; all by default.
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "tversky",
        axis: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(tversky, reduction, name, dtype, alpha=alpha, beta=beta, axis=axis)
