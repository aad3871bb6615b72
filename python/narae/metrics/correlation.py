"""How well predictions follow the targets: R2, Pearson's and concordance correlation."""

import warnings
from typing import Any

from narae import ops
from narae.engine import config
from narae.engine.tensor import Tensor
from narae.losses.loss import match_ranks
from narae.metrics.mean import MeanMetricWrapper
from narae.metrics.metric import Metric


def _pair(y_true: Any, y_pred: Any, dtype: str | None = None) -> tuple[Tensor, Tensor]:
    y_pred = ops.convert_to_tensor(y_pred, dtype=dtype)
    return match_ranks(ops.convert_to_tensor(y_true, dtype=y_pred.dtype), y_pred)


def pearson_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """Computes `mean((t - mean(t)) * (p - mean(p))) / (std(t) * std(p))` over `axis`.

    Args:
        y_true: targets, `(batch, ..., d)`.
        y_pred: predictions, same shape.
        axis: the axis of the samples that are compared.

    Returns:
        One value in [-1, 1] per series.
    """
    y_true, y_pred = _pair(y_true, y_pred)
    y_true = y_true - ops.mean(y_true, axis=axis, keepdims=True)
    y_pred = y_pred - ops.mean(y_pred, axis=axis, keepdims=True)
    covariance = ops.mean(y_true * y_pred, axis=axis)
    return covariance / (ops.std(y_true, axis=axis) * ops.std(y_pred, axis=axis))


def concordance_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """Computes `2 * cov(t, p) / (var(t) + var(p) + (mean(t) - mean(p))^2 + epsilon)` over `axis`.

    Args:
        y_true: targets, `(batch, ..., d)`.
        y_pred: predictions, same shape.
        axis: the axis of the samples that are compared.

    Returns:
        One value in [-1, 1] per series.
    """
    y_true, y_pred = _pair(y_true, y_pred)
    mean_true = ops.mean(y_true, axis=axis, keepdims=True)
    mean_pred = ops.mean(y_pred, axis=axis, keepdims=True)
    y_true, y_pred = y_true - mean_true, y_pred - mean_pred
    spread = ops.mean(ops.square(y_true) + ops.square(y_pred), axis=axis, keepdims=True)
    spread = spread + ops.square(mean_true - mean_pred) + config.epsilon()
    return ops.mean(2.0 * y_true * y_pred / spread, axis=axis)


class PearsonCorrelation(MeanMetricWrapper):
    """The mean of Pearson's correlation between target and predicted series.

    Args:
        axis: the axis of the samples that are compared.
        name: the metric's name.
        dtype: dtype of the state.
    """

    _direction = "up"

    def __init__(
        self, name: str | None = "pearson_correlation", dtype: Any = None, axis: int = -1
    ) -> None:
        super().__init__(pearson_correlation, name, dtype, axis=axis)


class ConcordanceCorrelation(MeanMetricWrapper):
    """The mean of the concordance correlation between target and predicted series.

    Args:
        axis: the axis of the samples that are compared.
        name: the metric's name.
        dtype: dtype of the state.
    """

    _direction = "up"

    def __init__(
        self, name: str | None = "concordance_correlation", dtype: Any = None, axis: int = -1
    ) -> None:
        super().__init__(concordance_correlation, name, dtype, axis=axis)


class R2Score(Metric):
    """The coefficient of determination, `1 - sum((t - p)^2) / sum((t - mean(t))^2)` per output.

    Args:
        class_aggregation: over several outputs `"uniform_average"`,
            `"variance_weighted_average"`, or `None` for one value each.
        num_regressors: number of features; above 0 it gives the adjusted score.
        name: the metric's name.
        dtype: dtype of the state.

    >>> metric = narae.metrics.R2Score()
    >>> metric.update_state([[1.0], [4.0], [3.0]], [[2.0], [4.0], [4.0]])
    >>> round(float(metric.result()), 4)
    0.5714
    """

    _direction = "up"

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str | None = "r2_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        choices = (None, "uniform_average", "variance_weighted_average")
        if class_aggregation not in choices:
            raise ValueError(
                f"narae.metrics.R2Score: expected class_aggregation to be one of {choices}. "
                f"Received: class_aggregation={class_aggregation!r}"
            )
        if num_regressors < 0:
            raise ValueError(
                "narae.metrics.R2Score: expected num_regressors to be zero or more. "
                f"Received: num_regressors={num_regressors!r}"
            )
        self.class_aggregation = class_aggregation
        self.num_regressors = num_regressors
        self.num_samples = self.add_variable(name="num_samples")
        self._built = False

    def _build(self, y_true: Tensor, y_pred: Tensor) -> None:
        if y_true.ndim != 2 or y_pred.ndim != 2:
            raise ValueError(
                "narae.metrics.R2Score: expected y_true and y_pred of shape (batch, outputs). "
                f"Received: y_true.shape={y_true.shape}, y_pred.shape={y_pred.shape}"
            )
        shape = (y_pred.shape[-1],)
        self.squared_sum = self.add_variable(shape, name="squared_sum")
        self.sum = self.add_variable(shape, name="sum")
        self.total_mse = self.add_variable(shape, name="residual")
        self.count = self.add_variable(shape, name="count")
        self._built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch of targets and predictions, `(batch, outputs)`."""
        y_true, y_pred = _pair(y_true, y_pred, self.dtype)
        if not self._built:
            self._build(y_true, y_pred)
        weight = ops.ones_like(y_true)
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight, dtype=self.dtype)
            if sample_weight.ndim == 1:
                sample_weight = ops.expand_dims(sample_weight, 1)
            weight = weight * sample_weight
        weighted = y_true * weight
        self.sum.assign_add(ops.sum(weighted, axis=0))
        self.squared_sum.assign_add(ops.sum(y_true * weighted, axis=0))
        self.total_mse.assign_add(ops.sum(ops.square(y_true - y_pred) * weight, axis=0))
        self.count.assign_add(ops.sum(weight, axis=0))
        self.num_samples.assign_add(float(y_true.size))

    def result(self) -> Tensor:
        if not self._built:
            return ops.zeros((), dtype=self.dtype)
        spread = self.squared_sum - self.sum * (self.sum / self.count)
        scores = 1.0 - self.total_mse / spread
        scores = ops.where(ops.isinf(scores), 0.0, scores)
        if self.class_aggregation == "uniform_average":
            scores = ops.mean(scores)
        elif self.class_aggregation == "variance_weighted_average":
            scores = ops.sum(spread * scores) / ops.sum(spread)
        if self.num_regressors == 0:
            return scores
        free = float(self.num_samples.numpy()) - 1.0 - self.num_regressors
        if free <= 0:
            warnings.warn(
                "narae.metrics.R2Score: the adjusted score needs more samples than "
                "num_regressors + 1. Giving the plain score.",
                stacklevel=2,
            )
            return scores
        return 1.0 - (1.0 - scores) * ((free + self.num_regressors) / free)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "class_aggregation": self.class_aggregation,
            "num_regressors": self.num_regressors,
        }
