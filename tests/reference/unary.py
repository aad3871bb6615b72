"""Functions of one argument and activations: each with its derivative beside it.

At a kink (x = 0 of relu) the derivative is that of the flat or left branch.
"""

import math
from statistics import NormalDist

import numpy as np

_erf = np.vectorize(math.erf, otypes=[float])
_erfc = np.vectorize(math.erfc, otypes=[float])
_normal_quantile = np.vectorize(NormalDist().inv_cdf, otypes=[float])

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def _sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))


def _softplus(x):
    return np.logaddexp(0, x)


def _normal_cdf(x):
    return _erfc(-x / math.sqrt(2)) / 2


def _normal_pdf(x):
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _gelu(x, approximate=False):
    if approximate:
        return x * _sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    return x * _normal_cdf(x)


def _gelu_derivative(x, approximate=False):
    if approximate:  # 0.5 * (1 + tanh(u)) = sigmoid(2 * u)
        s = _sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
        return s + x * s * (1 - s) * 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    return _normal_cdf(x) + x * _normal_pdf(x)


def _mish_derivative(x):
    t = np.tanh(_softplus(x))
    return t + x * (1 - t * t) * _sigmoid(x)


def _relu(x, negative_slope=0.0, max_value=np.inf, threshold=0.0):
    return np.where(x > threshold, np.minimum(x, max_value), negative_slope * (x - threshold))


def _relu_derivative(x, negative_slope=0.0, max_value=np.inf, threshold=0.0):
    return np.where(x > threshold, (x < max_value) * 1.0, negative_slope)


def _erfinv(x):
    y = _normal_quantile((1 + x) / 2) / math.sqrt(2)
    for _ in range(2):  # Newton: (1 + x) / 2 has lost the low digits of a small x
        y = y - (_erf(y) - x) * math.sqrt(math.pi) / 2 * np.exp(y * y)
    return y


