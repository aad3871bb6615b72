"""Cross-entropies: binary, categorical, sparse, focal, generalized."""

import warnings
from typing import Any

from narae import ops
from narae.engine import config
from narae.engine.tensor import Tensor
from narae.losses.loss import LossFunctionWrapper, match_ranks


def binary_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """Computes `mean(-y_true * log(y_pred) - (1 - y_true) * log(1 - y_pred))` over `axis`.

    Args:
        y_true: labels 0 or 1 (or probabilities), `(batch, ..., d)`.
        y_pred: probabilities, clipped to `[epsilon, 1 - epsilon]`, or logits; same shape.
        from_logits: whether `y_pred` holds logits; more exact than a sigmoid before the loss.
        label_smoothing: `s` turns the labels into `y * (1 - s) + s / 2`.
        axis: the axis of the mean.

    Returns:
        One value per sample, `(batch, ...)`.

    >>> narae.losses.binary_crossentropy([[1.0]], [[0.5]]).numpy().round(3)
    array([0.693], dtype=float32)
    """
    y_true, y_pred = _smooth_binary(y_true, y_pred, label_smoothing, "binary_crossentropy")
    loss = ops.binary_crossentropy(y_true, y_pred, from_logits=from_logits)
    return ops.mean(loss, axis=axis)


def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """Computes the binary cross-entropy times `(1 - p_t)^gamma`, which fades easy samples out.

    `p_t = y_true * y_pred + (1 - y_true) * (1 - y_pred)` is the probability of the true class.

    Source: Lin et al., 2017, arXiv:1708.02002.

    Args:
        y_true: labels 0 or 1, `(batch, ..., d)`.
        y_pred: probabilities or logits, same shape.
        apply_class_balancing: whether class 1 is weighed by `alpha` and class 0 by `1 - alpha`.
        alpha: weight of class 1.
        gamma: strength of the fading; 0 gives the plain cross-entropy.
        from_logits: whether `y_pred` holds logits.
        label_smoothing: `s` turns the labels into `y * (1 - s) + s / 2`.
        axis: the axis of the mean.

    Returns:
        One value per sample, `(batch, ...)`.
    """
    y_true, y_pred = _smooth_binary(y_true, y_pred, label_smoothing, "binary_focal_crossentropy")
    if from_logits:
        y_pred = ops.sigmoid(y_pred)
    loss = ops.binary_crossentropy(y_true, y_pred)
    p_t = y_true * y_pred + (1.0 - y_true) * (1.0 - y_pred)
    loss = ops.power(1.0 - p_t, gamma) * loss
    if apply_class_balancing:
        loss = (y_true * alpha + (1.0 - y_true) * (1.0 - alpha)) * loss
    return ops.mean(loss, axis=axis)


def categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """Computes `-sum(y_true * log(y_pred))` over the class axis.

    Args:
        y_true: one-hot labels or probabilities, `(batch, ..., classes)`.
        y_pred: probabilities, divided by their sum and clipped to `[epsilon, 1 - epsilon]`, or
            logits; same shape.
        from_logits: whether `y_pred` holds logits; then softmax and loss are one fused kernel.
        label_smoothing: `s` turns the labels into `y * (1 - s) + s / classes`.
        axis: the class axis.

    Returns:
        One value per sample, `(batch, ...)`.

    Raises:
        ValueError: if the shapes differ, which class numbers as labels would do.

    >>> narae.losses.categorical_crossentropy([[0.0, 1.0]], [[0.5, 0.5]]).numpy().round(3)
    array([0.693], dtype=float32)
    """
    y_true, y_pred = _smooth_classes(
        y_true, y_pred, label_smoothing, axis, "categorical_crossentropy"
    )
    return ops.categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)


def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: Any = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """Computes `-sum(alpha * (1 - y_pred)^gamma * y_true * log(y_pred))` over the class axis.

    Source: Lin et al., 2017, arXiv:1708.02002.

    Args:
        y_true: one-hot labels, `(batch, ..., classes)`.
        y_pred: probabilities or logits, same shape.
        alpha: weight, one number or one per class.
        gamma: strength of the fading of easy samples.
        from_logits: whether `y_pred` holds logits.
        label_smoothing: `s` turns the labels into `y * (1 - s) + s / classes`.
        axis: the class axis.

    Returns:
        One value per sample, `(batch, ...)`.
    """
    y_true, y_pred = _smooth_classes(
        y_true, y_pred, label_smoothing, axis, "categorical_focal_crossentropy"
    )
    if from_logits:
        y_pred = ops.softmax(y_pred, axis=axis)
    p = y_pred / ops.sum(y_pred, axis=axis, keepdims=True)
    p = ops.clip(p, config.epsilon(), 1.0 - config.epsilon())
    loss = ops.power(1.0 - p, gamma) * alpha * (-y_true * ops.log(p))
    return ops.sum(loss, axis=axis)


