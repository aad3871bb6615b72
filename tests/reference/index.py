"""Reading and writing by index, and by order. Indices are integers in range."""

import numpy as np

from .shape import rearrange_backward


def take(x, indices, axis=0):
    """y = the slices of x at the indices; axis 0 of a table is the embedding lookup."""
    return np.take(x, indices, axis)


def take_backward(dy, x, indices, axis=0):
    """dx[indices] += dy: repeated indices add up."""
    return rearrange_backward(dy, x, lambda x: np.take(x, indices, axis))


def take_along_axis(x, indices, axis=-1):
    """y[i, j] = x[i, indices[i, j]] for axis 1 of two."""
    return np.take_along_axis(x, indices, axis)


def take_along_axis_backward(dy, x, indices, axis=-1):
    """dx[i, indices[i, j]] += dy[i, j]."""
    return rearrange_backward(dy, x, lambda x: np.take_along_axis(x, indices, axis))


def _at(indices):
    return tuple(np.moveaxis(indices, -1, 0))  # (..., K): a place in the first K axes


def gather(x, indices):
    """y[...] = x[indices[..., 0], indices[..., 1], ...]: indices (..., K)."""
    return x[_at(indices)]


def gather_backward(dy, x, indices):
    """dx[indices] += dy."""
    return rearrange_backward(dy, x, lambda x: x[_at(indices)])


def scatter(indices, values, shape):
    """y[indices] += values, from zeros: indices (..., K), values (..., *shape[K:])."""
    y = np.zeros(shape)
    np.add.at(y, _at(indices), values)
    return y


def scatter_backward(dy, indices, values, shape):
    """dvalues = dy[indices]."""
    return dy[_at(indices)]


def scatter_update(x, indices, values):
    """y = x, then y[indices] = values; the indices differ from each other."""
    y = x.copy()
    y[_at(indices)] = values
    return y


def scatter_update_backward(dy, x, indices, values):
    """dx = dy with zeros at the indices, dvalues = dy[indices]."""
    return scatter_update(dy, indices, 0.0), dy[_at(indices)]


def slice_update(x, values, start):
    """y = x, then y[start : start + values.shape] = values."""
    y = x.copy()
    y[tuple(slice(a, a + size) for a, size in zip(start, values.shape, strict=True))] = values
    return y


def slice_update_backward(dy, x, values, start):
    """dx = dy with zeros in the slice, dvalues = the slice of dy."""
    place = tuple(slice(a, a + size) for a, size in zip(start, values.shape, strict=True))
    return slice_update(dy, np.zeros_like(values), start), dy[place]


def segment_sum(x, segments, count):
    """y[s] = sum of x[n] over the n with segments[n] = s: x (N, ...), y (count, ...)."""
    return scatter(segments[:, None], x, (count, *x.shape[1:]))


def segment_sum_backward(dy, x, segments, count):
    """dx[n] = dy[segments[n]]."""
    return dy[segments]


def one_hot(indices, classes):
    """y[..., c] = 1 where indices[...] = c, else 0; an index outside gives zeros."""
    return (np.expand_dims(indices, -1) == np.arange(classes)).astype(np.float64)


def multi_hot(indices, classes):
    """y[..., c] = 1 where any of indices[..., :] is c, else 0."""
    return one_hot(indices, classes).max(-2)


def top_k(x, k):
    """(values, indices) of the k largest along the last axis, descending; of equals the first."""
    indices = np.argsort(-x, -1, kind="stable")[..., :k]
    return np.take_along_axis(x, indices, -1), indices


def top_k_backward(dy, x, k):
    """dvalues goes where the values came from; dy = (dvalues, unused)."""
    return take_along_axis_backward(dy[0], x, top_k(x, k)[1])


def sort(x, axis=-1):
    """y = x in ascending order along the axis."""
    return np.sort(x, axis)


def sort_backward(dy, x, axis=-1):
    """dy goes where the values came from."""
    return take_along_axis_backward(dy, x, np.argsort(x, axis, kind="stable"), axis)
