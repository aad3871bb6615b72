"""How often predictions hit: accuracy for values, one output, one-hot labels and class numbers."""

from typing import Any

from narae import ops
from narae.engine import config
from narae.engine.tensor import Tensor
from narae.losses.loss import match_ranks
from narae.metrics.mean import MeanMetricWrapper


def accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """Gives 1 where `y_pred` equals `y_true`, else 0.

    Args:
        y_true: targets, `(batch, ...)`.
        y_pred: predictions, same shape.

    Returns:
        One value per target.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    y_true, y_pred = match_ranks(ops.convert_to_tensor(y_true, dtype=y_pred.dtype), y_pred)
    return ops.cast(ops.equal(y_true, y_pred), config.floatx())


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Tensor:
    """Gives 1 where `y_pred > threshold` agrees with the label, else 0.

    Args:
        y_true: labels 0 or 1, `(batch, ...)`.
        y_pred: probabilities, same shape.
        threshold: above it, a prediction counts as 1.

    Returns:
        One value per label.

    >>> narae.metrics.binary_accuracy([1, 0], [0.9, 0.6])
    narae.Tensor([1., 0.], shape=(2,), dtype=float32)
    """
    y_true, y_pred = match_ranks(ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred))
    y_pred = ops.cast(ops.greater(y_pred, threshold), y_true.dtype)
    return ops.cast(ops.equal(y_true, y_pred), config.floatx())


def categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """Gives 1 where the largest prediction is the class of the one-hot label, else 0.

    Args:
        y_true: one-hot labels, `(batch, ..., classes)`.
        y_pred: probabilities or logits, same shape.

    Returns:
        One value per sample, `(batch, ...)`.
    """
    hit = ops.equal(ops.argmax(y_true, axis=-1), ops.argmax(y_pred, axis=-1))
    return ops.cast(hit, config.floatx())


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """Gives 1 where the largest prediction is the class `y_true`, else 0.

    Args:
        y_true: class numbers, `(batch, ...)` or `(batch, ..., 1)`.
        y_pred: probabilities or logits, `(batch, ..., classes)`.

    Returns:
        One value per sample, `(batch, ...)`.
    """
    y_true = _class_numbers(y_true, ops.convert_to_tensor(y_pred))
    return ops.cast(ops.equal(y_true, ops.argmax(y_pred, axis=-1)), config.floatx())


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Tensor:
    """Gives 1 where the class of the one-hot label is among the `k` largest predictions, else 0.

    Args:
        y_true: one-hot labels, `(batch, ..., classes)`.
        y_pred: probabilities or logits, same shape.
        k: how many predictions count.

    Returns:
        One value per sample, `(batch, ...)`.
    """
    return sparse_top_k_categorical_accuracy(ops.argmax(y_true, axis=-1), y_pred, k)


def sparse_top_k_categorical_accuracy(
    y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False
) -> Tensor:
    """Gives 1 where the class `y_true` is among the `k` largest predictions, else 0.

    Args:
        y_true: class numbers, `(batch, ...)` or `(batch, ..., 1)`.
        y_pred: probabilities or logits, `(batch, ..., classes)`.
        k: how many predictions count.
        from_sorted_ids: whether `y_pred` holds class numbers, the likeliest first.

    Returns:
        One value per sample, `(batch, ...)`.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = _class_numbers(y_true, y_pred)
    if from_sorted_ids:
        ids = ops.cast(y_pred[..., :k], y_true.dtype)
        hit = ops.any(ops.equal(ops.expand_dims(y_true, -1), ids), axis=-1)
    else:
        flat = ops.reshape(y_pred, (-1, y_pred.shape[-1]))
        hit = ops.in_top_k(ops.reshape(y_true, (-1,)), flat, k=k)
        hit = ops.reshape(hit, y_true.shape)
    return ops.cast(hit, config.floatx())


def _class_numbers(y_true: Any, y_pred: Tensor) -> Tensor:
    y_true = ops.convert_to_tensor(y_true)
    if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
        y_true = ops.squeeze(y_true, -1)
    return ops.cast(y_true, "int32")


class Accuracy(MeanMetricWrapper):
    """How often predictions equal the targets.

    Args:
        name: the metric's name.
        dtype: dtype of the state.

    >>> metric = narae.metrics.Accuracy()
    >>> metric.update_state([1, 2, 3, 4], [0, 2, 3, 4])
    >>> float(metric.result())
    0.75
    """

    _direction = "up"

    def __init__(self, name: str | None = "accuracy", dtype: Any = None) -> None:
        super().__init__(accuracy, name, dtype)


class BinaryAccuracy(MeanMetricWrapper):
    """How often `y_pred > threshold` agrees with labels 0 or 1.

    Args:
        threshold: above it, a prediction counts as 1.
        name: the metric's name.
        dtype: dtype of the state.

    >>> metric = narae.metrics.BinaryAccuracy()
    >>> metric.update_state([1, 1, 0, 0], [0.98, 1, 0, 0.6])
    >>> float(metric.result())
    0.75
    """

    _direction = "up"

    def __init__(
        self, name: str | None = "binary_accuracy", dtype: Any = None, threshold: float = 0.5
    ) -> None:
        super().__init__(binary_accuracy, name, dtype, threshold=threshold)


class CategoricalAccuracy(MeanMetricWrapper):
    """How often the largest prediction is the class of the one-hot label.

    Args:
        name: the metric's name.
        dtype: dtype of the state.
    """

    _direction = "up"

    def __init__(self, name: str | None = "categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(categorical_accuracy, name, dtype)


class SparseCategoricalAccuracy(MeanMetricWrapper):
    """How often the largest prediction is the class number given as label.

    Args:
        name: the metric's name.
        dtype: dtype of the state.

    >>> metric = narae.metrics.SparseCategoricalAccuracy()
    >>> metric.update_state([[2], [1]], [[0.1, 0.6, 0.3], [0.05, 0.95, 0]])
    >>> float(metric.result())
    0.5
    """

    _direction = "up"

    def __init__(self, name: str | None = "sparse_categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(sparse_categorical_accuracy, name, dtype)


class TopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the class of the one-hot label is among the `k` largest predictions.

    Args:
        k: how many predictions count.
        name: the metric's name.
        dtype: dtype of the state.
    """

    _direction = "up"

    def __init__(
        self, k: int = 5, name: str | None = "top_k_categorical_accuracy", dtype: Any = None
    ) -> None:
        super().__init__(top_k_categorical_accuracy, name, dtype, k=k)


class SparseTopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the class number given as label is among the `k` largest predictions.

    Args:
        k: how many predictions count.
        from_sorted_ids: whether `y_pred` holds class numbers, the likeliest first.
        name: the metric's name.
        dtype: dtype of the state.
    """

    _direction = "up"

    def __init__(
        self,
        k: int = 5,
        name: str | None = "sparse_top_k_categorical_accuracy",
        dtype: Any = None,
        from_sorted_ids: bool = False,
    ) -> None:
        super().__init__(
            sparse_top_k_categorical_accuracy, name, dtype, k=k, from_sorted_ids=from_sorted_ids
        )