# name: (f, f'), both of x and the parameters.
UNARY = {
    # Activations, with Keras's parameters and defaults.
    "linear": (lambda x: x, lambda x: np.ones_like(x)),
    "relu": (_relu, _relu_derivative),
    "relu6": (lambda x: np.clip(x, 0, 6), lambda x: (x > 0) & (x < 6)),
    "leaky_relu": (
        lambda x, negative_slope=0.2: np.where(x > 0, x, negative_slope * x),
        lambda x, negative_slope=0.2: np.where(x > 0, 1, negative_slope),
    ),
    "elu": (
        lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
        lambda x, alpha=1.0: np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0))),
    ),
    "celu": (
        lambda x, alpha=1.0: np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0) / alpha),
        lambda x, alpha=1.0: np.where(x > 0, 1, np.exp(np.minimum(x, 0) / alpha)),
    ),
    "selu": (
        lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))),
        lambda x: SELU_SCALE * np.where(x > 0, 1, SELU_ALPHA * np.exp(np.minimum(x, 0))),
    ),
    "gelu": (_gelu, _gelu_derivative),
    "sigmoid": (_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
    "silu": (lambda x: x * _sigmoid(x), lambda x: _sigmoid(x) * (1 + x * _sigmoid(-x))),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "softplus": (_softplus, _sigmoid),
    "softsign": (lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2),
    "mish": (lambda x: x * np.tanh(_softplus(x)), _mish_derivative),
    "log_sigmoid": (lambda x: -_softplus(-x), lambda x: _sigmoid(-x)),
    "hard_sigmoid": (
        lambda x: np.clip(x / 6 + 0.5, 0, 1),
        lambda x: ((x > -3) & (x < 3)) / 6,
    ),
    "hard_silu": (
        lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
        lambda x: np.where(x >= 3, 1, np.where(x <= -3, 0, x / 3 + 0.5)),
    ),
    "hard_tanh": (lambda x: np.clip(x, -1, 1), lambda x: (x > -1) & (x < 1)),
    "hard_shrink": (
        lambda x, threshold=0.5: np.where(np.abs(x) > threshold, x, 0),
        lambda x, threshold=0.5: np.abs(x) > threshold,
    ),
    "soft_shrink": (
        lambda x, threshold=0.5: np.sign(x) * np.maximum(np.abs(x) - threshold, 0),
        lambda x, threshold=0.5: np.abs(x) > threshold,
    ),
    "tanh_shrink": (lambda x: x - np.tanh(x), lambda x: np.tanh(x) ** 2),
    "threshold": (
        lambda x, threshold, default_value: np.where(x > threshold, x, default_value),
        lambda x, threshold, default_value: x > threshold,
    ),
    "squareplus": (
        lambda x, b=4: (x + np.sqrt(x * x + b)) / 2,
        lambda x, b=4: (1 + x / np.sqrt(x * x + b)) / 2,
    ),
    "sparse_plus": (
        lambda x: np.where(x >= 1, x, np.where(x > -1, (x + 1) ** 2 / 4, 0)),
        lambda x: np.clip((x + 1) / 2, 0, 1),
    ),
    "sparse_sigmoid": (
        lambda x: np.clip((x + 1) / 2, 0, 1),
        lambda x: ((x > -1) & (x < 1)) / 2,
    ),
    # Mathematics.
    "abs": (np.abs, np.sign),
    "negative": (np.negative, lambda x: -np.ones_like(x)),
    "sign": (np.sign, np.zeros_like),
    "floor": (np.floor, np.zeros_like),
    "ceil": (np.ceil, np.zeros_like),
    "round": (np.round, np.zeros_like),  # halves go to the even neighbour
    "square": (np.square, lambda x: 2 * x),
    "sqrt": (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    "rsqrt": (lambda x: 1 / np.sqrt(x), lambda x: -0.5 / (x * np.sqrt(x))),
    "cbrt": (np.cbrt, lambda x: 1 / (3 * np.cbrt(x) ** 2)),
    "reciprocal": (np.reciprocal, lambda x: -1 / (x * x)),
    "exp": (np.exp, np.exp),
    "exp2": (np.exp2, lambda x: math.log(2) * np.exp2(x)),
    "expm1": (np.expm1, np.exp),
    "log": (np.log, np.reciprocal),
    "log1p": (np.log1p, lambda x: 1 / (1 + x)),
    "log2": (np.log2, lambda x: 1 / (x * math.log(2))),
    "log10": (np.log10, lambda x: 1 / (x * math.log(10))),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda x: -np.sin(x)),
    "tan": (np.tan, lambda x: 1 / np.cos(x) ** 2),
    "sinh": (np.sinh, np.cosh),
    "cosh": (np.cosh, np.sinh),
    "arcsin": (np.arcsin, lambda x: 1 / np.sqrt(1 - x * x)),
    "arccos": (np.arccos, lambda x: -1 / np.sqrt(1 - x * x)),
    "arctan": (np.arctan, lambda x: 1 / (1 + x * x)),
    "arcsinh": (np.arcsinh, lambda x: 1 / np.sqrt(1 + x * x)),
    "arccosh": (np.arccosh, lambda x: 1 / np.sqrt(x * x - 1)),
    "arctanh": (np.arctanh, lambda x: 1 / (1 - x * x)),
    "erf": (_erf, lambda x: 2 / math.sqrt(math.pi) * np.exp(-x * x)),
    "erfc": (_erfc, lambda x: -2 / math.sqrt(math.pi) * np.exp(-x * x)),
    "erfinv": (_erfinv, lambda x: math.sqrt(math.pi) / 2 * np.exp(_erfinv(x) ** 2)),
    "clip": (
        lambda x, x_min, x_max: np.clip(x, x_min, x_max),
        lambda x, x_min, x_max: (x >= x_min) & (x <= x_max),
    ),
}


def unary(x, name, **params):
    """y = f(x), f = UNARY[name]."""
    return UNARY[name][0](x, **params) * 1.0


def unary_backward(dy, x, name, **params):
    """dx = dy * f'(x)."""
    return dy * UNARY[name][1](x, **params)


def glu(x, axis=-1):
    """y = a * sigmoid(b), a and b the halves of x along the axis."""
    a, b = np.split(x, 2, axis)
    return a * _sigmoid(b)


def glu_backward(dy, x, axis=-1):
    """da = dy * sigmoid(b), db = dy * a * sigmoid'(b), side by side."""
    a, b = np.split(x, 2, axis)
    return np.concatenate([dy * _sigmoid(b), dy * a * _sigmoid(b) * _sigmoid(-b)], axis)
