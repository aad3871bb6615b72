"""Pooling of any rank, channels last: x (N, *S, C) -> y (N, *O, C)."""

import numpy as np

from .conv import _each, crop, pad, pad_widths, taps


def _windows(x, pool_size, strides, padding, value):
    """The cells under each window, (P, N, *O, C) with its P positions in row-major order."""
    rank = x.ndim - 2
    pool_size = _each(pool_size, rank)
    strides = pool_size if strides is None else _each(strides, rank)
    widths = pad_widths(x.shape[1:-1], pool_size, strides, (1,) * rank, padding)
    padded = pad(x, widths, value)
    views = [view for _, view in taps(padded.shape[1:-1], pool_size, strides, (1,) * rank)]
    return np.stack([padded[view] for view in views]), views, padded.shape, widths


def _scatter(shares, views, shape, widths):
    """The adjoint of _windows: shares (P, N, *O, C) added back to the cells they came from."""
    dx = np.zeros(shape)
    for share, view in zip(shares, views, strict=True):
        dx[view] += share
    return crop(dx, widths)


def max_pool(x, pool_size, strides=None, padding="valid"):
    """y = the largest cell of each window; padding is never the largest."""
    return _windows(x, pool_size, strides, padding, -np.inf)[0].max(0)


def max_pool_backward(dy, x, pool_size, strides=None, padding="valid"):
    """dy goes to the largest cell of its window, the first in row-major order when several are."""
    cells, *origin = _windows(x, pool_size, strides, padding, -np.inf)
    first = cells.argmax(0) == np.arange(len(cells)).reshape(-1, *[1] * x.ndim)
    return _scatter(first * dy, *origin)


def average_pool(x, pool_size, strides=None, padding="valid"):
    """y = the mean of each window's cells, not counting padding."""
    cells = _windows(x, pool_size, strides, padding, 0.0)[0]
    inside = _windows(np.ones_like(x), pool_size, strides, padding, 0.0)[0]
    return cells.sum(0) / inside.sum(0)


def average_pool_backward(dy, x, pool_size, strides=None, padding="valid"):
    """Each cell of a window gets dy / count."""
    inside, *origin = _windows(np.ones_like(x), pool_size, strides, padding, 0.0)
    return _scatter(inside * dy / inside.sum(0), *origin)


def global_max_pool(x, keepdims=False):
    """y (N, C) = the largest over all positions."""
    return x.max(tuple(range(1, x.ndim - 1)), keepdims=keepdims)


def global_max_pool_backward(dy, x, keepdims=False):
    """dy goes to the largest position, the first in row-major order when several are."""
    dy = dy.reshape(x.shape[0], *[1] * (x.ndim - 2), x.shape[-1])
    return max_pool_backward(dy, x, x.shape[1:-1])


def global_average_pool(x, keepdims=False):
    """y (N, C) = the mean over all positions."""
    return x.mean(tuple(range(1, x.ndim - 1)), keepdims=keepdims)


def global_average_pool_backward(dy, x, keepdims=False):
    """dx = dy / count."""
    dy = dy.reshape(x.shape[0], *[1] * (x.ndim - 2), x.shape[-1])
    return average_pool_backward(dy, x, x.shape[1:-1])
