"""Reading and writing by index: take, scatter, segments, one-hot.

Indices are checked where they are used, in replayed steps too: one out of range raises IndexError.
Negative ones count from the end. Repeated indices add up in a fixed order.
"""

import math
from typing import Any

import numpy as np

from narae import _core
from narae.engine import Tensor, config, convert_to_tensor, op, record
from narae.engine.dtypes import is_float, result_type, standardize_dtype
from narae.ops.creation import ones_like, zeros_like
from narae.ops.elementwise import broadcast_to, cast, divide_no_nan, equal, multiply
from narae.ops.reduce import max as reduce_max
from narae.ops.shape import (
    expand_dims,
    get_item,
    moveaxis,
    reshape,
    stack,
    transpose,
)

__all__ = [
    "bincount", "embedding", "multi_hot", "one_hot", "scatter", "scatter_update", "segment_max",
    "segment_min", "segment_prod", "segment_sum", "take", "take_along_axis", "unravel_index",
]  # fmt: skip


def integers(who: str, x: Any) -> Tensor:
    """Returns indices as an int32 or int64 Tensor.

    Raises:
        TypeError: floats.
    """
    x = convert_to_tensor(x)
    if x.size == 0 and is_float(x.dtype):  # an empty list
        return cast(x, "int32")
    if is_float(x.dtype):
        raise TypeError(f"narae.ops.{who}: expected integers as indices. Received: {x.dtype}")
    return x if x.dtype in ("int32", "int64") else cast(x, "int32")


def resolve(who: str, indices: Tensor, size: int, wrap: bool = True) -> Tensor:
    """Returns indices as int64 in [0, size): checked, negative ones counted from the end.

    Raises:
        IndexError: an index out of range, now or in a replay; negative ones unless `wrap`.
    """
    return Tensor(_core.index_resolve(who, indices.array[..., None], (size,), wrap))


