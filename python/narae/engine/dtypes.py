"""Dtypes: the names narae knows, and which dtype the result of an operation has.

bfloat16 is ml_dtypes', as in JAX and TensorFlow. The package is imported when the dtype is first
named; `np.dtype("bfloat16")` is known from then on.
"""

import numpy as np

from narae.engine import config

FLOATS = ("bfloat16", "float32", "float64")
INTS = ("uint8", "int32", "int64")
ALL = ("bool", *INTS, *FLOATS)

_NAMES = {np.dtype(name): name for name in ALL if name != "bfloat16"}
# What NumPy has and narae does not is widened on the way in.
_WIDENED = {
    np.dtype("int8"): "int32",
    np.dtype("int16"): "int32",
    np.dtype("uint16"): "int32",
    np.dtype("uint32"): "int64",
    np.dtype("uint64"): "int64",
    np.dtype("float16"): "float32",
}
_ORDER = {name: rank for rank, name in enumerate(ALL)}


def _know_bfloat16() -> None:
    """Adds bfloat16 to what `np.dtype` and narae know."""
    import ml_dtypes

    _NAMES.setdefault(np.dtype(ml_dtypes.bfloat16), "bfloat16")


def name_of(dtype: np.dtype) -> str:
    """Returns narae's name of a NumPy dtype that a Tensor may have."""
    return _NAMES[dtype]


def standardize_dtype(dtype) -> str:
    """Returns the name of a dtype given as a string, a NumPy dtype, a type or None (floatx).

    Raises:
        ValueError: a dtype that narae has no kernels for.
    """
    if dtype is None:
        return config.floatx()
    if isinstance(dtype, str) and dtype in _ORDER:
        if dtype == "bfloat16":
            _know_bfloat16()
        return dtype
    if dtype is float:
        return config.floatx()
    if dtype is int:
        return "int32"
    try:
        known = np.dtype(dtype).newbyteorder("=")
        name = None if known in _WIDENED else storage_dtype(known)
    except TypeError:
        name = None
    if name is None:
        raise ValueError(f"narae: expected a dtype out of {', '.join(ALL)}. Received: {dtype!r}")
    return name


def storage_dtype(dtype: np.dtype) -> str | None:
    """Returns the dtype that holds arrays of `dtype` in narae, or None when none does."""
    native = dtype.newbyteorder("=")
    storage = _NAMES.get(native) or _WIDENED.get(native)
    if storage is None and native.name == "bfloat16":
        return standardize_dtype("bfloat16")
    return storage


def finfo(dtype: str):
    """Returns what `np.finfo` tells of a float dtype: `max`, `min`, `eps` ..."""
    if dtype == "bfloat16":
        import ml_dtypes

        return ml_dtypes.finfo(dtype)
    return np.finfo(dtype)


def is_float(dtype: str) -> bool:
    """Returns whether a dtype is of floating-point numbers."""
    return dtype in FLOATS


def result_type(*dtypes) -> str:
    """Returns the dtype of an operation on operands of the given dtypes.

    Float wins over int, wide over narrow; `int` and `float` (the Python types) are weak: they take
    the dtype of the others, and only lift bool to int32 and int to floatx.

    >>> result_type("int64", "float32"), result_type("uint8", int), result_type("int32", float)
    ('float32', 'uint8', 'float32')
    """
    strong = [d for d in dtypes if d is not int and d is not float and d is not bool]
    best = max(strong, key=_ORDER.__getitem__) if strong else "bool"
    if float in dtypes and best not in FLOATS:
        return config.floatx()
    if int in dtypes and best == "bool":
        return "int32"
    return best
