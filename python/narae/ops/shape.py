"""Shapes, slices, pieces: moving elements.

Python makes a strided view of the array (a transpose, a slice), and the kernel moves the elements.
"""

import math
import operator
from typing import Any

import numpy as np

from narae import _core
from narae.engine import KerasTensor, Tensor, convert_to_tensor, op, record
from narae.ops.creation import full, plain_number, zeros
from narae.ops.elementwise import broadcast_to, constant, operands, where

__all__ = [
    "append", "array", "array_split", "concatenate", "convert_to_numpy", "convert_to_tensor",
    "diag", "diagflat", "diagonal", "dsplit", "dstack", "dtype", "expand_dims", "flip", "fliplr",
    "flipud", "get_item", "hsplit", "hstack", "is_tensor", "meshgrid", "moveaxis", "ndim", "pad",
    "ravel", "repeat", "reshape", "roll", "rot90", "shape", "size", "slice", "slice_update",
    "split", "squeeze", "stack", "stop_gradient", "swapaxes", "tile", "transpose", "tril", "triu",
    "unstack", "vsplit", "vstack",
]  # fmt: skip

_slice = slice  # the builtin; `slice` is an op here


# ---- what a tensor is ---------------------------------------------------------
def shape(x: Any) -> tuple:
    """Returns the shape as a tuple; None for an unknown size of a symbolic tensor."""
    return x.shape if isinstance(x, KerasTensor) else convert_to_tensor(x).shape


def ndim(x: Any) -> int:
    """Returns the number of axes."""
    return len(shape(x))


def size(x: Any) -> int:
    """Returns the number of elements."""
    return math.prod(shape(x))


def dtype(x: Any) -> str:
    """Returns the name of the dtype."""
    return x.dtype if isinstance(x, KerasTensor) else convert_to_tensor(x).dtype


def is_tensor(x: Any) -> bool:
    """Returns whether `x` is a narae Tensor."""
    return isinstance(x, Tensor)


def convert_to_numpy(x: Any) -> np.ndarray:
    """Returns the values as a NumPy array of their own."""
    return convert_to_tensor(x).read("convert_to_numpy()").copy()


@op
def array(x: Any, dtype: str | None = None) -> Tensor:
    """Makes a tensor of a list, a number or an array."""
    return convert_to_tensor(x, dtype)


@op
def stop_gradient(variable: Any) -> Tensor:
    """Gives the values with no way back for gradients."""
    return constant(convert_to_tensor(variable).array)


# ---- views of the same memory ---------------------------------------------------------
@op
def reshape(x: Any, newshape: Any) -> Tensor:
    """Gives the same elements in another shape; one size may be -1. No element is moved.

    >>> narae.ops.reshape(narae.ops.ones((2, 3, 4)), (2, -1)).shape
    (2, 12)
    """
    x = convert_to_tensor(x)
    if isinstance(newshape, (int, np.integer)):
        newshape = (newshape,)
    wanted = tuple(-1 if n is None else operator.index(n) for n in newshape)
    try:
        y = x.array.reshape(wanted)
    except ValueError:
        raise ValueError(
            "narae.ops.reshape: expected a shape of as many elements as x has. "
            f"Received: x.shape={x.shape}, newshape={wanted}"
        ) from None
    return record(Tensor(y), (x,), lambda dy: (reshape(dy, x.shape),))


@op
def ravel(x: Any) -> Tensor:
    """Gives the elements along one axis."""
    return reshape(x, (-1,))


def _axes(who: str, axis, rank: int) -> tuple[int, ...]:
    """Returns axes as numbers in [0, rank)."""
    axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    if any(not -rank <= a < rank for a in axes) or len({a % rank for a in axes}) != len(axes):
        raise ValueError(
            f"narae.ops.{who}: expected different axes in [{-rank}, {rank}). Received: axis={axis}"
        )
    return tuple(a % rank for a in axes)


@op
def expand_dims(x: Any, axis: Any) -> Tensor:
    """Adds axes of size 1 at the given places of the result.

    >>> narae.ops.expand_dims(narae.ops.ones((2, 3)), 1).shape
    (2, 1, 3)
    """
    x = convert_to_tensor(x)
    count = 1 if isinstance(axis, (int, np.integer)) else len(axis)
    new = _axes("expand_dims", axis, x.ndim + count)
    sizes = iter(x.shape)
    return reshape(x, [1 if i in new else next(sizes) for i in range(x.ndim + count)])


