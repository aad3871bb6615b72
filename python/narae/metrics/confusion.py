"""Metrics on true and false positives and negatives: counts, precision, recall."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from narae import ops
from narae.engine import config
from narae.engine.tensor import Tensor
from narae.engine.variable import Variable
from narae.losses.loss import match_ranks
from narae.metrics.metric import Metric

_NEVER = -1e10  # a score below every threshold


def even_thresholds(count: int) -> list[float]:
    return [i / (count - 1) for i in range(count)] if count > 1 else [0.5]


def is_even(thresholds: Sequence[float]) -> bool:
    if len(thresholds) < 3:
        return False
    even = np.linspace(0.0, 1.0, len(thresholds))
    return bool(np.allclose(thresholds, even, atol=config.epsilon()))


def parse_thresholds(thresholds: Any, default: float, owner: str) -> list[float]:
    if thresholds is None:
        return [default]
    parsed = list(thresholds) if np.ndim(thresholds) else [thresholds]
    if not all(t is not None and 0 <= t <= 1 for t in parsed):
        raise ValueError(
            f"narae.metrics.{owner}: expected thresholds in [0, 1]. "
            f"Received: thresholds={thresholds!r}"
        )
    return parsed


def _only_top_k(y_pred: Tensor, k: int) -> Tensor:
    """Keeps the `k` largest of the last axis, sets the rest below every threshold."""
    _, ids = ops.top_k(y_pred, k)
    kept = ops.sum(ops.one_hot(ids, y_pred.shape[-1], dtype=y_pred.dtype), axis=-2)
    return y_pred * kept + _NEVER * (1.0 - kept)


def _positives(
    y_true: Tensor, y_pred: Tensor, weight: Tensor | None, thresholds: Sequence[float], even: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Counts, per threshold and label, predictions above the threshold.

    Args:
        y_true: labels 0.0 or 1.0, `(N, L)`.
        y_pred: scores, `(N, L)`.
        weight: `(N, L)` or none.
        thresholds: `T` rising numbers.
        even: whether they split [0, 1] evenly (the ends may lie `epsilon` outside).

    Returns:
        True and false positives `(T, L)`, and all positive and negative labels `(L,)`.
    """
    true, false = y_true, 1.0 - y_true
    if weight is not None:
        true, false = true * weight, false * weight
    count, labels = len(thresholds), y_pred.shape[1]
    if even:
        # Bucket b holds the scores in (thresholds[b - 1], thresholds[b]]; whoever lies in a bucket
        # above b passes threshold b, so one running sum from the right counts all thresholds.
        bucket = ops.ceil(ops.clip(y_pred, 0.0, 1.0) * float(count - 1))
        if thresholds[0] < 0.0:
            bucket = ops.maximum(bucket, 1.0)
        first = np.arange(labels, dtype="int32") * (count + 1)
        bucket = ops.reshape(ops.cast(bucket, "int32") + first, (-1,))

        def passing(values: Tensor) -> Tensor:
            sums = ops.segment_sum(
                ops.reshape(values, (-1,)), bucket, num_segments=labels * (count + 1)
            )
            sums = ops.flip(ops.reshape(sums, (labels, count + 1)), axis=1)
            sums = ops.flip(ops.cumsum(sums, axis=1), axis=1)
            return ops.transpose(sums[:, 1:])

    else:
        limit = np.asarray(thresholds, dtype=y_pred.dtype).reshape(count, 1, 1)
        above = ops.cast(ops.greater(ops.expand_dims(y_pred, 0), limit), y_pred.dtype)

        def passing(values: Tensor) -> Tensor:
            return ops.sum(above * values, axis=1)

    return passing(true), passing(false), ops.sum(true, axis=0), ops.sum(false, axis=0)