def _resolve_places(who: str, indices: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Returns places (..., K) in an array of K axes as places in its flattened form."""
    return Tensor(_core.index_resolve(who, indices.array, sizes))


def canonical_axis(who: str, axis: int, ndim: int) -> int:
    """Returns the axis counted from the front.

    Raises:
        ValueError: an axis out of range.
    """
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"narae.ops.{who}: expected an axis between {-ndim} and {ndim - 1}. Received: {axis}"
        )
    return axis % ndim


# ---- reading -----------------------------------------------------------------------------------


def _take(x: Tensor, flat: Tensor, axis: int) -> Tensor:
    y = Tensor(_core.index_take(x.array, flat.array, axis))
    return record(y, (x,), lambda dy: (_put(dy, flat, axis, x.shape[axis]),))


def _put(values: Tensor, flat: Tensor, axis: int, size: int) -> Tensor:
    """Zeros with values added at the indices along an axis: the gradient of `_take`."""
    y = Tensor(_core.index_combine("add", None, values.array, flat.array, axis, size))
    return record(y, (values,), lambda dy: (_take(dy, flat, axis),))


@op
def take(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """Gives the slices of `x` at the indices; along axis 0 of a table, the embedding lookup.

    Args:
        x: tensor of any dtype.
        indices: integers of any shape, in [-n, n) for n slices.
        axis: the axis; None: x is flattened first.

    Returns:
        x's shape with the axis replaced by the shape of the indices.

    Raises:
        IndexError: an index out of range.
        TypeError: indices that are floats.

    >>> narae.ops.take([[1, 2], [3, 4], [5, 6]], [2, 0], axis=0).numpy()
    array([[5, 6],
           [1, 2]], dtype=int32)
    """
    x, indices = convert_to_tensor(x), integers("take", indices)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    axis = canonical_axis("take", axis, x.ndim)
    return _take(x, resolve("take", indices, x.shape[axis]), axis)


@op
def embedding(embeddings: Any, indices: Any) -> Tensor:
    """Gives the row of a table for each index: `y[..., :] = embeddings[indices[...], :]`.

    Args:
        embeddings: (n, d).
        indices: integers of any shape in [0, n): unlike `take`'s, none counts from the end.

    Returns:
        (*indices.shape, d).

    Raises:
        IndexError: an index out of range.
    """
    table, indices = convert_to_tensor(embeddings), integers("embedding", indices)
    return _take(table, resolve("embedding", indices, table.shape[0], wrap=False), 0)


def take_along(x: Tensor, places: Tensor, axis: int) -> Tensor:
    """`take_along_axis` for checked int64 indices and an axis counted from the front."""
    y = Tensor(_core.index_take_along_axis(x.array, places.array, axis))
    return record(y, (x,), lambda dy: (_add_along(dy, places, axis, x.shape[axis]),))


def _add_along(values: Tensor, places: Tensor, axis: int, size: int) -> Tensor:
    y = Tensor(_core.index_add_along_axis(values.array, places.array, axis, size))
    return record(y, (values,), lambda dy: (take_along(dy, places, axis),))


@op
def take_along_axis(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """Takes, along an axis, other elements in each row: y[i, j] = x[i, indices[i, j]] for axis 1.

    Args:
        x: tensor of any dtype.
        indices: integers; its axes are as long as x's (or 1, or x's are 1) but for the given one.
        axis: the axis; None: x is flattened first.

    Returns:
        A tensor of the shape of the indices.

    Raises:
        IndexError: an index out of range.
        ValueError: shapes that do not fit.
    """
    x, indices = convert_to_tensor(x), integers("take_along_axis", indices)
    if axis is None:
        x, indices, axis = reshape(x, (-1,)), reshape(indices, (-1,)), 0
    axis = canonical_axis("take_along_axis", axis, x.ndim)
    if x.ndim != indices.ndim or any(
        m != n and 1 not in (m, n) and d != axis
        for d, (m, n) in enumerate(zip(x.shape, indices.shape))
    ):
        raise ValueError(
            "narae.ops.take_along_axis: expected indices of x's shape but for the axis. "
            f"Received: x.shape={x.shape}, indices.shape={indices.shape}, axis={axis}"
        )
    shape = [m if n == 1 else n for m, n in zip(x.shape, indices.shape)]
    x = broadcast_to(x, (*shape[:axis], x.shape[axis], *shape[axis + 1 :]))
    indices = broadcast_to(indices, (*shape[:axis], indices.shape[axis], *shape[axis + 1 :]))
    return take_along(x, resolve("take_along_axis", indices, x.shape[axis]), axis)


def _gather(who: str, x: Tensor, places: Tensor) -> Tensor:
    """y[...] = x[places[..., 0], places[..., 1], ...]."""
    K = places.shape[-1]
    flat = _resolve_places(who, places, x.shape[:K])
    return _take(reshape(x, (math.prod(x.shape[:K]), *x.shape[K:])), flat, 0)


def advanced_index(x: Tensor, keys: tuple) -> Tensor:
    """Computes `x[keys]` by NumPy's rules where some of the keys are arrays or tensors.

    Boolean masks are read at once: a step with one cannot be replayed.
    """
    split = _has_ellipsis_between_arrays(keys)
    keys = _expand_keys(x, keys)
    # The slices first, with the axes of the others whole; then the others together.
    basic = tuple(slice(None) if isinstance(k, Tensor) else k for k in keys)
    if any(k is None or k != slice(None) for k in basic):
        x = get_item(x, basic)
    axes = [axis for axis, k in enumerate(keys) if isinstance(k, Tensor)]
    arrays = [k for k in keys if isinstance(k, Tensor)]
    if len(axes) == 1:
        return _take(x, resolve("get_item", arrays[0], x.shape[axes[0]]), axes[0])
    try:
        shape = np.broadcast_shapes(*(k.shape for k in arrays))
    except ValueError:
        raise IndexError(
            "narae.ops.get_item: expected index arrays that broadcast. "
            f"Received: shapes {', '.join(str(k.shape) for k in arrays)}"
        ) from None
    dtype = result_type(*(k.dtype for k in arrays))
    places = stack([broadcast_to(cast(k, dtype), shape) for k in arrays], -1)
    rest = [axis for axis in range(x.ndim) if axis not in axes]
    y = _gather("get_item", transpose(x, (*axes, *rest)), places)
    if split or axes[-1] - axes[0] + 1 != len(axes) or axes[0] == 0:
        return y
    # Neighbouring index arrays leave their axes where they were.
    return moveaxis(y, range(len(shape)), range(axes[0], axes[0] + len(shape)))


def _has_ellipsis_between_arrays(keys: tuple) -> bool:
    """Whether index arrays are apart for NumPy, even if `...` stands for no axis."""
    basic = [k is None or k is Ellipsis or isinstance(k, slice) for k in keys]
    arrays = [i for i, is_basic in enumerate(basic) if not is_basic]
    return any(k is Ellipsis for k in keys[arrays[0] : arrays[-1]])


def _expand_keys(x: Tensor, keys: tuple) -> list:
    """Returns one key for each axis (and None for each new one): slices and integer Tensors."""
    listed = []
    for k in keys:
        if k is None or k is Ellipsis or isinstance(k, slice):
            listed.append(k)
            continue
        array = convert_to_tensor(k)
        if array.dtype == "bool":
            if array.ndim == 0:
                raise IndexError("narae.ops.get_item: a single truth value is no index.")
            listed.extend(Tensor(i) for i in array.read("a boolean mask").nonzero())
        else:
            listed.append(integers("get_item", array))
    used = sum(k is not None and k is not Ellipsis for k in listed)
    if used > x.ndim or sum(k is Ellipsis for k in listed) > 1:
        raise IndexError(
            f"narae.ops.get_item: expected at most {x.ndim} indices and one `...`. Received: "
            f"{used} indices for x.shape={x.shape}"
        )
    if not any(k is Ellipsis for k in listed):
        listed.append(Ellipsis)
    at = next(i for i, k in enumerate(listed) if k is Ellipsis)
    return [*listed[:at], *[slice(None)] * (x.ndim - used), *listed[at + 1 :]]


@op
def unravel_index(indices: Any, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Turns places in a flattened array into places along its axes, one tensor for each."""
    indices = integers("unravel_index", indices)
    flat = cast(resolve("unravel_index", indices, math.prod(shape)), indices.dtype)
    places = []
    for n in reversed(shape):
        places.append(flat % n)
        flat = flat // n
    return tuple(reversed(places))


