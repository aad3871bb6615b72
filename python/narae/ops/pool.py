"""Pooling over one to three spatial axes."""

from typing import Any

from narae import _core
from narae.engine import Tensor, convert_to_tensor, op, record
from narae.ops.conv import (
    Sizes,
    channels_last,
    output_sizes,
    pad_widths,
    sizes,
    spatial,
    to_first,
    to_last,
)
from narae.ops.elementwise import cast

__all__ = ["average_pool", "max_pool"]


def _pool(who, kernel, inputs, pool_size, strides, padding, data_format):
    """Calls kernel(x, out_size, window, strides, before) on channels-last inputs."""
    (x,) = spatial(who, inputs)
    last = channels_last(who, data_format)
    given, x = x, x if last else to_last(x)
    rank = x.ndim - 2
    window = sizes(who, "pool_size", pool_size, rank)
    strides = window if strides is None else sizes(who, "strides", strides, rank)
    if not isinstance(padding, str) or padding.lower() not in ("valid", "same"):
        raise ValueError(
            f'narae.ops.{who}: expected padding to be "valid" or "same". '
            f"Received: padding={padding!r}"
        )
    size = x.shape[1:-1]
    widths = pad_widths(who, padding, size, window, strides)
    description = f"pool_size={window}, padding={padding!r}"
    outs = output_sizes(who, given, description, size, window, strides, widths)
    y = kernel(x, tuple(outs), window, strides, tuple(pair[0] for pair in widths))
    y = y if last else to_first(y)
    dtype = convert_to_tensor(inputs).dtype
    return y if dtype in ("float32", "float64") or who == "average_pool" else cast(y, dtype)


def _max(x, out_size, window, strides, before):
    y = Tensor(_core.max_pool_forward(x.array, out_size, window, strides, before))

    def backward(dy):
        where = (window, strides, before)
        return Tensor(_core.max_pool_backward(dy.array, x.array, y.array, *where))

    return record(y, (x,), lambda dy: (backward(dy),))


def _average(x, out_size, window, strides, before):
    y = Tensor(_core.average_pool_forward(x.array, out_size, window, strides, before))
    size = x.shape[1:-1]
    return record(y, (x,), lambda dy: (_spread(dy, size, window, strides, before),))


def _spread(dy, size, window, strides, before):
    """The adjoint of _average; linear, so it is its gradient's gradient too."""
    dx = Tensor(_core.average_pool_backward(dy.array, size, window, strides, before))
    outs = dy.shape[1:-1]
    return record(dx, (dy,), lambda ddx: (_average(ddx, outs, window, strides, before),))


@op
def max_pool(
    inputs: Any,
    pool_size: Sizes,
    strides: Sizes | None = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> Tensor:
    """Takes the largest value of each window, channel by channel.

    The gradient goes to the first largest cell of each window.

    Args:
        inputs: (N, *S, C) with one to three spatial axes, or (N, C, *S) with channels_first.
        pool_size: size of the window, an int or one for each axis.
        strides: step between windows; None is pool_size.
        padding: `"valid"` or `"same"` (ceil(size / stride) windows; padding is never the largest).
        data_format: `"channels_last"` or `"channels_first"`; None is the configured one.

    Returns:
        (N, *O, C), or (N, C, *O).

    >>> narae.ops.max_pool(narae.ops.ones((1, 6, 6, 3)), 2).shape
    (1, 3, 3, 3)
    """
    return _pool("max_pool", _max, inputs, pool_size, strides, padding, data_format)


@op
def average_pool(
    inputs: Any,
    pool_size: Sizes,
    strides: Sizes | None = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> Tensor:
    """Takes the mean of each window, channel by channel; padding is not counted.

    Args:
        inputs, pool_size, strides, padding, data_format: as in `max_pool`.

    Returns:
        (N, *O, C), or (N, C, *O).
    """
    return _pool("average_pool", _average, inputs, pool_size, strides, padding, data_format)