def sparse_categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
) -> Tensor:
    """Computes `-log(y_pred[y_true])`, the cross-entropy of class numbers.

    Args:
        y_true: class numbers, `(batch, ...)` or `(batch, ..., 1)`.
        y_pred: probabilities, clipped to `[epsilon, 1 - epsilon]`, or logits,
            `(batch, ..., classes)`.
        from_logits: whether `y_pred` holds logits; then softmax and loss are one fused kernel.
        ignore_class: samples of this class have no loss and do not count in the mean.
        axis: the class axis.

    Returns:
        One value per sample, `(batch, ...)`; with `ignore_class`, it carries a mask.

    Raises:
        ValueError: if a label is not in `[0, classes)`.

    >>> narae.losses.sparse_categorical_crossentropy([1], [[0.5, 0.5]]).numpy().round(3)
    array([0.693], dtype=float32)
    """
    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    if y_true.ndim == y_pred.ndim and y_true.shape[axis] == 1:
        y_true = ops.squeeze(y_true, axis)
    if "int" not in y_true.dtype:
        y_true = ops.cast(y_true, "int32")
    if ignore_class is None:
        return ops.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=from_logits, axis=axis
        )
    valid = ops.not_equal(y_true, ignore_class)
    y_true = ops.where(valid, y_true, ops.zeros_like(y_true))
    y_pred = ops.where(ops.expand_dims(valid, axis), y_pred, 0.0)
    loss = ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)
    loss = ops.where(valid, loss, 0.0)
    loss.mask = valid
    return loss


def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: float = 0.5) -> Tensor:
    """Computes `(1 - p^q) / q` with `p = y_pred[y_true]`, which is robust to wrong labels.

    Source: Zhang and Sabuncu, 2018, arXiv:1805.07836.

    Args:
        y_true: class numbers, `(batch, ...)` or `(batch, ..., 1)`.
        y_pred: probabilities, `(batch, ..., classes)`.
        q: near 0 like the cross-entropy, near 1 like the absolute error.

    Returns:
        One value per sample, `(batch, ...)`.

    Raises:
        IndexError: if there is no class of that number; -1 is the last class.
    """
    y_true, y_pred = ops.cast(y_true, "int32"), ops.convert_to_tensor(y_pred)
    if y_true.ndim < y_pred.ndim:
        y_true = ops.expand_dims(y_true, -1)
    p = ops.squeeze(ops.take_along_axis(y_pred, y_true, axis=-1), -1)
    return (1.0 - ops.power(p, q)) / q


sparse_categorical_crossentropy.takes_classes = True
categorical_generalized_cross_entropy.takes_classes = True


def _smooth_binary(y_true: Any, y_pred: Any, smoothing: float, name: str) -> tuple[Tensor, Tensor]:
    _check_smoothing(smoothing, name)
    y_pred = ops.convert_to_tensor(y_pred)
    y_true, y_pred = match_ranks(ops.convert_to_tensor(y_true, dtype=y_pred.dtype), y_pred)
    if smoothing:
        y_true = y_true * (1.0 - smoothing) + 0.5 * smoothing
    return y_true, y_pred


def _smooth_classes(
    y_true: Any, y_pred: Any, smoothing: float, axis: int, name: str
) -> tuple[Tensor, Tensor]:
    _check_smoothing(smoothing, name)
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise ValueError(
            f"narae.losses.{name}: expected axis to be an integer. Received: axis={axis!r}"
        )
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = ops.convert_to_tensor(y_true, dtype=y_pred.dtype)
    if y_true.shape != y_pred.shape:
        hint = ""
        if y_true.ndim < y_pred.ndim or y_true.shape[-1] == 1:
            hint = (
                " For labels that are class numbers use sparse_categorical_crossentropy, "
                "or narae.utils.to_categorical."
            )
        raise ValueError(
            f"narae.losses.{name}: expected y_true with y_pred's shape (one-hot labels). "
            f"Received: y_true.shape={y_true.shape}, y_pred.shape={y_pred.shape}.{hint}"
        )
    if y_pred.shape[axis] == 1:
        warnings.warn(
            f"narae.losses.{name}: one class only (y_pred.shape={y_pred.shape}) gives a loss "
            "that is always zero. For two classes in one output use binary_crossentropy.",
            SyntaxWarning,
            stacklevel=3,
        )
    if smoothing:
        y_true = y_true * (1.0 - smoothing) + smoothing / y_true.shape[axis]
    return y_true, y_pred