# ---- writing -----------------------------------------------------------------------------------


@op
def scatter(indices: Any, values: Any, shape: tuple[int, ...]) -> Tensor:
    """Adds values to zeros: y[indices[..., 0], indices[..., 1], ...] += values.

    Args:
        indices: integers (..., K), places in the first K axes of the shape.
        values: tensor (..., *shape[K:]).
        shape: shape of the result.

    Raises:
        IndexError: an index out of range.
        ValueError: values of another shape.

    >>> narae.ops.scatter([[0], [2], [0]], [1.0, 2.0, 3.0], (3,)).numpy()
    array([4., 0., 2.], dtype=float32)
    """
    indices, values, shape = integers("scatter", indices), convert_to_tensor(values), tuple(shape)
    _check_places("scatter", indices, values, shape)
    K = indices.shape[-1]
    flat = _resolve_places("scatter", indices, shape[:K])
    return reshape(_put(_number(values), flat, 0, math.prod(shape[:K])), shape)


def _number(x: Tensor) -> Tensor:
    return cast(x, "int32") if x.dtype in ("bool", "uint8") else x


def _check_places(who, indices, values, shape):
    K = indices.shape[-1] if indices.ndim else 0
    if not 1 <= K <= len(shape) or values.shape != (*indices.shape[:-1], *shape[K:]):
        raise ValueError(
            f"narae.ops.{who}: expected indices (..., K) and values (..., *shape[K:]). Received: "
            f"indices.shape={indices.shape}, values.shape={values.shape}, shape={shape}"
        )


_REDUCTIONS = (None, "add", "max", "min", "mul")


@op
def scatter_update(inputs: Any, indices: Any, updates: Any, reduction: str | None = None) -> Tensor:
    """Gives `inputs` with y[indices[..., 0], indices[..., 1], ...] = updates.

    Args:
        inputs: tensor.
        indices: integers (..., K), places in the first K axes of inputs. Of equal ones the last
            counts.
        updates: tensor (..., *inputs.shape[K:]).
        reduction: `"add"`, `"max"`, `"min"` or `"mul"` to combine the updates with what is there.
            There are gradients for None, for places that differ, and for `"add"`.

    Raises:
        IndexError: an index out of range.
        ValueError: updates of another shape, or an unknown reduction.
    """
    x, indices = convert_to_tensor(inputs), integers("scatter_update", indices)
    updates = convert_to_tensor(updates, x.dtype)
    _check_places("scatter_update", indices, updates, x.shape)
    if reduction not in _REDUCTIONS:
        raise ValueError(
            f"narae.ops.scatter_update: expected reduction to be one of {_REDUCTIONS}. "
            f"Received: reduction={reduction!r}"
        )
    K = indices.shape[-1]
    flat = _resolve_places("scatter_update", indices, x.shape[:K])
    rows = reshape(x, (math.prod(x.shape[:K]), *x.shape[K:]))
    return reshape(_update(rows, flat, updates, reduction), x.shape)