@op
def squeeze(x: Any, axis: Any = None) -> Tensor:
    """Drops axes of size 1: the given ones, or all."""
    x = convert_to_tensor(x)
    if axis is None:
        return reshape(x, [n for n in x.shape if n != 1])
    gone = _axes("squeeze", axis, x.ndim)
    if any(x.shape[i] != 1 for i in gone):
        raise ValueError(
            f"narae.ops.squeeze: expected axes of size 1. Received: x.shape={x.shape}, axis={axis}"
        )
    return reshape(x, [n for i, n in enumerate(x.shape) if i not in gone])


# ---- moving elements ---------------------------------------------------------
@op
def transpose(x: Any, axes: Any = None) -> Tensor:
    """Permutes the axes: axis i of the result is axis `axes[i]` of `x`. Default: reversed.

    >>> narae.ops.transpose(narae.ops.ones((2, 3, 4)), (0, 2, 1)).shape
    (2, 4, 3)
    """
    x = convert_to_tensor(x)
    axes = tuple(range(x.ndim))[::-1] if axes is None else _axes("transpose", axes, x.ndim)
    if len(axes) != x.ndim:
        raise ValueError(
            f"narae.ops.transpose: expected all axes of x. Received: x.shape={x.shape}, axes={axes}"
        )
    if [i for i in axes if x.shape[i] != 1] == [i for i in range(x.ndim) if x.shape[i] != 1]:
        return reshape(x, [x.shape[i] for i in axes])
    y = Tensor(_core.contiguous(x.array.transpose(axes)))
    back = tuple(sorted(range(len(axes)), key=axes.__getitem__))
    return record(y, (x,), lambda dy: (transpose(dy, back),))


@op
def moveaxis(x: Any, source: Any, destination: Any) -> Tensor:
    """Moves axes to other places; the rest keep their order."""
    x = convert_to_tensor(x)
    sources = _axes("moveaxis", source, x.ndim)
    targets = _axes("moveaxis", destination, x.ndim)
    order = [i for i in range(x.ndim) if i not in sources]
    for target, source in sorted(zip(targets, sources)):
        order.insert(target, source)
    return transpose(x, order)


