"""Metrics that add up or average one value per sample."""

from collections.abc import Callable
from typing import Any

from narae import ops
from narae.engine import lookup
from narae.engine.tensor import Tensor
from narae.losses.loss import Loss, apply_mask, match_ranks
from narae.metrics.metric import Metric


def _samplewise(
    values: Any, sample_weight: Any, reduce: Callable[..., Tensor], dtype: str
) -> tuple[Tensor, Tensor | None]:
    """Reduces `values` to one (weighted) number per sample, and the weights likewise."""
    mask = getattr(values, "mask", None)
    values = ops.convert_to_tensor(values, dtype=dtype)
    sample_weight = apply_mask(sample_weight, mask, dtype, "sum")
    if sample_weight is not None:
        weight = ops.convert_to_tensor(sample_weight, dtype=dtype)
        values, weight = match_ranks(values, weight)
        if values.ndim > weight.ndim:
            values = reduce(values, axis=tuple(range(weight.ndim, values.ndim)))
        weight_axes = tuple(range(1, weight.ndim))
        weight = ops.broadcast_to(weight, values.shape)
        values = values * weight
        sample_weight = reduce(weight, axis=weight_axes) if weight_axes else weight
    if values.ndim > 1:
        values = reduce(values, axis=tuple(range(1, values.ndim)))
    return values, sample_weight


class Sum(Metric):
    """The (weighted) sum of all values.

    >>> metric = narae.metrics.Sum()
    >>> metric.update_state([1.0, 3.0, 5.0])
    >>> float(metric.result())
    9.0
    """

    def __init__(self, name: str | None = "sum", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable(name="total")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Adds `values`, `(batch, ...)`, with one weight per sample or value."""
        values, _ = _samplewise(values, sample_weight, ops.sum, self.dtype)
        self.total.assign_add(ops.sum(values))

    def result(self) -> Tensor:
        return ops.cast(self.total, self.dtype)


class Mean(Metric):
    """The (weighted) mean of all values: `sum(w * v) / sum(w)`.

    >>> metric = narae.metrics.Mean()
    >>> metric.update_state([1.0, 3.0], sample_weight=[1.0, 0.0])
    >>> float(metric.result())
    1.0
    """

    def __init__(self, name: str | None = "mean", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable(name="total")
        self.count = self.add_variable(name="count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Adds `values`, `(batch, ...)`, with one weight per sample or value."""
        values, weight = _samplewise(values, sample_weight, ops.mean, self.dtype)
        self.total.assign_add(ops.sum(values) if values.ndim else values)
        if weight is not None:
            self.count.assign_add(ops.sum(weight))
        else:
            self.count.assign_add(float(values.shape[0] if values.ndim else 1))

    def result(self) -> Tensor:
        return ops.divide_no_nan(self.total, self.count)


class MeanMetricWrapper(Mean):
    """The mean of a function `fn(y_true, y_pred, **kwargs)` that gives one value per sample.

    >>> metric = narae.metrics.MeanMetricWrapper(lambda t, p: narae.ops.abs(t - p), name="error")
    """

    def __init__(
        self, fn: Callable[..., Tensor], name: str | None = None, dtype: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self._fn = fn
        self._fn_kwargs = kwargs
        for key, value in kwargs.items():
            setattr(self, key, value)
        if isinstance(fn, Loss) or getattr(fn, "__module__", "").startswith("narae.losses"):
            self._direction = self._direction or "down"

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: the targets, `(batch, ...)`.
            y_pred: the predictions, `(batch, ...)`; their Keras mask, if any, is respected.
            sample_weight: one weight per sample or value.
        """
        values = self._fn(y_true, y_pred, **self._fn_kwargs)
        mask = getattr(y_pred, "mask", None)
        super().update_state(values, apply_mask(sample_weight, mask, self.dtype, "sum"))

    def get_config(self) -> dict[str, Any]:
        base = {**super().get_config(), **self._fn_kwargs}
        if type(self) is MeanMetricWrapper:
            base["fn"] = lookup.to_config(self._fn)
        return base

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Metric":
        if isinstance(config.get("fn"), dict):
            from narae.saving.registry import deserialize_keras_object

            config = {**config, "fn": deserialize_keras_object(config["fn"])}
        return cls(**config)
