"""Moving elements. What NumPy does in one line needs no reference but its gradient."""

import numpy as np


def rearrange(x, f):
    """y = f(x), for any f that moves, repeats or drops elements, or fills in zeros.

    transpose, reshape, flip, roll, tile, repeat, broadcast, pad in every mode, slices, tril, ...
    """
    return f(x)


def rearrange_backward(dy, x, f):
    """dx_i = sum of dy over the places that x_i went to: f moves the elements' numbers 1, 2, ..."""
    numbers = f(np.arange(1.0, x.size + 1).reshape(x.shape)).astype(int)
    return np.bincount(numbers.ravel(), dy.ravel(), x.size + 1)[1:].reshape(x.shape)


def concatenate(*xs, axis=0):
    """y = the xs one after another."""
    return np.concatenate(xs, axis)


def concatenate_backward(dy, *xs, axis=0):
    """Each x gets its own run of dy."""
    return tuple(np.split(dy, np.cumsum([x.shape[axis] for x in xs])[:-1], axis))


def stack(*xs, axis=0):
    """y = the xs side by side along a new axis."""
    return np.stack(xs, axis)


def stack_backward(dy, *xs, axis=0):
    """Each x gets its own slice of dy."""
    return tuple(np.take(dy, i, axis) for i in range(len(xs)))


def split(x, sections, axis=0):
    """The parts of x: so many equal ones, or cut before the given indices."""
    return tuple(np.split(x, sections, axis))


def split_backward(dy, x, sections, axis=0):
    """dx = the dys one after another."""
    return np.concatenate(dy, axis)