@op
def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Exchanges two axes."""
    x = convert_to_tensor(x)
    order = list(range(x.ndim))
    (i,), (j,) = _axes("swapaxes", axis1, x.ndim), _axes("swapaxes", axis2, x.ndim)
    order[i], order[j] = j, i
    return transpose(x, order)


@op
def flip(x: Any, axis: Any = None) -> Tensor:
    """Reverses the order along axes (all by default)."""
    x = convert_to_tensor(x)
    axes = _axes("flip", range(x.ndim) if axis is None else axis, x.ndim)
    view = x.array[tuple(_slice(None, None, -1 if i in axes else 1) for i in range(x.ndim))]
    return record(Tensor(_core.contiguous(view)), (x,), lambda dy: (flip(dy, axes),))


@op
def fliplr(x: Any) -> Tensor:
    """Reverses axis 1."""
    return flip(x, 1)


@op
def flipud(x: Any) -> Tensor:
    """Reverses axis 0."""
    return flip(x, 0)


@op
def rot90(array: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Tensor:
    """Turns by k quarters, from the first of the two axes towards the second."""
    a, b = axes
    k %= 4
    if k == 0:
        return convert_to_tensor(array)
    if k == 2:
        return flip(array, (a, b))
    return flip(swapaxes(array, a, b), a) if k == 1 else swapaxes(flip(array, a), a, b)


def _place(x: Tensor, index, shape, background=None) -> Tensor:
    """Returns zeros (or a copy of `background`) with x at `index`, a basic index."""
    if background is None:
        y = _core.full(shape, 0, x.array.dtype)
    else:
        y = _core.copy(background.array)
    _core.copy_into(y[index], x.array)
    return Tensor(y)


def _view(x: Tensor, index) -> Tensor:
    """Returns x[index] for a basic index, whose gradient is placed back among zeros."""
    y = Tensor(_core.contiguous(x.array[index]))
    return record(y, (x,), lambda dy: (_put(dy, index, x.shape),))


def _put(x: Tensor, index, shape) -> Tensor:
    """The gradient of `_view`, and the other way round."""
    return record(_place(x, index, shape), (x,), lambda dy: (_view(dy, index),))


@op
def get_item(x: Any, key: Any) -> Tensor:
    """Computes `x[key]` by NumPy's rules for integers, slices, `...`, None and index tensors.

    >>> narae.ops.arange(6)[1:4].numpy()
    array([1, 2, 3], dtype=int32)
    """
    x = convert_to_tensor(x)
    keys = key if isinstance(key, tuple) else (key,)
    keys = tuple(operator.index(k) if isinstance(k, np.integer) else _plain_slice(k) for k in keys)
    if all(k is None or k is Ellipsis or type(k) in (int, _slice) for k in keys):
        view = x.array[keys]
        if view.size == x.array.size and view.flags.c_contiguous:
            return reshape(x, view.shape)
        # `...` keeps the result of integers alone an array
        return _view(x, keys if Ellipsis in keys else (*keys, Ellipsis))
    from narae.ops.index import advanced_index

    return advanced_index(x, keys)


def _plain_slice(k):
    """Returns a slice with plain integers; other keys unchanged."""
    if not isinstance(k, _slice):
        return k
    return _slice(*(None if v is None else operator.index(v) for v in (k.start, k.stop, k.step)))


@op
def slice(inputs: Any, start_indices: Any, shape: Any) -> Tensor:
    """Cuts out a block.

    Args:
        inputs: any shape.
        start_indices: where the block starts, one integer for each axis.
        shape: the block's sizes; -1 for all that is left.
    """
    x = convert_to_tensor(inputs)
    starts, sizes = _block("slice", x, start_indices, shape)
    return _view(x, tuple(_slice(a, a + n) for a, n in zip(starts, sizes)))


@op
def slice_update(inputs: Any, start_indices: Any, updates: Any) -> Tensor:
    """Gives `inputs` with a block replaced by `updates`, starting at `start_indices`."""
    x = convert_to_tensor(inputs)
    updates = convert_to_tensor(updates, x.dtype)
    starts, sizes = _block("slice_update", x, start_indices, updates.shape)
    index = tuple(_slice(a, a + n) for a, n in zip(starts, sizes))
    y = _place(updates, index, x.shape, background=x)

    def backward(dy):
        return slice_update(dy, starts, zeros(sizes, dy.dtype)), _view(dy, index)

    return record(y, (x, updates), backward)


def _block(who, x, start_indices, shape):
    starts = [int(i) for i in _integers(start_indices)]
    sizes = [int(n) for n in _integers(shape)]
    if len(starts) != x.ndim or len(sizes) != x.ndim:
        raise ValueError(
            f"narae.ops.{who}: expected a start and a size for each axis. Received: "
            f"shape {x.shape}, start_indices={starts}, sizes={sizes}"
        )
    sizes = [m - a if n == -1 else n for n, a, m in zip(sizes, starts, x.shape)]
    if any(a < 0 or n < 0 or a + n > m for a, n, m in zip(starts, sizes, x.shape)):
        raise ValueError(
            f"narae.ops.{who}: expected a block inside shape {x.shape}. Received: "
            f"start_indices={starts}, sizes={sizes}"
        )
    return starts, sizes


def _integers(values):
    return values.tolist() if isinstance(values, (Tensor, np.ndarray)) else values


# ---- pieces ---------------------------------------------------------
def _along(axis: int, start: int, stop: int) -> tuple:
    return (_slice(None),) * axis + (_slice(start, stop),)


@op
def concatenate(xs: Any, axis: int = 0) -> Tensor:
    """Puts tensors one after another along an axis; the other sizes agree.

    Args:
        xs: list of tensors.
        axis: the axis along which they follow each other.

    Raises:
        ValueError: no tensor, or shapes that do not agree.

    >>> narae.ops.concatenate([[[1], [2]], [[3], [4]]], axis=1).numpy()
    array([[1, 3],
           [2, 4]], dtype=int32)
    """
    xs = operands(*xs)
    if not xs or xs[0].ndim == 0:
        raise ValueError("narae.ops.concatenate: expected one or more tensors that have axes")
    (axis,) = _axes("concatenate", axis, xs[0].ndim)
    rest = [x.shape[:axis] + x.shape[axis + 1 :] for x in xs]
    if any(r != rest[0] or x.ndim != xs[0].ndim for r, x in zip(rest, xs)):
        raise ValueError(
            f"narae.ops.concatenate: expected shapes that agree but for axis {axis}. "
            f"Received: {[x.shape for x in xs]}"
        )
    if len(xs) == 1:
        return xs[0]
    ends = [0]
    for x in xs:
        ends.append(ends[-1] + x.shape[axis])
    places = [_along(axis, a, b) for a, b in zip(ends, ends[1:])]
    y = _core.empty((*xs[0].shape[:axis], ends[-1], *xs[0].shape[axis + 1 :]), xs[0].array.dtype)
    for x, place in zip(xs, places):
        _core.copy_into(y[place], x.array)
    return record(Tensor(y), xs, lambda dy: tuple(_view(dy, place) for place in places))


@op
def append(x1: Any, x2: Any, axis: int | None = None) -> Tensor:
    """Puts `x2` after `x1` along an axis; flattens both if it is None."""
    if axis is None:
        return concatenate([ravel(x1), ravel(x2)])
    return concatenate([x1, x2], axis)


@op
def stack(x: Any, axis: int = 0) -> Tensor:
    """Puts tensors of one shape side by side along a new axis.

    >>> narae.ops.stack([narae.ops.ones(3), narae.ops.zeros(3)], axis=1).shape
    (3, 2)
    """
    xs = operands(*x)
    if any(t.shape != xs[0].shape for t in xs):
        raise ValueError(
            f"narae.ops.stack: expected tensors of one shape. Received: {[t.shape for t in xs]}"
        )
    return concatenate([expand_dims(t, axis) for t in xs], axis)


@op
def hstack(xs: Any) -> Tensor:
    """Concatenates along axis 1, vectors along axis 0."""
    xs = [reshape(x, (-1,)) if ndim(x) == 0 else x for x in xs]
    return concatenate(xs, 0 if ndim(xs[0]) == 1 else 1)


@op
def vstack(xs: Any) -> Tensor:
    """Concatenates along axis 0; vectors are rows."""
    return concatenate([reshape(x, (1, -1)) if ndim(x) < 2 else x for x in xs], 0)


@op
def dstack(xs: Any) -> Tensor:
    """Concatenates along axis 2, which vectors and matrices get."""
    xs = [reshape(x, (1, -1)) if ndim(x) < 2 else x for x in xs]
    return concatenate([expand_dims(x, 2) if ndim(x) == 2 else x for x in xs], 2)


@op
def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Cuts along an axis: in so many equal parts, or before the given indices.

    >>> [part.numpy().tolist() for part in narae.ops.split([1, 2, 3, 4], 2)]
    [[1, 2], [3, 4]]
    """
    x = convert_to_tensor(x)
    (axis,) = _axes("split", axis, x.ndim)
    n = x.shape[axis]
    if isinstance(indices_or_sections, (int, np.integer)):
        if indices_or_sections < 1 or n % indices_or_sections:
            raise ValueError(
                "narae.ops.split: expected a number of parts that divides the axis. "
                f"Received: x.shape={x.shape}, {indices_or_sections} parts, axis={axis}"
            )
        step = n // int(indices_or_sections)
        return _cut(x, axis, [step * i for i in range(1, int(indices_or_sections))])
    return _cut(x, axis, [int(i) for i in _integers(indices_or_sections)])


