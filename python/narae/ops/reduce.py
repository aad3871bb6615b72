"""Reductions and scans: sums, means, extrema, moments, norms, cumulative sums."""

from narae import _core, ops
from narae.engine import Tensor, config, convert_to_tensor, op, record
from narae.engine.dtypes import is_float
from narae.ops.elementwise import in_float32

__all__ = [
    "all",
    "any",
    "argmax",
    "argmin",
    "average",
    "count_nonzero",
    "cumprod",
    "cumsum",
    "logsumexp",
    "max",
    "mean",
    "min",
    "moments",
    "norm",
    "prod",
    "std",
    "sum",
    "var",
]

_Axis = int | tuple[int, ...] | list[int] | None


def canonical_axes(who: str, axis, ndim: int) -> tuple[int, ...]:
    """Returns the axes as sorted non-negative ints; None stands for all.

    Raises:
        ValueError: an axis out of range, or given twice.
    """
    if axis is None:
        return tuple(range(ndim))
    given = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    axes = sorted(int(a) + ndim if a < 0 else int(a) for a in given)
    if len(set(axes)) < len(axes) or (axes and not (axes[0] >= 0 and axes[-1] < ndim)):
        raise ValueError(
            f"narae.ops.{who}: expected different axes between {-ndim} and {ndim - 1}. "
            f"Received: axis={axis} for {ndim} dimensions"
        )
    return tuple(axes)


def _runs(axes: tuple[int, ...]) -> list[tuple[int, int]]:
    """Returns the runs of neighbours among sorted axes as pairs (begin, end)."""
    runs = []
    for a in axes:
        if runs and runs[-1][1] == a:
            runs[-1] = (runs[-1][0], a + 1)
        else:
            runs.append((a, a + 1))
    return runs or [(0, 0)]


def _kept_shape(shape, axes, keepdims):
    if keepdims:
        return tuple(1 if a in axes else n for a, n in enumerate(shape))
    return tuple(n for a, n in enumerate(shape) if a not in axes)


def _in_steps(who, x, axis, keepdims, one_run):
    """Folds one run of neighbouring axes after the other: for folds that may be split so."""
    axes = canonical_axes(who, axis, x.ndim)
    for run in reversed(_runs(axes)):
        x = one_run(x, run, keepdims)
    return x


def _at_once(who, x, axis, keepdims, one_run):
    """Folds all axes in one go; axes that are no neighbours are moved to the end first."""
    axes = canonical_axes(who, axis, x.ndim)
    runs = _runs(axes)
    if len(runs) == 1:
        return one_run(x, runs[0], keepdims)
    kept = [a for a in range(x.ndim) if a not in axes]
    y = one_run(ops.transpose(x, (*kept, *axes)), (len(kept), x.ndim), False)
    return ops.reshape(y, _kept_shape(x.shape, axes, True)) if keepdims else y


def _number(x, to_float: bool = False) -> Tensor:
    """Returns x with bool and uint8 widened to int32, or all but floats to floatx."""
    x = convert_to_tensor(x)
    if to_float:
        return x if is_float(x.dtype) else ops.cast(x, config.floatx())
    return ops.cast(x, "int32") if x.dtype in ("bool", "uint8") else x


def _truth(x) -> Tensor:
    x = convert_to_tensor(x)
    return x if x.dtype == "bool" else ops.not_equal(x, 0)


# ---- sums and products -------------------------------------------------------------------------


def _expand(dy, shape, axes, mean=False):
    """The gradient of a sum (dy repeated) or of a mean (and divided by the count)."""
    count = 1
    for n in shape[axes[0] : axes[1]]:
        count *= n
    dx = Tensor(_core.reduce_expand(dy.array, shape, axes, float(count) if mean else 1.0))
    fold = _mean if mean else _sum
    return record(dx, (dy,), lambda ddx: (fold(ddx, axes, dy.ndim == len(shape)),))


def _sum(x, axes, keepdims):
    y = Tensor(_core.reduce_sum(x.array, axes, keepdims))
    return record(y, (x,), lambda dy: (_expand(dy, x.shape, axes),))


def _record_mean(y, x, axes):
    return record(Tensor(y), (x,), lambda dy: (_expand(dy, x.shape, axes, mean=True),))


