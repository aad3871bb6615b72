"""AUC: the area under the ROC or precision-recall curve."""

from typing import Any

from narae import ops
from narae.engine import config
from narae.engine.tensor import Tensor
from narae.metrics.confusion import Rates, even_thresholds, is_even, parse_thresholds

_CURVES = ("ROC", "PR", "PRGAIN")
_SUMMATIONS = ("interpolation", "majoring", "minoring")


class AUC(Rates):
    """The area under the ROC or precision-recall curve, from counts at fixed thresholds.

    Args:
        num_thresholds: how many thresholds between 0 and 1 the curve is made of.
        curve: `"ROC"`, `"PR"` or `"PRGAIN"`.
        summation_method: `"interpolation"` (trapezoids; for PR the interpolation of the counts),
            `"minoring"` or `"majoring"` (lower or upper sums).
        name: the metric's name.
        dtype: dtype of the state.
        thresholds: thresholds in (0, 1) in place of evenly spaced ones.
        multi_label: whether each column of y_pred is a label of its own; the areas are averaged.
        num_labels: the number of columns, if `multi_label`.
        label_weights: one weight per label.
        from_logits: whether predictions are logits.

    >>> metric = narae.metrics.AUC(num_thresholds=3)
    >>> metric.update_state([0, 0, 1, 1], [0, 0.5, 0.3, 0.9])
    >>> float(metric.result())
    0.75
    """

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Any = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Any = None,
        from_logits: bool = False,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.curve = str(curve).upper()
        self.summation_method = str(summation_method).lower()
        if self.curve not in _CURVES:
            raise ValueError(
                f"narae.metrics.AUC: expected curve to be one of {_CURVES}. "
                f"Received: curve={curve!r}"
            )
        if self.summation_method not in _SUMMATIONS:
            raise ValueError(
                f"narae.metrics.AUC: expected summation_method to be one of {_SUMMATIONS}. "
                f"Received: summation_method={summation_method!r}"
            )
        if thresholds is None and num_thresholds <= 1:
            raise ValueError(
                "narae.metrics.AUC: expected num_thresholds to be 2 or more. "
                f"Received: num_thresholds={num_thresholds!r}"
            )
        if num_labels and not multi_label:
            raise ValueError(
                "narae.metrics.AUC: num_labels goes with multi_label=True. "
                f"Received: num_labels={num_labels!r}"
            )
        self._init_from_thresholds = thresholds is not None
        if thresholds is None:
            inner = even_thresholds(num_thresholds)[1:-1]
        else:
            inner = sorted(parse_thresholds(thresholds, 0.5, "AUC"))
        self._even = thresholds is None or is_even([0.0, *inner, 1.0])
        # The ends lie outside of [0, 1]: all scores pass the first threshold, none the last.
        self.thresholds = [-config.epsilon(), *inner, 1.0 + config.epsilon()]
        self.num_thresholds = len(self.thresholds)
        self.multi_label = multi_label
        self.num_labels = num_labels
        self.label_weights = None if label_weights is None else [float(w) for w in label_weights]
        self.from_logits = from_logits
        self._built = False
        if num_labels or not multi_label:
            self._build(num_labels)

    def _build(self, labels: int | None) -> None:
        shape = (self.num_thresholds, labels) if self.multi_label else (self.num_thresholds,)
        self._add_counts(shape)
        self._built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch of labels 0 or 1 and probabilities (or logits) of one shape."""
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        if self.multi_label and y_pred.ndim != 2:
            raise ValueError(
                "narae.metrics.AUC: expected y_pred of shape (batch, labels) with "
                f"multi_label=True. Received: y_pred.shape={y_pred.shape}"
            )
        if not self._built:
            self._build(y_pred.shape[1])
        self._count(
            y_true,
            ops.sigmoid(y_pred) if self.from_logits else y_pred,
            sample_weight,
            self.thresholds,
            multi_label=self.multi_label,
            label_weights=None if self.multi_label else self._label_weights(),
            **self._counts(),
        )

    def _label_weights(self) -> Tensor | None:
        if self.label_weights is None:
            return None
        return ops.convert_to_tensor(self.label_weights, dtype=self.dtype)

    def result(self) -> Tensor:
        if not self._built:
            return ops.zeros((), dtype=self.dtype)
        if self.curve == "PR" and self.summation_method == "interpolation":
            return self._over_labels(self._interpolated_pr())
        recall, precision = self._recall(), self._precision()
        if self.curve == "ROC":
            x, y = 1.0 - self._specificity(), recall
            # No negatives: the false positive rate is 0, not 1.
            none = ops.equal(self.true_negatives + self.false_positives, 0)
            x = ops.where(none, 0.0, x)
        elif self.curve == "PR":
            x, y = recall, precision
        else:
            x, y = self._gains()
        if self.summation_method == "interpolation":
            heights = (y[:-1] + y[1:]) * 0.5
        elif self.summation_method == "minoring":
            heights = ops.minimum(y[:-1], y[1:])
        else:
            heights = ops.maximum(y[:-1], y[1:])
        return self._over_labels((x[:-1] - x[1:]) * heights)

    def _gains(self) -> tuple[Tensor, Tensor]:
        """Recall gain and precision gain: the rates rescaled by those of chance."""
        tp, fp, fn = self.true_positives, self.false_positives, self.false_negatives
        odds = ops.divide_no_nan(tp + fn, self.true_negatives + fp)
        none = ops.equal(tp, 0)
        recall = ops.where(none, 0.0, 1.0 - odds * ops.divide_no_nan(fn, tp))
        precision = ops.where(none, 1.0, 1.0 - odds * ops.divide_no_nan(fp, tp))
        return ops.maximum(recall, 0.0), precision

    def _interpolated_pr(self) -> Tensor:
        """The area below the precision-recall curve, interpolating the counts between thresholds.

        Between two thresholds `tp` is linear in `p = tp + fp` with slope s and intercept c, and
        the precision is `(c + s * p) / p`, whose integral over tp is
        `s * (dtp + c * log(pa / pb))`.
        """
        tp = self.true_positives
        p = tp + self.false_positives
        dtp, dp = tp[:-1] - tp[1:], p[:-1] - p[1:]
        slope = ops.divide_no_nan(dtp, ops.maximum(dp, 0.0))
        intercept = tp[1:] - slope * p[1:]
        both = ops.logical_and(ops.greater(p[:-1], 0), ops.greater(p[1:], 0))
        ratio = ops.where(both, ops.divide_no_nan(p[:-1], ops.maximum(p[1:], 0.0)), 1.0)
        area = slope * (dtp + intercept * ops.log(ratio))
        return ops.divide_no_nan(area, ops.maximum(tp[1:] + self.false_negatives[1:], 0.0))

    def _over_labels(self, area: Tensor) -> Tensor:
        if not self.multi_label:
            return ops.sum(area)
        area = ops.sum(area, axis=0)
        weights = self._label_weights()
        if weights is None:
            return ops.mean(area)
        return ops.divide_no_nan(ops.sum(area * weights), ops.sum(weights))

    def get_config(self) -> dict[str, Any]:
        base = {
            **super().get_config(),
            "num_thresholds": self.num_thresholds,
            "curve": self.curve,
            "summation_method": self.summation_method,
            "multi_label": self.multi_label,
            "num_labels": self.num_labels,
            "label_weights": self.label_weights,
            "from_logits": self.from_logits,
        }
        if self._init_from_thresholds:
            base["thresholds"] = self.thresholds[1:-1]
        return base
