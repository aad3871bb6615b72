"""Element-wise functions of several arguments: each with its derivatives beside it.

A tie of two arguments (maximum, minimum) gives each one half.
"""

import numpy as np

from .unary import _sigmoid


def _tie(a, b):
    return (a == b) / 2


# name: (f, df/da, df/db), of a and b.
BINARY = {
    "add": (np.add, lambda a, b: 1.0, lambda a, b: 1.0),
    "subtract": (np.subtract, lambda a, b: 1.0, lambda a, b: -1.0),
    "multiply": (np.multiply, lambda a, b: b, lambda a, b: a),
    "divide": (np.divide, lambda a, b: 1 / b, lambda a, b: -a / (b * b)),
    "divide_no_nan": (
        lambda a, b: np.where(b == 0, 0, a / np.where(b == 0, 1, b)),
        lambda a, b: np.where(b == 0, 0, 1 / np.where(b == 0, 1, b)),
        lambda a, b: np.where(b == 0, 0, -a / np.where(b == 0, 1, b) ** 2),
    ),
    "floor_divide": (np.floor_divide, lambda a, b: 0.0, lambda a, b: 0.0),
    "mod": (np.mod, lambda a, b: 1.0, lambda a, b: -np.floor_divide(a, b)),
    "power": (
        np.power,
        lambda a, b: np.where(b == 0, 0, b * np.power(a, np.where(b == 0, 1, b - 1))),
        lambda a, b: np.power(a, b) * np.log(np.where(a > 0, a, 1)),
    ),
    "maximum": (
        np.maximum,
        lambda a, b: (a > b) + _tie(a, b),
        lambda a, b: (b > a) + _tie(a, b),
    ),
    "minimum": (
        np.minimum,
        lambda a, b: (a < b) + _tie(a, b),
        lambda a, b: (b < a) + _tie(a, b),
    ),
    "logaddexp": (np.logaddexp, lambda a, b: _sigmoid(a - b), lambda a, b: _sigmoid(b - a)),
    "hypot": (np.hypot, lambda a, b: a / np.hypot(a, b), lambda a, b: b / np.hypot(a, b)),
    "arctan2": (
        np.arctan2,
        lambda a, b: b / (a * a + b * b),
        lambda a, b: -a / (a * a + b * b),
    ),
}


def unbroadcast(dy, shape):
    """The gradient of broadcasting an array of this shape to dy's: sums over the repeated axes."""
    dy = dy.sum(tuple(range(dy.ndim - len(shape))))
    stretched = tuple(i for i, size in enumerate(shape) if size == 1 and dy.shape[i] != 1)
    return dy.sum(stretched, keepdims=True)


def binary(a, b, name):
    """y = f(a, b) with broadcasting, f = BINARY[name]."""
    return BINARY[name][0](a, b)


def binary_backward(dy, a, b, name):
    """da = dy * df/da and db = dy * df/db, summed over the axes that were broadcast."""
    _, f_a, f_b = BINARY[name]
    return unbroadcast(dy * f_a(a, b), a.shape), unbroadcast(dy * f_b(a, b), b.shape)


def where(condition, a, b):
    """y = a where condition holds, else b; all three broadcast."""
    return np.where(condition, a, b)


def where_backward(dy, condition, a, b):
    """dy goes to the one that was taken."""
    return unbroadcast(dy * condition, a.shape), unbroadcast(dy * ~condition, b.shape)


def dropout(x, keep, rate):
    """y = x * keep / (1 - rate), keep a boolean array."""
    return x * keep / (1 - rate)


def dropout_backward(dy, x, keep, rate):
    """dx = dy * keep / (1 - rate)."""
    return dy * keep / (1 - rate)