def _mean(x, axes, keepdims):
    return _record_mean(_core.reduce_mean(x.array, axes, keepdims), x, axes)


@op
def sum(x, axis: _Axis = None, keepdims: bool = False) -> Tensor:
    """Sum of the elements along the axes, added pairwise: the error grows with log(n).

    Args:
        x: tensor. bool and uint8 are summed as int32.
        axis: an axis, several, or None for all.
        keepdims: whether the axes stay, with size 1.

    Returns:
        A tensor without the axes.

    Raises:
        ValueError: an axis that x does not have.

    >>> narae.ops.sum([[1.0, 2.0], [3.0, 4.0]], axis=0).numpy()
    array([4., 6.], dtype=float32)
    """
    return _in_steps("sum", _number(x), axis, keepdims, _sum)


@op
def mean(x, axis: _Axis = None, keepdims: bool = False) -> Tensor:
    """Mean of the elements along the axes: sum(x) / n. Integers give floatx.

    >>> float(narae.ops.mean([1, 2, 3, 6]))
    3.0
    """
    return _in_steps("mean", _number(x, to_float=True), axis, keepdims, _mean)


def _prod(x, axes, keepdims):
    y = Tensor(_core.reduce_prod(x.array, axes, keepdims))
    return record(
        y, (x,), lambda dy: (Tensor(_core.reduce_prod_backward(dy.array, x.array, axes)),)
    )


@op
def prod(x, axis: _Axis = None, keepdims: bool = False, dtype=None) -> Tensor:
    """Product of the elements along the axes, in `dtype`. Its gradient is exact at zeros."""
    x = convert_to_tensor(x) if dtype is None else convert_to_tensor(x, dtype)
    return _in_steps("prod", _number(x), axis, keepdims, _prod)


@op
def count_nonzero(x, axis: _Axis = None) -> Tensor:
    """Number of elements that are not zero, int32."""
    return sum(_truth(x), axis)


@op
def average(x, axis: _Axis = None, weights=None) -> Tensor:
    """Weighted mean: sum(w * x) / sum(w).

    Args:
        x: tensor.
        axis: an axis, several, or None for all.
        weights: of x's shape, or one value for each index of a single axis; None: all equal.

    Raises:
        ValueError: weights of another shape.
    """
    x = _number(x, to_float=True)
    if weights is None:
        return mean(x, axis)
    weights = convert_to_tensor(weights)
    if weights.shape != x.shape:
        axes = canonical_axes("average", axis, x.ndim)
        if axis is None or len(axes) != 1 or weights.shape != (x.shape[axes[0]],):
            raise ValueError(
                "narae.ops.average: expected weights of x's shape, or of the length of the axis. "
                f"Received: weights.shape={weights.shape}, x.shape={x.shape}, axis={axis}"
            )
        shape = [1] * x.ndim
        shape[axes[0]] = x.shape[axes[0]]
        weights = ops.broadcast_to(ops.reshape(weights, tuple(shape)), x.shape)
    return ops.divide(sum(ops.multiply(x, weights), axis), sum(weights, axis))


# ---- extrema -----------------------------------------------------------------------------------


def _extremum(kernel):
    def one_run(x, axes, keepdims):
        y = Tensor(kernel(x.array, axes, keepdims))
        return record(
            y,
            (x,),
            lambda dy: (Tensor(_core.reduce_extremum_backward(dy.array, y.array, x.array, axes)),),
        )

    return one_run


_max, _min = _extremum(_core.reduce_max), _extremum(_core.reduce_min)


def _with_initial(who, x, axis, keepdims, initial, one_run, combine):
    x = convert_to_tensor(x)
    if initial is None:
        return _at_once(who, x, axis, keepdims, one_run)
    axes = canonical_axes(who, axis, x.ndim)
    if x.size == 0:
        return ops.full(_kept_shape(x.shape, axes, keepdims), initial, x.dtype)
    return combine(_at_once(who, x, axis, keepdims, one_run), initial)


@op
def max(x, axis: _Axis = None, keepdims: bool = False, initial=None) -> Tensor:
    """Largest element along the axes; NaN if there is one.

    The gradient goes in equal shares to all elements that are the largest.

    Args:
        x: tensor.
        axis: an axis, several, or None for all.
        keepdims: whether the axes stay, with size 1.
        initial: the least that is returned.

    Raises:
        ValueError: nothing to reduce and no `initial`.
    """
    return _with_initial("max", x, axis, keepdims, initial, _max, ops.maximum)


