"""Order: sorting, the largest, ranks. NaN counts as larger than all numbers."""

from typing import Any

from narae import _core
from narae.engine import Tensor, convert_to_tensor, op
from narae.engine.dtypes import result_type
from narae.ops.elementwise import cast, floating
from narae.ops.index import canonical_axis, integers, resolve, take_along
from narae.ops.shape import moveaxis, reshape

__all__ = ["argpartition", "argsort", "digitize", "in_top_k", "searchsorted", "sort", "top_k"]


def _number(x: Tensor) -> Tensor:
    return cast(x, "int32") if x.dtype in ("bool", "uint8") else x


def _last(who: str, x: Any, axis: int | None) -> tuple[Tensor, int]:
    """Returns x with the axis moved to the end, and where it was; None flattens."""
    x = convert_to_tensor(x)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    axis = canonical_axis(who, axis, x.ndim)
    return (x if axis == x.ndim - 1 else moveaxis(x, axis, -1)), axis


def _back(y: Tensor, axis: int) -> Tensor:
    return y if axis == y.ndim - 1 else moveaxis(y, -1, axis)


@op
def argsort(x: Any, axis: int | None = -1) -> Tensor:
    """Places of the elements in ascending order, int32; equal ones keep their order.

    Args:
        x: tensor.
        axis: the axis; None: x is flattened first.

    >>> narae.ops.argsort([3.0, 1.0, 2.0]).numpy()
    array([1, 2, 0], dtype=int32)
    """
    x, axis = _last("argsort", x, axis)
    return _back(Tensor(_core.sort_argsort(_number(x).array)), axis)


@op
def sort(x: Any, axis: int | None = -1) -> Tensor:
    """Elements in ascending order along an axis (None: of the flattened tensor).

    The gradient goes where the values came from.
    """
    x, axis = _last("sort", x, axis)
    places = resolve("sort", Tensor(_core.sort_argsort(_number(x).array)), x.shape[-1])
    return _back(take_along(x, places, x.ndim - 1), axis)


@op
def argpartition(x: Any, kth: int, axis: int | None = -1) -> Tensor:
    """Places such that the kth is where sorting puts it, smaller ones before, larger ones after.

    Here all are in order.
    """
    return argsort(x, axis)


@op
def top_k(x: Any, k: int, sorted: bool = True) -> tuple[Tensor, Tensor]:
    """The k largest elements along the last axis, in descending order; of equal ones the first.

    Args:
        x: tensor (..., C).
        k: how many, at most C.
        sorted: whether order is asked for; they are in order anyway.

    Returns:
        `(values, indices)`, each (..., k); the indices are int32.

    Raises:
        ValueError: k > C.

    >>> values, indices = narae.ops.top_k([1.0, 5.0, 3.0], k=2)
    >>> values.numpy(), indices.numpy()
    (array([5., 3.], dtype=float32), array([1, 2], dtype=int32))
    """
    x = convert_to_tensor(x)
    indices = Tensor(_core.sort_top_k(_number(x).array, int(k)))
    return take_along(x, resolve("top_k", indices, x.shape[-1]), x.ndim - 1), indices


@op
def in_top_k(targets: Any, predictions: Any, k: int) -> Tensor:
    """Whether the prediction for the target class is among the k largest of its row.

    Ties count as among them.

    Args:
        targets: class indices (N,).
        predictions: (N, C).
        k: how many.

    Returns:
        bool (N,).

    Raises:
        IndexError: a target outside [0, C).
        ValueError: shapes that do not fit.
    """
    targets, predictions = integers("in_top_k", targets), floating(predictions)
    size = predictions.shape[-1] if predictions.ndim else 0
    places = resolve("in_top_k", targets, size, wrap=False)
    return Tensor(_core.sort_in_top_k(places.array, predictions.array, int(k)))


@op
def searchsorted(sorted_sequence: Any, values: Any, side: str = "left") -> Tensor:
    """Where values would go into a sorted sequence, int32.

    Args:
        sorted_sequence: (C,), ascending.
        values: any shape.
        side: `"left"`: before equal elements, `"right"`: after them.

    Raises:
        ValueError: another side, or a sequence of more axes.
    """
    if side not in ("left", "right"):
        raise ValueError(
            f"narae.ops.searchsorted: expected side 'left' or 'right'. Received: side={side!r}"
        )
    x, v = _number(convert_to_tensor(sorted_sequence)), _number(convert_to_tensor(values))
    dtype = result_type(x.dtype, v.dtype)
    x, v = cast(x, dtype), cast(v, dtype)
    return Tensor(_core.sort_searchsorted(x.array, v.array, side == "right"))


@op
def digitize(x: Any, bins: Any) -> Tensor:
    """Number of the bin of each element, int32: bins[i - 1] <= x < bins[i] gives i.

    Args:
        x: tensor of any shape.
        bins: (C,), ascending.
    """
    return searchsorted(bins, x, side="right")
