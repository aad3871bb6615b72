"""The base of every loss: reduction, sample weights and masks."""

from collections.abc import Callable
from typing import Any

from narae import ops
from narae.engine import config, lookup, naming, tree
from narae.engine.tensor import Tensor

REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)


class Loss:
    """The base class of losses: `call` gives one value per sample, `__call__` reduces them.

    `sum_over_batch_size` and `mean` divide the weighted sum by the number of values,
    `mean_with_sample_weight` by the sum of the weights; `sum` only adds; `none` and `None` give the
    weighted values themselves. Entries that a mask switches off count in neither sum nor number.

    Args:
        name: the loss's name; made from the class name by default.
        reduction: one of the words above.
        dtype: dtype of the computation; `narae.config.floatx()` by default.

    Example:

    >>> class Distance(narae.losses.Loss):
    ...     def call(self, y_true, y_pred):
    ...         return narae.ops.sum(narae.ops.abs(y_true - y_pred), axis=-1)
    """

    _takes_classes = False

    def __init__(
        self,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ) -> None:
        self.name = name or naming.auto_name(type(self).__name__)
        self.reduction = check_reduction(reduction, type(self).__name__)
        self._dtype = getattr(dtype, "compute_dtype", dtype) or config.floatx()

    @property
    def dtype(self) -> str:
        """The dtype that targets and predictions are cast to."""
        return self._dtype

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """Computes the loss.

        Args:
            y_true: the targets, `(batch, ...)`.
            y_pred: the predictions, `(batch, ...)`; their Keras mask, if any, is respected.
            sample_weight: one weight per sample `(batch,)`, or per value of `call`.

        Returns:
            A scalar, or the values themselves if `reduction` is none.
        """
        mask = getattr(y_pred, "mask", None)
        y_pred = _tensors(y_pred, self.dtype)
        # Class numbers stay integers: as a float a wrong label would be hidden.
        y_true = _tensors(y_true, None if self._takes_classes else self.dtype)
        values = self.call(y_true, y_pred)
        value_mask = getattr(values, "mask", None)
        if mask is not None and value_mask is not None:
            mask = ops.logical_and(mask, value_mask)
        elif mask is None:
            mask = value_mask
        return reduce_weighted_values(values, sample_weight, mask, self.reduction, self.dtype)

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        """Computes one value per sample; subclasses write it."""
        raise NotImplementedError(f"{type(self).__name__} must implement call(y_true, y_pred).")

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, as plain values."""
        return {"name": self.name, "reduction": self.reduction}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Loss":
        """Makes the object that `get_config` described."""
        return cls(**config)


class LossFunctionWrapper(Loss):
    """The loss of a function `fn(y_true, y_pred, **kwargs)` that gives one value per sample."""

    def __init__(
        self,
        fn: Callable[..., Tensor],
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.fn = fn
        self._takes_classes = getattr(fn, "takes_classes", False)
        self._fn_kwargs = kwargs
        self.__dict__.update(kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        if isinstance(y_true, Tensor) and isinstance(y_pred, Tensor):
            y_true, y_pred = match_ranks(y_true, y_pred)
        return self.fn(y_true, y_pred, **self._fn_kwargs)

    def get_config(self) -> dict[str, Any]:
        base = {**super().get_config(), **self._fn_kwargs}
        if type(self) is LossFunctionWrapper:
            base["fn"] = lookup.to_config(self.fn)
        return base

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Loss":
        if isinstance(config.get("fn"), dict):
            from narae.saving.registry import deserialize_keras_object

            config = {**config, "fn": deserialize_keras_object(config["fn"])}
        return cls(**config)


def _tensors(x: Any, dtype: str | None) -> Any:
    """Converts an array, nested lists of numbers, or a dict or list of several arrays."""
    if isinstance(x, dict) or (
        isinstance(x, (list, tuple)) and any(getattr(leaf, "ndim", 0) for leaf in tree.flatten(x))
    ):
        return tree.map_structure(lambda leaf: ops.convert_to_tensor(leaf, dtype=dtype), x)
    return ops.convert_to_tensor(x, dtype=dtype)


def check_reduction(reduction: str | None, owner: str) -> str | None:
    if reduction not in REDUCTIONS:
        raise ValueError(
            f"narae.losses.{owner}: expected reduction to be one of {REDUCTIONS}. "
            f"Received: reduction={reduction!r}"
        )
    return reduction


def match_ranks(a: Tensor, b: Tensor, expand_rank_1: bool = True) -> tuple[Tensor, Tensor]:
    """Adds or drops a last axis of size 1, so that the two have the same rank."""
    if a.ndim == b.ndim + 1 and a.shape[-1] == 1:
        if b.ndim == 1 and expand_rank_1:
            return a, ops.expand_dims(b, -1)
        return ops.squeeze(a, -1), b
    if b.ndim == a.ndim + 1 and b.shape[-1] == 1:
        b, a = match_ranks(b, a, expand_rank_1)
    return a, b


def apply_mask(sample_weight: Any, mask: Any, dtype: str, reduction: str | None) -> Tensor | None:
    """Merges a mask into the sample weights.

    For a mean over all values, the entries left get the weight total/valid, so that the masked
    ones do not dilute it.
    """
    if mask is None:
        return sample_weight
    weight = ops.cast(mask, dtype)
    if reduction in ("mean", "sum_over_batch_size"):
        weight = weight * ops.divide_no_nan(float(weight.size), ops.sum(weight))
    if sample_weight is None:
        return weight
    weight, sample_weight = match_ranks(weight, ops.convert_to_tensor(sample_weight, dtype=dtype))
    return sample_weight * weight


def reduce_weighted_values(
    values: Any,
    sample_weight: Any = None,
    mask: Any = None,
    reduction: str | None = "sum_over_batch_size",
    dtype: str | None = None,
) -> Tensor:
    """Weighs per-sample `values` and reduces them as `reduction` says."""
    values = ops.convert_to_tensor(values, dtype=dtype)
    weight = apply_mask(sample_weight, mask, values.dtype, reduction)
    if weight is not None:
        values, weight = match_ranks(values, ops.convert_to_tensor(weight, dtype=values.dtype))
        if 0 < weight.ndim < values.ndim and weight.shape == values.shape[: weight.ndim]:
            # One weight per sample for values per time step or pixel.
            weight = ops.reshape(weight, (*weight.shape, *[1] * (values.ndim - weight.ndim)))
        values = values * weight
    if reduction in (None, "none") or values.ndim == 0 or values.shape == (0,):
        return values
    if reduction == "sum" or 0 in values.shape:
        return ops.sum(values)
    if reduction == "mean_with_sample_weight" and weight is not None:
        return ops.divide_no_nan(ops.sum(values), ops.sum(weight))
    return ops.mean(values)