@op
def min(x, axis: _Axis = None, keepdims: bool = False, initial=None) -> Tensor:
    """Smallest element along the axes; NaN if there is one. See `max`."""
    return _with_initial("min", x, axis, keepdims, initial, _min, ops.minimum)


def _arg(who, kernel, x, axis, keepdims):
    x = convert_to_tensor(x)
    if axis is None:
        axes = (0, x.ndim)
    else:
        (a,) = canonical_axes(who, (axis,), x.ndim)
        axes = (a, a + 1)
    x = ops.cast(x, "uint8") if x.dtype == "bool" else x
    return Tensor(kernel(x.array, axes, keepdims))


@op
def argmax(x, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the first largest element along the axis, int32; of the first NaN if there is one.

    Args:
        x: tensor.
        axis: the axis; None: over the flattened tensor.
        keepdims: whether the axis stays, with size 1.

    >>> narae.ops.argmax([[1, 5, 2], [7, 0, 7]], axis=-1).numpy()
    array([1, 0], dtype=int32)
    """
    return _arg("argmax", _core.reduce_argmax, x, axis, keepdims)


@op
def argmin(x, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the first smallest element along the axis, int32. See `argmax`."""
    return _arg("argmin", _core.reduce_argmin, x, axis, keepdims)


@op
def any(x, axis: _Axis = None, keepdims: bool = False) -> Tensor:
    """Whether some element along the axes is true (not zero). False for none."""
    x = _truth(x)
    if x.size == 0:
        axes = canonical_axes("any", axis, x.ndim)
        return ops.full(_kept_shape(x.shape, axes, keepdims), False, "bool")
    return _in_steps("any", x, axis, keepdims, _max)


@op
def all(x, axis: _Axis = None, keepdims: bool = False) -> Tensor:
    """Whether every element along the axes is true (not zero). True for none."""
    x = _truth(x)
    if x.size == 0:
        axes = canonical_axes("all", axis, x.ndim)
        return ops.full(_kept_shape(x.shape, axes, keepdims), True, "bool")
    return _in_steps("all", x, axis, keepdims, _min)


# ---- moments -----------------------------------------------------------------------------------


def _var(x, axes, keepdims):
    y, centre = _core.reduce_variance(x.array, axes, keepdims)
    y, centre = Tensor(y), _record_mean(centre, x, axes)

    def backward(dy):
        dy = ops.reshape(dy, centre.shape)
        return (ops.multiply(_expand(dy, x.shape, axes, mean=True), 2 * (x - centre)),)

    return record(y, (x,), backward)


@op
@in_float32
def var(x, axis: _Axis = None, keepdims: bool = False) -> Tensor:
    """Variance along the axes: mean((x - mean(x))^2), in two passes."""
    return _at_once("var", _number(x, to_float=True), axis, keepdims, _var)


@op
@in_float32
def std(x, axis: _Axis = None, keepdims: bool = False) -> Tensor:
    """Standard deviation along the axes: sqrt(var(x))."""
    return ops.sqrt(var(x, axis, keepdims))


@op
@in_float32
def moments(
    x, axes: _Axis, keepdims: bool = False, synchronized: bool = False
) -> tuple[Tensor, Tensor]:
    """Mean and variance along the axes.

    Args:
        x: tensor.
        axes: an axis, several, or None for all.
        keepdims: whether the axes stay, with size 1.
        synchronized: only False: moments over several machines are not computed.
    """
    if synchronized:
        raise NotImplementedError(
            "narae.ops.moments: expected synchronized=False. Received: synchronized=True"
        )
    return mean(x, axes, keepdims), var(x, axes, keepdims)


def _logsumexp(x, axes, keepdims):
    y = Tensor(_core.reduce_logsumexp(x.array, axes, keepdims))

    def backward(dy):
        shape = _kept_shape(x.shape, range(*axes), True)
        p = ops.exp(ops.subtract(x, ops.reshape(y, shape)))
        return (ops.multiply(ops.reshape(dy, shape), p),)

    return record(y, (x,), backward)


@op
def logsumexp(x, axis: _Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) along the axes, without overflow: m + log(sum(exp(x - m))), m = max(x)."""
    return _at_once("logsumexp", _number(x, to_float=True), axis, keepdims, _logsumexp)


# ---- norms -------------------------------------------------------------------------------------


def _vector_norm(x, order, axes, keepdims):
    if order == float("inf"):
        return max(ops.abs(x), axes, keepdims)
    if order == float("-inf"):
        return min(ops.abs(x), axes, keepdims)
    if order == 0:
        return ops.cast(sum(_truth(x), axes, keepdims), x.dtype)
    if order == 1:
        return sum(ops.abs(x), axes, keepdims)
    if order == 2:
        return ops.sqrt(sum(ops.square(x), axes, keepdims))
    return ops.power(sum(ops.power(ops.abs(x), order), axes, keepdims), 1.0 / order)


@op
def norm(x, ord=None, axis: _Axis = None, keepdims: bool = False) -> Tensor:
    """Vector norm sum(|x|^ord)^(1 / ord), or a norm of matrices.

    Args:
        x: tensor.
        ord: for vectors any number (2 by default; inf: the largest |x|, -inf: the smallest, 0: the
            count of non-zeros); for matrices `"fro"` (the default), 1, -1, inf or -inf (largest or
            smallest sum of a column or row).
        axis: an axis for vectors, two axes for matrices. None: all of x as a vector without `ord`,
            else x must have one or two dimensions.
        keepdims: whether the axes stay, with size 1.

    Raises:
        ValueError: an `ord` that is not supported.
    """
    x = _number(x, to_float=True)
    axes = canonical_axes("norm", axis, x.ndim)
    inf = float("inf")
    if axis is None and ord is None:
        return _vector_norm(x, 2, axes, keepdims)
    if len(axes) == 1 and ord != "fro":
        return _vector_norm(x, 2 if ord is None else ord, axes, keepdims)
    if len(axes) == 2 and ord in (None, "fro"):
        return _vector_norm(x, 2, axes, keepdims)
    if len(axes) == 2 and ord in (1, -1, inf, -inf):
        rows, columns = (
            canonical_axes("norm", axis, x.ndim)
            if axis is None
            else (int(a) % x.ndim for a in axis)
        )
        summed, other = (rows, columns) if ord in (1, -1) else (columns, rows)
        sums = sum(ops.abs(x), summed, keepdims=True)
        y = (max if ord > 0 else min)(sums, other, keepdims=True)
        return y if keepdims else ops.squeeze(y, axes)
    raise ValueError(
        "narae.ops.norm: expected a number as ord for one axis, or None, 'fro', 1, -1, inf, -inf "
        f"for two. Received: ord={ord!r}, axis={axis}, x.shape={x.shape}"
    )


# ---- scans -------------------------------------------------------------------------------------


def _scanned(who, x, axis, dtype):
    x = _number(x)
    x = ops.cast(x, dtype) if dtype is not None and dtype != x.dtype else x
    if axis is None:
        return ops.reshape(x, (x.size,)), 0
    (axis,) = canonical_axes(who, (axis,), x.ndim)
    return x, axis


def _cumsum(x, axis, reverse):
    y = Tensor(_core.reduce_cumsum(x.array, axis, reverse))
    return record(y, (x,), lambda dy: (_cumsum(dy, axis, not reverse),))


@op
def cumsum(x, axis: int | None = None, dtype: str | None = None) -> Tensor:
    """Running sums along the axis: y_i = x_0 + ... + x_i.

    Args:
        x: tensor. bool and uint8 are summed as int32.
        axis: the axis; None: over the flattened tensor.
        dtype: of the result and of the sums; x's by default.
    """
    return _cumsum(*_scanned("cumsum", x, axis, dtype), False)


@op
def cumprod(x, axis: int | None = None, dtype: str | None = None) -> Tensor:
    """Running products along the axis: y_i = x_0 * ... * x_i. See `cumsum`."""
    x, axis = _scanned("cumprod", x, axis, dtype)
    y = Tensor(_core.reduce_cumprod(x.array, axis))
    return record(
        y, (x,), lambda dy: (Tensor(_core.reduce_cumprod_backward(dy.array, x.array, axis)),)
    )
