"""Reductions and scans. axis: an int, several, or None for all of them."""

import numpy as np


def _back(y, x, axis, keepdims):
    """y with the reduced axes put back as ones, so that it broadcasts against x."""
    if keepdims:
        return y
    return np.reshape(y, (1,) * x.ndim) if axis is None else np.expand_dims(y, axis)


def _count(x, axis):
    return x.size if axis is None else np.prod([x.shape[a] for a in np.atleast_1d(axis)], dtype=int)


def sum(x, axis=None, keepdims=False):
    """y = sum of x."""
    return np.sum(x, axis, keepdims=keepdims)


def sum_backward(dy, x, axis=None, keepdims=False):
    """dx = dy, repeated."""
    return _back(dy, x, axis, keepdims) * np.ones_like(x)


def mean(x, axis=None, keepdims=False):
    """y = sum(x) / n."""
    return np.mean(x, axis, keepdims=keepdims)


def mean_backward(dy, x, axis=None, keepdims=False):
    """dx = dy / n."""
    return sum_backward(dy, x, axis, keepdims) / _count(x, axis)


def prod(x, axis=None, keepdims=False):
    """y = product of x."""
    return np.prod(x, axis, keepdims=keepdims)


def prod_backward(dy, x, axis=None, keepdims=False):
    """dx_i = dy * product of the others, exact where some are zero."""
    axes = range(x.ndim) if axis is None else [a % x.ndim for a in np.atleast_1d(axis)]
    order = [a for a in range(x.ndim) if a not in axes] + list(axes)
    moved = x.transpose(order)
    rows = moved.reshape(*moved.shape[: x.ndim - len(axes)], -1)
    others = np.ones_like(rows)
    for i in range(rows.shape[-1]):
        others[..., i] = np.prod(np.delete(rows, i, -1), -1)
    others = others.reshape(moved.shape).transpose(np.argsort(order))
    return _back(dy, x, axis, keepdims) * others


def max(x, axis=None, keepdims=False):
    """y = largest of x."""
    return np.max(x, axis, keepdims=keepdims)


def max_backward(dy, x, axis=None, keepdims=False):
    """dy goes to the largest, in equal shares when several are."""
    hit = x == np.max(x, axis, keepdims=True)
    return _back(dy, x, axis, keepdims) * hit / hit.sum(axis, keepdims=True)


def min(x, axis=None, keepdims=False):
    """y = smallest of x."""
    return np.min(x, axis, keepdims=keepdims)


def min_backward(dy, x, axis=None, keepdims=False):
    """dy goes to the smallest, in equal shares when several are."""
    return max_backward(dy, -x, axis, keepdims)


def var(x, axis=None, keepdims=False):
    """y = mean((x - mean(x))^2), in two passes."""
    return np.mean((x - np.mean(x, axis, keepdims=True)) ** 2, axis, keepdims=keepdims)


def var_backward(dy, x, axis=None, keepdims=False):
    """dx = dy * 2 * (x - mean) / n."""
    centred = x - np.mean(x, axis, keepdims=True)
    return _back(dy, x, axis, keepdims) * 2 * centred / _count(x, axis)


def std(x, axis=None, keepdims=False):
    """y = sqrt(var(x))."""
    return np.sqrt(var(x, axis, keepdims))


def std_backward(dy, x, axis=None, keepdims=False):
    """dx = dy * (x - mean) / (n * y)."""
    return var_backward(dy / (2 * std(x, axis, keepdims)), x, axis, keepdims)


def moments(x, axis=None, keepdims=False):
    """mean(x), var(x)."""
    return mean(x, axis, keepdims), var(x, axis, keepdims)


def moments_backward(dy, x, axis=None, keepdims=False):
    """The sum of both gradients, dy = (dmean, dvar)."""
    return mean_backward(dy[0], x, axis, keepdims) + var_backward(dy[1], x, axis, keepdims)


def logsumexp(x, axis=None, keepdims=False):
    """y = m + log(sum(exp(x - m))), m = max(x) where it is finite, else zero."""
    m = np.max(x, axis, keepdims=True)
    m = np.where(np.isfinite(m), m, 0)
    with np.errstate(divide="ignore"):  # log(0) = -inf is the answer when all x are -inf
        y = m + np.log(np.exp(x - m).sum(axis, keepdims=True))
    return y if keepdims else np.squeeze(y, axis)


def logsumexp_backward(dy, x, axis=None, keepdims=False):
    """dx = dy * exp(x - y)."""
    return _back(dy, x, axis, keepdims) * np.exp(x - logsumexp(x, axis, True))


def norm(x, ord=2, axis=None, keepdims=False):
    """The vector norm: y = sum(|x|^ord)^(1 / ord); inf is the largest |x|, -inf the smallest."""
    if np.isinf(ord):
        return (np.max if ord > 0 else np.min)(np.abs(x), axis, keepdims=keepdims)
    return np.sum(np.abs(x) ** ord, axis, keepdims=keepdims) ** (1 / ord)


def norm_backward(dy, x, ord=2, axis=None, keepdims=False):
    """dx = dy * sign(x) * (|x| / y)^(ord - 1), zero where y is."""
    if np.isinf(ord):
        return np.sign(x) * max_backward(dy, np.sign(ord) * np.abs(x), axis, keepdims)
    y = norm(x, ord, axis, True)
    ratio = np.abs(x) / np.where(y == 0, 1, y)
    return _back(dy, x, axis, keepdims) * np.sign(x) * ratio ** (ord - 1)


def cumsum(x, axis=None):
    """y_i = x_0 + ... + x_i; over the flattened x when axis is None."""
    return np.cumsum(x, axis)


def cumsum_backward(dy, x, axis=None):
    """dx_i = dy_i + ... + dy_last."""
    dx = np.flip(np.cumsum(np.flip(dy, axis), axis), axis)
    return dx.reshape(x.shape)


def cumprod(x, axis=None):
    """y_i = x_0 * ... * x_i; over the flattened x when axis is None."""
    return np.cumprod(x, axis)


def cumprod_backward(dy, x, axis=None):
    """dx_i = sum over j >= i of dy_j * product of x_k, k <= j, k != i; exact at zeros."""
    rows = x.reshape(-1) if axis is None else np.moveaxis(x, axis, -1)
    dy = dy if axis is None else np.moveaxis(dy, axis, -1)
    dx = np.zeros_like(rows)
    for i in range(rows.shape[-1]):
        others = rows.copy()
        others[..., i] = 1
        dx[..., i] = (dy * np.cumprod(others, -1))[..., i:].sum(-1)
    return dx.reshape(x.shape) if axis is None else np.moveaxis(dx, -1, axis)


def argmax(x, axis=None, keepdims=False):
    """The index of the largest, the first of several."""
    return np.argmax(x, axis, keepdims=keepdims)


def argmin(x, axis=None, keepdims=False):
    """The index of the smallest, the first of several."""
    return np.argmin(x, axis, keepdims=keepdims)