def _update(x: Tensor, flat: Tensor, updates: Tensor, reduction) -> Tensor:
    if reduction is None:
        y = Tensor(_core.index_update(x.array, updates.array, flat.array))
    else:
        y = Tensor(
            _core.index_combine(reduction, x.array, updates.array, flat.array, 0, x.shape[0])
        )

    def backward(dy):
        if reduction is None:
            return _update(dy, flat, zeros_like(updates), None), _take(dy, flat, 0)
        if reduction == "add":
            return dy, _take(dy, flat, 0)
        raise NotImplementedError(
            f"narae.ops.scatter_update: reduction={reduction!r} has no gradient."
        )

    return record(y, (x, updates), backward)


# ---- segments ----------------------------------------------------------------------------------


def _segments(who, data, segment_ids, num_segments):
    data, ids = _number(convert_to_tensor(data)), integers(who, segment_ids)
    if data.ndim == 0 or ids.shape != data.shape[:1]:
        raise ValueError(
            f"narae.ops.{who}: expected a segment for each row of data. Received: "
            f"data.shape={data.shape}, segment_ids.shape={ids.shape}"
        )
    if num_segments is None:
        num_segments = int(ids.read(f"{who} without num_segments").max(initial=-1)) + 1
    return data, resolve(who, ids, int(num_segments), wrap=False), int(num_segments)


@op
def segment_sum(
    data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False
) -> Tensor:
    """Sums rows by segment: y[s] = sum of data[n] over the n with segment_ids[n] = s.

    Args:
        data: tensor (N, ...).
        segment_ids: integers (N,) in [0, num_segments).
        num_segments: rows of the result; without it, the largest segment is looked up.
        sorted: whether the segments are in order; it makes no difference.

    Returns:
        A tensor (num_segments, ...); segments without rows are 0.

    Raises:
        IndexError: a segment out of range.
        ValueError: shapes that do not fit.

    >>> narae.ops.segment_sum([1.0, 2.0, 3.0], [0, 2, 0], 3).numpy()
    array([4., 0., 2.], dtype=float32)
    """
    data, ids, count = _segments("segment_sum", data, segment_ids, num_segments)
    return _put(data, ids, 0, count)


def _segment_extremum(how, data, segment_ids, num_segments):
    x, ids, count = _segments(f"segment_{how}", data, segment_ids, num_segments)
    y = Tensor(_core.index_combine(how, None, x.array, ids.array, 0, count))

    def backward(dy):  # equal shares for all rows that are the extremum
        here = cast(equal(x, _take(Tensor(y.array), ids, 0)), dy.dtype)
        return (multiply(here, _take(divide_no_nan(dy, _put(here, ids, 0, count)), ids, 0)),)

    return record(y, (x,), backward)


@op
def segment_max(
    data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False
) -> Tensor:
    """Largest row of each segment, element by element; -inf where there is none.

    See `segment_sum`. The gradient goes in equal shares to all that are the largest.
    """
    return _segment_extremum("max", data, segment_ids, num_segments)


@op
def segment_min(
    data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False
) -> Tensor:
    """Smallest row of each segment, element by element; inf where there is none.

    See `segment_max`.
    """
    return _segment_extremum("min", data, segment_ids, num_segments)


@op
def segment_prod(
    data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False
) -> Tensor:
    """Product of the rows of each segment; 1 where there are none. It has no gradient."""
    x, ids, count = _segments("segment_prod", data, segment_ids, num_segments)

    def backward(dy):
        raise NotImplementedError("narae.ops.segment_prod has no gradient.")

    y = Tensor(_core.index_combine("mul", None, x.array, ids.array, 0, count))
    return record(y, (x,), backward)