class _ConfusionMetric(Metric):
    """State that counts true or false positives or negatives at each threshold."""

    def _count(
        self,
        y_true: Any,
        y_pred: Any,
        sample_weight: Any,
        thresholds: Sequence[float],
        top_k: int | None = None,
        class_id: int | None = None,
        multi_label: bool = False,
        label_weights: Any = None,
        **state: Variable,
    ) -> None:
        """Adds a batch to the variables given as `tp=`, `fp=`, `tn=`, `fn=`."""
        dtype = next(iter(state.values())).dtype
        y_pred = ops.convert_to_tensor(y_pred, dtype=dtype)
        y_true = ops.convert_to_tensor(y_true, dtype=dtype)
        y_pred, y_true = match_ranks(y_pred, y_true)
        if y_true.shape != y_pred.shape:
            raise ValueError(
                f"narae.metrics.{type(self).__name__}: expected y_true with y_pred's shape. "
                f"Received: y_true.shape={y_true.shape}, y_pred.shape={y_pred.shape}"
            )
        weight = None
        if sample_weight is not None:
            weight = ops.expand_dims(ops.convert_to_tensor(sample_weight, dtype=dtype), -1)
            _, weight = match_ranks(y_true, weight, expand_rank_1=False)
        if top_k is not None:
            y_pred = _only_top_k(y_pred, top_k)
        if class_id is not None:
            if y_pred.ndim < 2 or not 0 <= class_id < y_pred.shape[-1]:
                raise ValueError(
                    f"narae.metrics.{type(self).__name__}: expected class_id to be a class of "
                    f"y_pred's last axis. Received: class_id={class_id!r}, "
                    f"y_pred.shape={y_pred.shape}"
                )
            y_true = y_true[..., class_id : class_id + 1]
            y_pred = y_pred[..., class_id : class_id + 1]
        if weight is not None:
            weight = ops.broadcast_to(weight, y_pred.shape)
        if label_weights is not None:
            label_weights = ops.broadcast_to(ops.expand_dims(label_weights, 0), y_pred.shape)
            weight = label_weights if weight is None else weight * label_weights
        shape = y_pred.shape if multi_label else (y_pred.size, 1)
        y_true = ops.cast(ops.not_equal(y_true, 0), dtype)
        tp, fp, positive, negative = _positives(
            ops.reshape(y_true, shape),
            ops.reshape(y_pred, shape),
            None if weight is None else ops.reshape(weight, shape),
            thresholds,
            self._even,
        )
        counts = {"tp": tp, "fp": fp, "tn": negative - fp, "fn": positive - tp}
        for key, variable in state.items():
            variable.assign_add(ops.reshape(counts[key], variable.shape))


