"""Intersection over union, for segmentation."""

import warnings
from typing import Any

from narae import ops
from narae.engine import config
from narae.engine.tensor import Tensor
from narae.metrics.metric import Metric


class IoU(Metric):
    """The intersection over union, `tp / (tp + fp + fn)`, averaged over the target classes.

    Args:
        num_classes: the number of classes; labels and predictions outside `[0, num_classes)` do
            not count.
        target_class_ids: the classes whose IoU is averaged.
        name: the metric's name.
        dtype: dtype of the confusion matrix; int32 by default.
        ignore_class: samples of this class do not count.
        sparse_y_true: whether labels are class numbers, not one-hot.
        sparse_y_pred: whether predictions are class numbers, not scores per class.
        axis: the class axis of one-hot labels and of scores.

    >>> metric = narae.metrics.IoU(num_classes=2, target_class_ids=[0])
    >>> metric.update_state([0, 0, 1, 1], [0, 1, 0, 1])
    >>> round(float(metric.result()), 4)
    0.3333
    """

    _direction = "up"

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Any,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        super().__init__(name=name, dtype=dtype or "int32")
        self.num_classes = num_classes
        self.target_class_ids = list(target_class_ids)
        if not all(0 <= i < num_classes for i in self.target_class_ids):
            raise ValueError(
                f"narae.metrics.{type(self).__name__}: expected target_class_ids in "
                f"[0, {num_classes}). Received: target_class_ids={self.target_class_ids}"
            )
        self.ignore_class = ignore_class
        self.sparse_y_true = sparse_y_true
        self.sparse_y_pred = sparse_y_pred
        self.axis = axis
        self.total_cm = self.add_variable((num_classes, num_classes), name="total_confusion_matrix")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds labels and predictions of one shape, with one weight each or for all."""
        if not self.sparse_y_true:
            y_true = ops.argmax(y_true, axis=self.axis)
        if not self.sparse_y_pred:
            y_pred = ops.argmax(y_pred, axis=self.axis)
        y_true = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        y_pred = ops.reshape(ops.cast(y_pred, "int32"), (-1,))
        n = self.num_classes
        counts = ops.logical_and(ops.greater_equal(y_true, 0), ops.less(y_true, n))
        counts = ops.logical_and(counts, ops.greater_equal(y_pred, 0))
        counts = ops.logical_and(counts, ops.less(y_pred, n))
        if self.ignore_class is not None:
            counts = ops.logical_and(counts, ops.not_equal(y_true, self.ignore_class))
        # float64 adds integers exactly; a cell of the matrix is a segment.
        weight = ops.cast(counts, "float64")
        if sample_weight is not None:
            weight = weight * self._weights(sample_weight)
        cell = ops.where(counts, y_true * n + y_pred, ops.zeros_like(y_true))
        matrix = ops.segment_sum(weight, cell, num_segments=n * n)
        self.total_cm.assign_add(ops.cast(ops.reshape(matrix, (n, n)), self.dtype))

    def _weights(self, sample_weight: Any) -> Tensor:
        weight = ops.convert_to_tensor(sample_weight)
        if "float" in weight.dtype and "int" in self.dtype:
            warnings.warn(
                f"narae.metrics.{type(self).__name__}: float weights are cut to {self.dtype}, "
                "the metric's dtype. Make the metric with dtype='float32' to keep them.",
                stacklevel=3,
            )
        weight = ops.cast(ops.cast(weight, self.dtype), "float64")
        return ops.reshape(weight, (-1,)) if weight.ndim else weight

    def result(self) -> Tensor:
        matrix = ops.cast(self.total_cm, "float64")
        both = ops.sum(matrix * ops.eye(self.num_classes, dtype="float64"), axis=0)
        either = ops.sum(matrix, axis=0) + ops.sum(matrix, axis=1) - both
        target = ops.convert_to_tensor(self.target_class_ids, dtype="int32")
        both, either = ops.take(both, target, axis=0), ops.take(either, target, axis=0)
        seen = ops.cast(ops.greater(either, 1e-9), "float64")
        iou = both / (either + config.epsilon()) * seen
        mean = ops.sum(iou) / (ops.sum(seen) + config.epsilon())
        return ops.cast(mean, "float32")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "target_class_ids": self.target_class_ids,
            "ignore_class": self.ignore_class,
            "sparse_y_true": self.sparse_y_true,
            "sparse_y_pred": self.sparse_y_pred,
            "axis": self.axis,
        }

    def _config_without(self, *keys: str) -> dict[str, Any]:
        return {key: value for key, value in IoU.get_config(self).items() if key not in keys}


class BinaryIoU(IoU):
    """The intersection over union of two classes, predictions split at `threshold`.

    Args:
        target_class_ids: the classes whose IoU is averaged, of 0 and 1.
        threshold: predictions from here on are class 1.
        name: the metric's name.
        dtype: dtype of the confusion matrix; int32 by default.
    """

    def __init__(
        self,
        target_class_ids: Any = (0, 1),
        threshold: float = 0.5,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(2, target_class_ids, name=name, dtype=dtype)
        self.threshold = threshold

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds labels 0 or 1 and probabilities of one shape."""
        y_pred = ops.greater_equal(ops.convert_to_tensor(y_pred, dtype="float32"), self.threshold)
        super().update_state(y_true, y_pred, sample_weight)

    def get_config(self) -> dict[str, Any]:
        base = self._config_without(
            "num_classes", "ignore_class", "sparse_y_true", "sparse_y_pred", "axis"
        )
        return {**base, "threshold": self.threshold}