@op
def bincount(x: Any, weights: Any = None, minlength: int = 0, sparse: bool = False) -> Tensor:
    """Counts each value: y[..., v] = sum of the weights (of ones) where x = v.

    Args:
        x: integers >= 0, (N,) or (batch, N).
        weights: tensor of x's shape, or None.
        minlength: the least length of the result.
        sparse: only False.

    Returns:
        Counts of length max(x) + 1 or more, int32, or of the dtype of the weights. The length is
        read from the values: a step with it cannot be replayed.

    Raises:
        ValueError: negative values, or other shapes.
    """
    if sparse:
        raise NotImplementedError("narae.ops.bincount: expected sparse=False. Received: True")
    x = integers("bincount", x)
    weights = ones_like(x, "int32") if weights is None else _number(convert_to_tensor(weights))
    if x.ndim not in (1, 2) or weights.shape != x.shape:
        raise ValueError(
            "narae.ops.bincount: expected x of one or two axes and weights of its shape. "
            f"Received: x.shape={x.shape}, weights.shape={weights.shape}"
        )
    values = x.read("bincount()")
    if values.min(initial=0) < 0:
        raise ValueError(f"narae.ops.bincount: expected values >= 0. Received: {values.min()}")
    length = max(int(values.max(initial=-1)) + 1, int(minlength))
    if x.ndim == 1:
        return _put(weights, resolve("bincount", x, length), 0, length)
    batch = Tensor(np.arange(x.shape[0], dtype=x.dtype)[:, None])
    places = stack([broadcast_to(batch, x.shape), x], -1)
    return scatter(places, weights, (x.shape[0], length))


# ---- one and many hot --------------------------------------------------------------------------


def _hot(indices: Tensor, num_classes: int, dtype) -> Tensor:
    """(..., T) integers as (..., num_classes): one where any of the T is the class."""
    dtype = np.dtype(config.floatx() if dtype is None else standardize_dtype(dtype))
    return Tensor(_core.index_hot(cast(indices, "int64").array, int(num_classes), dtype))


def _no_sparse(who, sparse):
    if sparse:
        raise NotImplementedError(f"narae.ops.{who}: expected sparse=False. Received: sparse=True")


@op
def one_hot(
    x: Any, num_classes: int, axis: int = -1, dtype: str | None = None, sparse: bool = False
) -> Tensor:
    """Turns class indices into vectors: y[..., c] = 1 where x[...] = c, else 0.

    Args:
        x: integers of any shape; those outside [0, num_classes) give zeros.
        num_classes: length of the new axis.
        axis: where the new axis goes.
        dtype: of the result; floatx by default.
        sparse: only False.

    >>> narae.ops.one_hot([1, 0], 3).numpy()
    array([[0., 1., 0.],
           [1., 0., 0.]], dtype=float32)
    """
    _no_sparse("one_hot", sparse)
    y = _hot(expand_dims(x, -1), num_classes, dtype)
    axis = canonical_axis("one_hot", axis, y.ndim)
    return y if axis == y.ndim - 1 else moveaxis(y, -1, axis)


@op
def multi_hot(
    inputs: Any,
    num_classes: int | None = None,
    axis: int = -1,
    dtype: str | None = None,
    sparse: bool = False,
    **kwargs: Any,
) -> Tensor:
    """Turns sets of class indices into vectors: y[n, c] = 1 where any of inputs[n, :] is c.

    Args:
        inputs: integers (T,) or (N, T, ...); those outside [0, num_classes) are ignored.
        num_classes: length of the class axis.
        axis: where the class axis goes.
        dtype: of the result; floatx by default.
        sparse: only False.

    Raises:
        ValueError: no num_classes.
    """
    _no_sparse("multi_hot", sparse)
    num_classes = kwargs.pop("num_tokens", num_classes)  # its former name
    if num_classes is None or kwargs:
        raise ValueError(
            "narae.ops.multi_hot: expected num_classes. "
            f"Received: num_classes={num_classes}, {kwargs}"
        )
    x = convert_to_tensor(inputs)
    if x.ndim <= 2 and axis in (-1, x.ndim - 1):
        return _hot(x, num_classes, dtype)
    return reduce_max(one_hot(x, num_classes, axis, dtype), axis=1 if x.ndim > 1 else 0)