class _ConfusionCount(_ConfusionMetric):
    _kind = ""

    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.init_thresholds = thresholds
        self.thresholds = parse_thresholds(thresholds, 0.5, type(self).__name__)
        self._even = is_even(self.thresholds)
        self.accumulator = self.add_variable((len(self.thresholds),), name="accumulator")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch of labels 0 or 1 and probabilities of one shape."""
        state = {self._kind: self.accumulator}
        self._count(y_true, y_pred, sample_weight, self.thresholds, **state)

    def result(self) -> Tensor:
        one = len(self.thresholds) == 1
        return self.accumulator[0] if one else ops.cast(self.accumulator, self.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "thresholds": self.init_thresholds}


class TruePositives(_ConfusionCount):
    """The (weighted) number of labels 1 predicted above the threshold.

    Args:
        thresholds: one or several numbers in [0, 1]; 0.5 by default.
        name: the metric's name.
        dtype: dtype of the state.
    """

    _kind = "tp"


class FalsePositives(_ConfusionCount):
    """The (weighted) number of labels 0 predicted above the threshold.

    Args:
        thresholds: one or several numbers in [0, 1]; 0.5 by default.
        name: the metric's name.
        dtype: dtype of the state.
    """

    _kind = "fp"


class TrueNegatives(_ConfusionCount):
    """The (weighted) number of labels 0 not predicted above the threshold.

    Args:
        thresholds: one or several numbers in [0, 1]; 0.5 by default.
        name: the metric's name.
        dtype: dtype of the state.
    """

    _kind = "tn"


class FalseNegatives(_ConfusionCount):
    """The (weighted) number of labels 1 not predicted above the threshold.

    Args:
        thresholds: one or several numbers in [0, 1]; 0.5 by default.
        name: the metric's name.
        dtype: dtype of the state.
    """

    _kind = "fn"


class _HitRate(_ConfusionMetric):
    """Precision and recall: true positives against what they are measured by."""

    _direction = "up"
    _misses = ""

    def __init__(
        self,
        thresholds: Any = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.init_thresholds = thresholds
        self.top_k = top_k
        self.class_id = class_id
        default = 0.5 if top_k is None else _NEVER
        self.thresholds = parse_thresholds(thresholds, default, type(self).__name__)
        self._even = is_even(self.thresholds)
        shape = (len(self.thresholds),)
        self.true_positives = self.add_variable(shape, name="true_positives")
        setattr(self, self._misses, self.add_variable(shape, name=self._misses))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch of labels 0 or 1 and probabilities of one shape."""
        state = {
            "tp": self.true_positives,
            "fp" if self._misses == "false_positives" else "fn": getattr(self, self._misses),
        }
        self._count(
            y_true,
            y_pred,
            sample_weight,
            self.thresholds,
            top_k=self.top_k,
            class_id=self.class_id,
            **state,
        )

    def result(self) -> Tensor:
        rate = ops.divide_no_nan(
            self.true_positives, self.true_positives + getattr(self, self._misses)
        )
        return rate[0] if len(self.thresholds) == 1 else rate

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "thresholds": self.init_thresholds,
            "top_k": self.top_k,
            "class_id": self.class_id,
        }


class Precision(_HitRate):
    """The part of the positive predictions that is right, `tp / (tp + fp)`.

    Args:
        thresholds: one or several numbers in [0, 1]; 0.5 by default.
        top_k: only the `k` largest predictions of a row can be positive.
        class_id: only this class of the last axis counts.
        name: the metric's name.
        dtype: dtype of the state.

    >>> metric = narae.metrics.Precision()
    >>> metric.update_state([0, 1, 1, 1], [1, 0, 1, 1])
    >>> round(float(metric.result()), 4)
    0.6667
    """

    _misses = "false_positives"


class Recall(_HitRate):
    """The part of the labels 1 that is found, `tp / (tp + fn)`.

    Args:
        thresholds: one or several numbers in [0, 1]; 0.5 by default.
        top_k: only the `k` largest predictions of a row can be positive.
        class_id: only this class of the last axis counts.
        name: the metric's name.
        dtype: dtype of the state.

    >>> metric = narae.metrics.Recall()
    >>> metric.update_state([0, 1, 1, 1], [1, 0, 1, 1])
    >>> round(float(metric.result()), 4)
    0.6667
    """

    _misses = "false_negatives"


class Rates(_ConfusionMetric):
    """The four counts at every threshold, and the rates made of them."""

    _direction = "up"

    def _add_counts(self, shape: tuple[int, ...]) -> None:
        self.true_positives = self.add_variable(shape, name="true_positives")
        self.false_positives = self.add_variable(shape, name="false_positives")
        self.true_negatives = self.add_variable(shape, name="true_negatives")
        self.false_negatives = self.add_variable(shape, name="false_negatives")

    def _counts(self) -> dict[str, Variable]:
        return {
            "tp": self.true_positives,
            "fp": self.false_positives,
            "tn": self.true_negatives,
            "fn": self.false_negatives,
        }

    def _recall(self) -> Tensor:
        return ops.divide_no_nan(self.true_positives, self.true_positives + self.false_negatives)

    def _precision(self) -> Tensor:
        return ops.divide_no_nan(self.true_positives, self.true_positives + self.false_positives)

    def _specificity(self) -> Tensor:
        return ops.divide_no_nan(self.true_negatives, self.true_negatives + self.false_positives)