def _check_smoothing(smoothing: float, name: str) -> None:
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError(
            f"narae.losses.{name}: expected label_smoothing in [0, 1]. "
            f"Received: label_smoothing={smoothing!r}"
        )


class BinaryCrossentropy(LossFunctionWrapper):
    """The cross-entropy of labels 0 or 1.

    Args:
        from_logits: whether `y_pred` holds logits; more exact than a sigmoid before the loss.
        label_smoothing: `s` turns the labels into `y * (1 - s) + s / 2`.
        axis: the axis of the mean.
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.

    >>> loss = narae.losses.BinaryCrossentropy(from_logits=True)
    >>> round(float(loss([[1.0], [0.0]], [[0.0], [0.0]])), 3)
    0.693
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "binary_crossentropy",
        dtype: Any = None,
    ) -> None:
        _check_smoothing(label_smoothing, "BinaryCrossentropy")
        super().__init__(
            binary_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class BinaryFocalCrossentropy(LossFunctionWrapper):
    """The binary cross-entropy that fades easy samples out by `(1 - p_t)^gamma`.

    Args:
        apply_class_balancing: whether class 1 is weighed by `alpha` and class 0 by `1 - alpha`.
        alpha: weight of class 1.
        gamma: strength of the fading; 0 gives the plain cross-entropy.
        from_logits: whether `y_pred` holds logits.
        label_smoothing: `s` turns the labels into `y * (1 - s) + s / 2`.
        axis: the axis of the mean.
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.
    """

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "binary_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        _check_smoothing(label_smoothing, "BinaryFocalCrossentropy")
        super().__init__(
            binary_focal_crossentropy,
            reduction,
            name,
            dtype,
            apply_class_balancing=apply_class_balancing,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class CategoricalCrossentropy(LossFunctionWrapper):
    """The cross-entropy of one-hot labels.

    Args:
        from_logits: whether `y_pred` holds logits; then softmax and loss are one fused kernel.
        label_smoothing: `s` turns the labels into `y * (1 - s) + s / classes`.
        axis: the class axis.
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.

    >>> loss = narae.losses.CategoricalCrossentropy(from_logits=True)
    >>> round(float(loss([[0.0, 1.0]], [[2.0, 2.0]])), 3)
    0.693
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        _check_smoothing(label_smoothing, "CategoricalCrossentropy")
        super().__init__(
            categorical_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class CategoricalFocalCrossentropy(LossFunctionWrapper):
    """The categorical cross-entropy that fades easy samples out by `(1 - p)^gamma`.

    Args:
        alpha: weight, one number or one per class.
        gamma: strength of the fading of easy samples.
        from_logits: whether `y_pred` holds logits.
        label_smoothing: `s` turns the labels into `y * (1 - s) + s / classes`.
        axis: the class axis.
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.
    """

    def __init__(
        self,
        alpha: Any = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "categorical_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        _check_smoothing(label_smoothing, "CategoricalFocalCrossentropy")
        super().__init__(
            categorical_focal_crossentropy,
            reduction,
            name,
            dtype,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class SparseCategoricalCrossentropy(LossFunctionWrapper):
    """The cross-entropy of class numbers.

    Args:
        from_logits: whether `y_pred` holds logits; then softmax and loss are one fused kernel.
        ignore_class: samples of this class have no loss and do not count in the mean.
        axis: the class axis.
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.

    >>> loss = narae.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> round(float(loss([1], [[2.0, 2.0]])), 3)
    0.693
    """

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            sparse_categorical_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            ignore_class=ignore_class,
            axis=axis,
        )


class CategoricalGeneralizedCrossEntropy(LossFunctionWrapper):
    """The generalized cross-entropy `(1 - p^q) / q` of class numbers, robust to wrong labels.

    Args:
        q: near 0 like the cross-entropy, near 1 like the absolute error.
        reduction: how the values become one number, see `Loss`.
        name: the loss's name.
        dtype: dtype of the computation.
    """

    def __init__(
        self,
        q: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "categorical_generalized_cross_entropy",
        dtype: Any = None,
    ) -> None:
        if not 0.0 < q < 1.0:
            raise ValueError(
                f"narae.losses.CategoricalGeneralizedCrossEntropy: expected q in (0, 1). "
                f"Received: q={q!r}"
            )
        super().__init__(categorical_generalized_cross_entropy, reduction, name, dtype, q=q)
