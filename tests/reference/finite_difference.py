"""Central differences in float64, the ground that every backward stands on."""

import sys

import numpy as np


def gradient(f, x, dy, step=1e-5):
    """d sum(f(x) * dy) / dx, one element of x at a time; f may return a tuple when dy is one.

    The error is step^2 / 6 * f''' from truncation and eps * |f| / step from rounding,
    both near 1e-11 for values near one.
    """

    def total(x):
        y = f(x)
        pairs = zip(y, dy, strict=True) if isinstance(dy, tuple) else [(y, dy)]
        return sum(np.sum(y_i * dy_i) for y_i, dy_i in pairs)

    x = np.array(x, np.float64)
    dx = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        x_i = x[i]
        x[i] = x_i + step
        above = total(x)
        x[i] = x_i - step
        below = total(x)
        x[i] = x_i
        dx[i] = (above - below) / (2 * step)
    return dx


def check(f, /, *args, tolerance=1e-7, **params):
    """Asserts that f_backward agrees with central differences in every float array of args."""
    rng = np.random.default_rng(0)
    y = f(*args, **params)
    dy = tuple(rng.normal(size=np.shape(y_i)) for y_i in (y if isinstance(y, tuple) else (y,)))
    dy = dy if isinstance(y, tuple) else dy[0]
    grads = getattr(sys.modules[f.__module__], f.__name__ + "_backward")(dy, *args, **params)
    grads = grads if isinstance(grads, tuple) else (grads,)
    wanted = [i for i, a in enumerate(args) if a is None or getattr(a, "dtype", "") == "float64"]
    assert len(grads) == len(wanted), f"{f.__name__}_backward: {len(grads)} for {len(wanted)} args"
    for dx, i in zip(grads, wanted, strict=True):
        if args[i] is None:
            assert dx is None, f"{f.__name__}_backward: a gradient for argument {i}, which is None"
            continue
        expected = gradient(lambda x, i=i: f(*args[:i], x, *args[i + 1 :], **params), args[i], dy)
        assert dx.shape == expected.shape, f"argument {i}: {dx.shape} for {expected.shape}"
        error = np.abs(dx - expected).max(initial=0) / np.abs(expected).max(initial=1)
        assert error <= tolerance, f"{f.__name__}_backward, argument {i}: error {error:.2g}"