class _RateAtRate(Rates):
    """The best value of one rate over all thresholds at which another reaches a given value."""

    _argument = ""

    def __init__(
        self,
        value: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        who = f"narae.metrics.{type(self).__name__}"
        if not 0 <= value <= 1:
            raise ValueError(
                f"{who}: expected {self._argument} in [0, 1]. Received: {self._argument}={value!r}"
            )
        if num_thresholds <= 0:
            raise ValueError(
                f"{who}: expected num_thresholds to be a positive integer. "
                f"Received: num_thresholds={num_thresholds!r}"
            )
        super().__init__(name=name, dtype=dtype)
        self.value = value
        self.num_thresholds = num_thresholds
        self.class_id = class_id
        self.thresholds = even_thresholds(num_thresholds)
        self._even = num_thresholds > 1
        self._add_counts((len(self.thresholds),))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch of labels 0 or 1 and probabilities of one shape."""
        self._count(
            y_true,
            y_pred,
            sample_weight,
            self.thresholds,
            class_id=self.class_id,
            **self._counts(),
        )

    def _best(self, rate: Tensor, condition: Tensor) -> Tensor:
        return ops.max(ops.where(ops.greater_equal(condition, self.value), rate, 0.0))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "class_id": self.class_id,
            "num_thresholds": self.num_thresholds,
            self._argument: self.value,
        }


class SensitivityAtSpecificity(_RateAtRate):
    """The best sensitivity, `tp / (tp + fn)`, where the specificity is at least the given one.

    Args:
        specificity: the wanted `tn / (tn + fp)`, in [0, 1].
        num_thresholds: how many thresholds between 0 and 1 are tried.
        class_id: only this class of the last axis counts.
        name: the metric's name.
        dtype: dtype of the state.
    """

    _argument = "specificity"

    def __init__(
        self,
        specificity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(specificity, num_thresholds, class_id, name, dtype)

    def result(self) -> Tensor:
        return self._best(self._recall(), self._specificity())


class SpecificityAtSensitivity(_RateAtRate):
    """The best specificity, `tn / (tn + fp)`, where the sensitivity is at least the given one.

    Args:
        sensitivity: the wanted `tp / (tp + fn)`, in [0, 1].
        num_thresholds: how many thresholds between 0 and 1 are tried.
        class_id: only this class of the last axis counts.
        name: the metric's name.
        dtype: dtype of the state.
    """

    _argument = "sensitivity"

    def __init__(
        self,
        sensitivity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(sensitivity, num_thresholds, class_id, name, dtype)

    def result(self) -> Tensor:
        return self._best(self._specificity(), self._recall())


class PrecisionAtRecall(_RateAtRate):
    """The best precision, `tp / (tp + fp)`, where the recall is at least the given one.

    Args:
        recall: the wanted `tp / (tp + fn)`, in [0, 1].
        num_thresholds: how many thresholds between 0 and 1 are tried.
        class_id: only this class of the last axis counts.
        name: the metric's name.
        dtype: dtype of the state.
    """

    _argument = "recall"

    def __init__(
        self,
        recall: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(recall, num_thresholds, class_id, name, dtype)

    def result(self) -> Tensor:
        return self._best(self._precision(), self._recall())


class RecallAtPrecision(_RateAtRate):
    """The best recall, `tp / (tp + fn)`, where the precision is at least the given one.

    Args:
        precision: the wanted `tp / (tp + fp)`, in [0, 1].
        num_thresholds: how many thresholds between 0 and 1 are tried.
        class_id: only this class of the last axis counts.
        name: the metric's name.
        dtype: dtype of the state.
    """

    _argument = "precision"

    def __init__(
        self,
        precision: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(precision, num_thresholds, class_id, name, dtype)

    def result(self) -> Tensor:
        return self._best(self._recall(), self._precision())
