"""NumPy references in float64: the mathematics of every op family, backward beside forward.

One rule holds for all of them. `f(*args, **params)` returns y; `f_backward(dy, *args, **params)`
takes the same arguments after dy and returns the gradient of sum(y * dy) with respect to each
float array among them, in order: an array when there is one, else a tuple, with None for an
argument that was None. When f returns a tuple, so is dy. Float arguments of any precision are
converted to float64 here, once for all files; integers and booleans pass as they are.

Finite differences check every backward, loops and identities check the forwards: test_reference.py.
"""

import functools
import inspect

import numpy as np

from . import (
    attention,
    conv,
    elementwise,
    gemm,
    index,
    norm,
    optimizer,
    pool,
    random,
    recurrent,
    reduce,
    shape,
    softmax,
    unary,
)

FAMILIES = (attention, conv, elementwise, gemm, index, norm, optimizer, pool, random, recurrent)
FAMILIES += (reduce, shape, softmax, unary)


def _double(x):
    if isinstance(x, (tuple, list)):
        return type(x)(_double(item) for item in x)
    if not isinstance(x, (np.ndarray, np.generic)):
        return x
    return x.astype(np.float64) if x.dtype.kind == "f" or x.dtype.name == "bfloat16" else x


def _in_float64(f):
    @functools.wraps(f)
    def wrapped(*args, **params):
        return f(*_double(args), **{name: _double(value) for name, value in params.items()})

    return wrapped


for _family in FAMILIES:
    for _name, _f in list(vars(_family).items()):
        if inspect.isfunction(_f) and _f.__module__ == _family.__name__ and _name[0] != "_":
            setattr(_family, _name, _in_float64(_f))