class MeanIoU(IoU):
    """The mean of the intersection over union of all classes that occur.

    Args:
        num_classes: the number of classes.
        name: the metric's name.
        dtype: dtype of the confusion matrix; int32 by default.
        ignore_class: samples of this class do not count.
        sparse_y_true: whether labels are class numbers, not one-hot.
        sparse_y_pred: whether predictions are class numbers, not scores per class.
        axis: the class axis of one-hot labels and of scores.

    >>> metric = narae.metrics.MeanIoU(num_classes=2)
    >>> metric.update_state([0, 0, 1, 1], [0, 1, 0, 1])
    >>> round(float(metric.result()), 4)
    0.3333
    """

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        super().__init__(
            num_classes,
            range(num_classes),
            name=name,
            dtype=dtype,
            ignore_class=ignore_class,
            sparse_y_true=sparse_y_true,
            sparse_y_pred=sparse_y_pred,
            axis=axis,
        )

    def get_config(self) -> dict[str, Any]:
        return self._config_without("target_class_ids")


class OneHotIoU(IoU):
    """The intersection over union of chosen classes, for one-hot labels.

    Args:
        num_classes: the number of classes.
        target_class_ids: the classes whose IoU is averaged.
        name: the metric's name.
        dtype: dtype of the confusion matrix; int32 by default.
        ignore_class: samples of this class do not count.
        sparse_y_pred: whether predictions are class numbers, not scores per class.
        axis: the class axis of labels and scores.
    """

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Any,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(
            num_classes,
            target_class_ids,
            name=name,
            dtype=dtype,
            ignore_class=ignore_class,
            sparse_y_true=False,
            sparse_y_pred=sparse_y_pred,
            axis=axis,
        )

    def get_config(self) -> dict[str, Any]:
        return self._config_without("sparse_y_true")


class OneHotMeanIoU(MeanIoU):
    """The mean of the intersection over union of all classes, for one-hot labels.

    Args:
        num_classes: the number of classes.
        name: the metric's name.
        dtype: dtype of the confusion matrix; int32 by default.
        ignore_class: samples of this class do not count.
        sparse_y_pred: whether predictions are class numbers, not scores per class.
        axis: the class axis of labels and scores.
    """

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(
            num_classes,
            name=name,
            dtype=dtype,
            ignore_class=ignore_class,
            sparse_y_true=False,
            sparse_y_pred=sparse_y_pred,
            axis=axis,
        )

    def get_config(self) -> dict[str, Any]:
        return self._config_without("target_class_ids", "sparse_y_true")