def _cut(x, axis, places):
    n = x.shape[axis]
    ends = [0, *(_slice(0, i).indices(n)[1] for i in places), n]
    return [_view(x, _along(axis, a, max(a, b))) for a, b in zip(ends, ends[1:])]


@op
def array_split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Cuts along an axis as `split`, in parts that differ by one at most."""
    x = convert_to_tensor(x)
    if not isinstance(indices_or_sections, int):
        return split(x, indices_or_sections, axis)
    (axis,) = _axes("array_split", axis, x.ndim)
    each, extra = divmod(x.shape[axis], indices_or_sections)
    places = [each * i + min(i, extra) for i in range(1, indices_or_sections)]
    return _cut(x, axis, places)


@op
def hsplit(x: Any, indices_or_sections: Any) -> list[Tensor]:
    """Cuts along axis 1, vectors along axis 0."""
    return split(x, indices_or_sections, 0 if ndim(x) == 1 else 1)


@op
def vsplit(x: Any, indices_or_sections: Any) -> list[Tensor]:
    """Cuts along axis 0."""
    return split(x, indices_or_sections, 0)


@op
def dsplit(x: Any, indices_or_sections: Any) -> list[Tensor]:
    """Cuts along axis 2."""
    return split(x, indices_or_sections, 2)


@op
def unstack(x: Any, num: int | None = None, axis: int = 0) -> list[Tensor]:
    """Takes a tensor apart along an axis, which goes."""
    x = convert_to_tensor(x)
    (axis,) = _axes("unstack", axis, x.ndim)
    if num is not None and num != x.shape[axis]:
        raise ValueError(
            "narae.ops.unstack: expected num to be the size of the axis. "
            f"Received: num={num}, x.shape={x.shape}, axis={axis}"
        )
    return [_view(x, (_slice(None),) * axis + (i, Ellipsis)) for i in range(x.shape[axis])]


# ---- repetition, padding ---------------------------------------------------------
@op
def tile(x: Any, repeats: Any) -> Tensor:
    """Repeats the whole `repeats[i]` times along axis i."""
    x = convert_to_tensor(x)
    repeats = [int(r) for r in ([repeats] if isinstance(repeats, int) else _integers(repeats))]
    sizes = [1] * (len(repeats) - x.ndim) + list(x.shape)
    repeats = [1] * (len(sizes) - len(repeats)) + repeats
    pairs = [n for r, s in zip(repeats, sizes) for n in (r, s)]
    y = broadcast_to(reshape(x, [n for s in sizes for n in (1, s)]), pairs)
    return reshape(y, [r * s for r, s in zip(repeats, sizes)])


@op
def repeat(x: Any, repeats: Any, axis: int | None = None) -> Tensor:
    """Repeats each element (each slice along an axis) `repeats` times, or `repeats[i]` times."""
    x = convert_to_tensor(x)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    (axis,) = _axes("repeat", axis, x.ndim)
    counts = _integers(repeats)
    if isinstance(counts, (list, tuple)) and len(counts) == 1:
        counts = counts[0]
    if isinstance(counts, (list, tuple)):
        from narae.ops.index import take

        return take(x, np.repeat(np.arange(x.shape[axis]), counts), axis)
    before, after = x.shape[: axis + 1], x.shape[axis + 1 :]
    y = broadcast_to(reshape(x, (*before, 1, *after)), (*before, int(counts), *after))
    return reshape(y, (*before[:-1], -1 if y.size else before[-1] * int(counts), *after))


@op
def roll(x: Any, shift: Any, axis: Any = None) -> Tensor:
    """Moves elements along axes by `shift`; those that leave come in at the other end."""
    x = convert_to_tensor(x)
    if axis is None:
        return reshape(roll(reshape(x, (-1,)), shift, 0), x.shape)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    shifts = (shift,) * len(axes) if isinstance(shift, int) else tuple(_integers(shift))
    for shift, axis in zip(shifts, axes):
        (axis,) = _axes("roll", axis, x.ndim)
        n = x.shape[axis]
        cut = -shift % n if n else 0
        if cut:
            x = concatenate(_cut(x, axis, [cut])[::-1], axis)
    return x


_PAD_MODES = ("constant", "reflect", "symmetric", "edge", "wrap")


@op
def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Tensor:
    """Adds elements around.

    Args:
        x: any shape.
        pad_width: `((before, after), ...)` for each axis, one pair for all, or one number.
        mode: `"constant"`, `"reflect"` (mirrored without the edge), `"symmetric"` (with it),
            `"edge"` (the edge repeated) or `"wrap"`.
        constant_values: the number to add in mode `"constant"`, 0 by default.
    """
    x = convert_to_tensor(x)
    if mode not in _PAD_MODES:
        raise ValueError(
            f"narae.ops.pad: expected mode to be one of {_PAD_MODES}. Received: {mode!r}"
        )
    widths = np.broadcast_to(np.asarray(_integers(pad_width)), (x.ndim, 2)).tolist()
    if any(w < 0 for pair in widths for w in pair):
        raise ValueError(f"narae.ops.pad: expected widths >= 0. Received: pad_width={pad_width}")
    if mode == "constant":
        return _pad_constant(x, widths, 0 if constant_values is None else constant_values)
    if constant_values is not None:
        raise ValueError(
            "narae.ops.pad: expected constant_values only with mode='constant'. "
            f"Received: mode={mode!r}"
        )
    from narae.ops.index import take

    for axis, (before, after) in enumerate(widths):
        if before or after:
            places = np.pad(np.arange(x.shape[axis]), (before, after), mode)
            x = take(x, places, axis)
    return x


def _pad_constant(x, widths, value):
    inside = tuple(_slice(a, a + n) for n, (a, _) in zip(x.shape, widths))
    shape = tuple(a + n + b for n, (a, b) in zip(x.shape, widths))
    y = full(shape, plain_number(value), x.dtype).array
    _core.copy_into(y[inside], x.array)
    return record(Tensor(y), (x,), lambda dy: (_view(dy, inside),))


# ---- matrices ---------------------------------------------------------
def _masked(x, mask) -> Tensor:
    x = convert_to_tensor(x)
    return where(Tensor(mask), x, Tensor(np.zeros((), x.array.dtype)))


@op
def tril(x: Any, k: int = 0) -> Tensor:
    """Zeros what is above the k-th diagonal of matrices (..., M, N)."""
    x = convert_to_tensor(x)
    return _masked(x, np.tri(*x.shape[-2:], k, dtype=bool))


@op
def triu(x: Any, k: int = 0) -> Tensor:
    """Zeros what is below the k-th diagonal of matrices (..., M, N)."""
    x = convert_to_tensor(x)
    return _masked(x, ~np.tri(*x.shape[-2:], k - 1, dtype=bool))


@op
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """Takes the diagonal of two axes, which becomes the last axis."""
    x = convert_to_tensor(x)
    if x.ndim < 2:
        raise ValueError(
            f"narae.ops.diagonal: expected two or more axes. Received: x.shape={x.shape}"
        )
    y = Tensor(_core.contiguous(x.array.diagonal(offset, axis1, axis2)))

    def backward(dy):
        return (_put_diagonal(dy, x.shape, offset, axis1, axis2),)

    return record(y, (x,), backward)


def _put_diagonal(x, shape, offset, axis1, axis2):
    y = _core.full(shape, 0, x.array.dtype)
    view = np.diagonal(y, offset, axis1, axis2)
    view.flags.writeable = True
    _core.copy_into(view, x.array)
    return record(Tensor(y), (x,), lambda dy: (diagonal(dy, offset, axis1, axis2),))


@op
def diag(x: Any, k: int = 0) -> Tensor:
    """Makes a matrix with `x` on its k-th diagonal, or takes that of a matrix."""
    x = convert_to_tensor(x)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ValueError(
            f"narae.ops.diag: expected a vector or a matrix. Received: x.shape={x.shape}"
        )
    n = x.shape[0] + max(k, -k)
    return _put_diagonal(x, (n, n), k, 0, 1)


@op
def diagflat(x: Any, k: int = 0) -> Tensor:
    """Makes a matrix with the elements of `x` on its k-th diagonal."""
    return diag(ravel(x), k)


@op
def meshgrid(*x: Any, indexing: str = "xy") -> list[Tensor]:
    """Makes coordinate grids of vectors: `"xy"` as in plots, `"ij"` as in matrices."""
    if indexing not in ("xy", "ij"):
        raise ValueError(
            f"narae.ops.meshgrid: expected indexing 'xy' or 'ij'. Received: {indexing!r}"
        )
    xs = [ravel(t) for t in x]
    order = list(range(len(xs)))
    if indexing == "xy" and len(xs) > 1:
        order[:2] = 1, 0
    shape = [0] * len(xs)
    for i, place in enumerate(order):
        shape[place] = xs[i].size
    grids = []
    for i, t in enumerate(xs):
        ones = [1] * len(xs)
        ones[order[i]] = -1
        grids.append(broadcast_to(reshape(t, ones), shape))
    return grids
