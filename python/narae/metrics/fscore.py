"""F-beta and F1 scores."""

from typing import Any

from narae import ops
from narae.engine import config
from narae.engine.tensor import Tensor
from narae.metrics.metric import Metric


class FBetaScore(Metric):
    """The F-beta score, `(1 + beta^2) * precision * recall / (beta^2 * precision + recall)`.

    Args:
        average: over classes `"micro"` (of all counts), `"macro"` (plain mean), `"weighted"` (by
            the number of true samples), or `None` for one value per class.
        beta: above 1 recall counts more, below 1 precision.
        threshold: a prediction above it counts; by default the largest of a row does.
        name: the metric's name.
        dtype: dtype of the state.

    >>> metric = narae.metrics.FBetaScore(beta=2.0, threshold=0.5)
    >>> y_true = [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    >>> metric.update_state(y_true, [[0.2, 0.6, 0.7], [0.2, 0.6, 0.6], [0.6, 0.8, 0.0]])
    >>> metric.result().numpy().round(4)
    array([0.3846, 0.9091, 0.8333], dtype=float32)
    """

    _direction = "up"

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str | None = "fbeta_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        who = f"narae.metrics.{type(self).__name__}"
        choices = (None, "micro", "macro", "weighted")
        if average not in choices:
            raise ValueError(
                f"{who}: expected average to be one of {choices}. Received: average={average!r}"
            )
        if not isinstance(beta, (int, float)) or beta <= 0:
            raise ValueError(f"{who}: expected beta to be above 0. Received: beta={beta!r}")
        if threshold is not None and not 0 < threshold <= 1:
            raise ValueError(
                f"{who}: expected threshold in (0, 1]. Received: threshold={threshold!r}"
            )
        self.average = average
        self.beta = beta
        self.threshold = threshold
        self._built = False

    def _build(self, y_true: Tensor, y_pred: Tensor) -> None:
        if y_true.ndim != 2 or y_pred.ndim != 2:
            raise ValueError(
                f"narae.metrics.{type(self).__name__}: expected y_true and y_pred of shape "
                f"(batch, classes). Received: y_true.shape={y_true.shape}, "
                f"y_pred.shape={y_pred.shape}"
            )
        shape = () if self.average == "micro" else (y_pred.shape[-1],)
        self.true_positives = self.add_variable(shape, name="true_positives")
        self.false_positives = self.add_variable(shape, name="false_positives")
        self.false_negatives = self.add_variable(shape, name="false_negatives")
        self.intermediate_weights = self.add_variable(shape, name="intermediate_weights")
        self._built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch of labels 0 or 1 and predictions, both `(batch, classes)`."""
        y_true = ops.convert_to_tensor(y_true, dtype=self.dtype)
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        if not self._built:
            self._build(y_true, y_pred)
        if self.threshold is None:
            largest = ops.greater_equal(y_pred, ops.max(y_pred, axis=-1, keepdims=True))
            y_pred = ops.logical_and(largest, ops.greater(ops.abs(y_pred), 1e-9))
        else:
            y_pred = ops.greater(y_pred, self.threshold)
        y_pred = ops.cast(y_pred, self.dtype)
        axis = None if self.average == "micro" else 0
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight, dtype=self.dtype)
            sample_weight = ops.expand_dims(sample_weight, 1)

        def add(variable: Any, values: Tensor) -> None:
            if sample_weight is not None:
                values = values * sample_weight
            variable.assign_add(ops.sum(values, axis=axis))

        add(self.true_positives, y_pred * y_true)
        add(self.false_positives, y_pred * (1.0 - y_true))
        add(self.false_negatives, (1.0 - y_pred) * y_true)
        add(self.intermediate_weights, y_true)

    def result(self) -> Tensor:
        if not self._built:
            return ops.zeros((), dtype=self.dtype)
        epsilon = config.epsilon()
        hits = self.true_positives
        precision = hits / (hits + self.false_positives + epsilon)
        recall = hits / (hits + self.false_negatives + epsilon)
        square = self.beta**2
        score = precision * recall / (square * precision + recall + epsilon) * (1.0 + square)
        if self.average == "weighted":
            weights = self.intermediate_weights
            return ops.sum(score * (weights / (ops.sum(weights) + epsilon)))
        return score if self.average is None else ops.mean(score)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "average": self.average,
            "beta": self.beta,
            "threshold": self.threshold,
        }


class F1Score(FBetaScore):
    """The F1 score, `2 * precision * recall / (precision + recall)`.

    Args:
        average: over classes `"micro"`, `"macro"`, `"weighted"`, or `None` for one value each.
        threshold: a prediction above it counts; by default the largest of a row does.
        name: the metric's name.
        dtype: dtype of the state.
    """

    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str | None = "f1_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(average=average, threshold=threshold, name=name, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        base = super().get_config()
        del base["beta"]
        return base
