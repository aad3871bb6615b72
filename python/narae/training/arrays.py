"""Users' data, in any form, as checked trees of plain arrays.

Every array that leaves this module is C-contiguous, aligned and in native byte order; its dtype is
float (`floatx`), int32, int64, uint8 or bool. The caller's arrays are never written to.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from narae.engine import config, dtypes, tree
from narae.engine.tensor import Tensor

Batch = tuple[Any, Any, Any]
_AS_THEY_ARE = ("bool", *dtypes.INTS)


# --- trees: nested dicts, lists and tuples of arrays ---------------------------------------------


def map_named(function: Callable[[Any, str], Any], data: Any, name: str) -> Any:
    """Applies `function(leaf, name)` to every leaf but None; a list of numbers is one leaf."""
    if data is None:
        return None
    if isinstance(data, dict):
        return {k: map_named(function, v, f"{name}[{k!r}]") for k, v in data.items()}
    if isinstance(data, (list, tuple)) and not _is_list_of_numbers(data):
        items = [map_named(function, v, f"{name}[{i}]") for i, v in enumerate(data)]
        return type(data)(*items) if hasattr(data, "_fields") else type(data)(items)
    return function(data, name)


def map_arrays(function: Callable[[np.ndarray], Any], arrays: Any) -> Any:
    return tree.map_structure(lambda a: None if a is None else function(a), arrays)


def named_leaves(data: Any, name: str) -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    map_named(lambda leaf, leaf_name: leaves.append((leaf_name, leaf)), data, name)
    return leaves


def _is_list_of_numbers(value: list | tuple) -> bool:
    """Whether nested lists spell out one array, rather than holding several arrays."""
    while isinstance(value, (list, tuple)):
        if not value:
            return True
        value = value[0]
    return isinstance(value, (bool, int, float, complex, str, bytes, np.generic))


# --- one array -----------------------------------------------------------------------------------


def _float_dtype() -> np.dtype:
    return np.dtype("float64" if config.floatx() == "float64" else "float32")


def _kernel_dtype(dtype: np.dtype, name: str) -> np.dtype:
    """The dtype, native and one that kernels take, in which values of `dtype` are held."""
    held = dtypes.storage_dtype(dtype)
    if held in _AS_THEY_ARE:
        return np.dtype(held)
    if dtype.kind == "f" or dtype.name == "bfloat16":
        return _float_dtype()
    if dtype.kind in "USO" or dtype.name == "StringDType()":
        what = "Python objects (mixed or missing values)" if dtype.kind == "O" else "strings"
        hint = (
            "turn class names into integers first, for example with "
            "`classes, y = numpy.unique(labels, return_inverse=True)`"
            if name.startswith("y")
            else "encode text or categories as numbers first; pad ragged rows with "
            "narae.utils.pad_sequences"
        )
        raise ValueError(
            f"narae.Model: expected {name} to hold numbers. Received: {what} "
            f"(dtype={dtype}); {hint}."
        )
    raise ValueError(
        f"narae.Model: expected {name} to hold real numbers, integers or booleans. "
        f"Received: dtype={dtype}."
    )


def _from_pandas(value: Any, name: str) -> np.ndarray:
    """A DataFrame as (rows, columns); a Series as (rows, 1), as Keras does."""
    import pandas

    if isinstance(value, pandas.Series):
        value = value.to_frame()
    if not isinstance(value, pandas.DataFrame):  # an Index or an extension array
        return value.to_numpy()
    held = [getattr(d, "numpy_dtype", d) for d in value.dtypes]  # nullable Int64 -> int64
    wrong = [
        f"{column!r} ({original})"
        for column, original, dtype in zip(value.columns, value.dtypes, held)
        if getattr(dtype, "kind", "O") not in "fiub"
    ]
    if wrong:
        raise ValueError(
            f"narae.Model: expected every column of {name} to be numeric. Received: "
            f"{', '.join(wrong)}; encode them first, for example with pandas.get_dummies."
        )
    if value.isna().to_numpy().any() or any(dtype.kind == "f" for dtype in held):
        return value.to_numpy(dtype="float64", na_value=np.nan)
    return value.to_numpy(dtype=np.result_type(*held) if held else None)


def to_array(value: Any, name: str = "x", dtype: np.dtype | None = None) -> np.ndarray:
    """Turns one array-like into the array that kernels read.

    Args:
        value: NumPy array, narae Tensor, pandas object, nested list of numbers, or anything with
            `__array__` or DLPack; shape (samples, ...).
        name: what error messages call it.
        dtype: the wanted dtype; by default `floatx` for floats, int32 or int64 for integers,
            uint8 and bool as they are.

    Returns:
        A C-contiguous array; `value` itself where it fits already.

    Raises:
        ValueError: strings, objects, complex numbers, ragged lists, or no first axis.
    """
    if isinstance(value, Tensor):
        value = value.array
    if type(value) is np.ndarray:
        pass
    elif type(value).__module__.split(".")[0] == "pandas":
        value = _from_pandas(value, name)
    elif not isinstance(value, np.ndarray):
        if type(value).__module__.startswith("scipy.sparse"):
            raise ValueError(
                f"narae.Model: expected {name} to be dense. Received: a sparse matrix of shape "
                f"{value.shape}; call .toarray() on it, in batches if it is large."
            )
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            value = np.from_dlpack(value)
        try:
            value = np.asarray(value)
        except ValueError as error:
            raise ValueError(
                f"narae.Model: expected {name} to be rectangular. Received: {type(value).__name__} "
                f"with rows of different lengths; pad them with narae.utils.pad_sequences."
            ) from error
    elif isinstance(value, np.ma.MaskedArray) and value.mask.any():
        raise ValueError(
            f"narae.Model: expected {name} without masked entries. Received: {value.mask.sum()} "
            "masked entries; fill them (`.filled(...)`) or pass a sample_weight."
        )
    kernel_dtype = _kernel_dtype(value.dtype, name)
    if value.ndim == 0:
        raise ValueError(
            f"narae.Model: expected {name} to have a first axis of samples. "
            f"Received: the single value {value!r}."
        )
    if value.dtype == np.uint64 and value.max(initial=0) > np.iinfo("int64").max:
        raise ValueError(f"narae.Model: expected {name} to fit int64. Received: {value.max()}.")
    dtype = dtype or kernel_dtype
    if value.dtype == dtype and value.flags.c_contiguous and value.flags.aligned:
        return value.view(np.ndarray)
    return np.array(value, dtype=dtype, order="C", copy=True, subok=False)


# --- checks --------------------------------------------------------------------------------------


def _check_labels(y: Any) -> None:
    for name, labels in named_leaves(y, "y"):
        with np.errstate(invalid="ignore"):  # inf - inf
            if labels.dtype.kind != "f" or not math.isnan(labels.sum()):  # a sum costs no memory
                continue
        bad = np.isnan(labels).reshape(len(labels), -1).any(axis=1)
        if bad.any():
            raise ValueError(
                f"narae.Model: expected labels without NaN. Received: {name} with NaN in "
                f"{bad.sum()} of {len(bad)} rows, the first at row {bad.argmax()}."
            )


def _check_counts(x: Any, y: Any = None, sample_weight: Any = None) -> int:
    """The number of samples that all arrays share."""
    arrays = [array for array in tree.flatten((x, y, sample_weight)) if array is not None]
    if not arrays:
        raise ValueError("narae.Model: expected data. Received: x=None.")
    count = len(arrays[0])
    if count > 0 and all(len(array) == count for array in arrays):
        return count
    parts = (x, "x"), (y, "y"), (sample_weight, "sample_weight")
    named = [leaf for part, name in parts for leaf in named_leaves(part, name)]
    if any(len(array) != count for array in arrays):
        listed = ", ".join(f"{name}: {len(array)}" for name, array in named)
        raise ValueError(
            "narae.Model: expected all arrays to hold the same number of samples. "
            f"Received: {listed}."
        )
    shapes = ", ".join(f"{name}.shape={array.shape}" for name, array in named)
    raise ValueError(f"narae.Model: expected at least one sample. Received: {shapes}.")


def _check_sample_weight(y: Any, sample_weight: Any) -> Any:
    """`sample_weight` in the structure of `y`; one array serves all outputs."""
    several = isinstance(y, (dict, list, tuple))
    if y is None:
        raise ValueError("narae.Model: expected y when sample_weight is given. Received: y=None.")
    if several and isinstance(sample_weight, np.ndarray):
        if sample_weight.ndim > 1 and sample_weight.shape[1:] != (1,):
            raise ValueError(
                "narae.Model: expected a sample_weight of shape (samples,) for all outputs, or one "
                f"array per output. Received: sample_weight.shape={sample_weight.shape}."
            )
        return map_arrays(lambda _: sample_weight, y)
    labels = dict(named_leaves(y, "sample_weight"))
    for name, weight in named_leaves(sample_weight, "sample_weight"):
        if name not in labels:
            raise ValueError(
                "narae.Model: expected sample_weight to have the structure of y. "
                f"Received: {name} without a matching y; y has {sorted(labels)}."
            )
        shape, label_shape = weight.shape, labels[name].shape
        per_sample = shape[1:] in ((), (1,))
        if not per_sample and shape != label_shape[: len(shape)]:
            raise ValueError(
                f"narae.Model: expected {name} of shape (samples,), or the leading axes of its "
                f"labels. Received: {name}.shape={shape}, labels of shape {label_shape}."
            )
    if isinstance(y, dict):
        return {key: sample_weight.get(key) for key in y}
    return sample_weight


def class_weight_to_sample_weight(y: Any, class_weight: dict[int, float]) -> np.ndarray:
    """Gives every sample the weight of its class, `w[n] = class_weight[class of y[n]]`.

    Args:
        y: integer labels (N,) or (N, 1), or one-hot rows (N, classes).
        class_weight: from class index to weight; every class that occurs must be named.

    Returns:
        Float array (N,).

    Raises:
        ValueError: several outputs, labels of more than two axes, a class without a weight.
    """
    if not isinstance(class_weight, dict):
        raise ValueError(
            "narae.Model: expected class_weight to be a dict from class index to weight. "
            f"Received: class_weight={class_weight!r}."
        )
    if not isinstance(y, np.ndarray):
        raise ValueError(
            "narae.Model: expected one array y with class_weight; a model with several outputs "
            f"takes sample_weight. Received: y of type {type(y).__name__}."
        )
    if y.ndim > 2:
        raise ValueError(
            "narae.Model: expected labels of shape (samples,), (samples, 1) or (samples, classes) "
            f"with class_weight. Received: y.shape={y.shape}."
        )
    one_hot = y.ndim == 2 and y.shape[1] > 1
    classes = y.argmax(axis=1) if one_hot else y.reshape(-1)
    found, positions = np.unique(classes, return_inverse=True)
    missing = [f"{c:g}" for c in found.tolist() if c not in class_weight]  # 1.0 and True find 1
    if missing:
        raise ValueError(
            "narae.Model: expected class_weight to name every class. Received: no weight for "
            f"class {', '.join(missing)}; class_weight={class_weight}."
        )
    table = np.array([class_weight[c] for c in found.tolist()], dtype=_float_dtype())
    return table[positions.reshape(-1)]


def prepare_batch(
    x: Any, y: Any = None, sample_weight: Any = None, class_weight: dict[int, float] | None = None
) -> Batch:
    """Checks the given data and turns it into `(x, y, sample_weight)` trees of plain arrays.

    Args:
        x: inputs, a tree of array-likes with samples along the first axis.
        y: labels, a tree of array-likes.
        sample_weight: weights, one array of shape (samples,) or a tree in the structure of `y`.
        class_weight: weights of the classes, in place of `sample_weight`.

    Returns:
        `(x, y, sample_weight)`; what was not given is None.

    Raises:
        ValueError: data that cannot be trained on, with the name of the array at fault.
    """
    arrays = map_named(to_array, x, "x")
    labels = arrays if y is x else map_named(to_array, y, "y")  # an auto-encoder's, converted once
    _check_labels(labels)
    if class_weight is not None:
        if sample_weight is not None:
            raise ValueError(
                "narae.Model: expected class_weight or sample_weight. Received: both; multiply "
                "them into one sample_weight."
            )
        if labels is not None:
            sample_weight = class_weight_to_sample_weight(labels, class_weight)
    dtype = _float_dtype()
    weights = map_named(lambda w, n: to_array(w, n, dtype), sample_weight, "sample_weight")
    _check_counts(arrays, labels, weights)
    if weights is not None:
        weights = _check_sample_weight(labels, weights)
    return arrays, labels, weights


def is_array_data(x: Any) -> bool:
    """Returns whether `x` is an array-like or a tree of them, rather than a maker of batches."""
    if x is None or isinstance(x, (dict, list, tuple, np.ndarray, np.generic, Tensor, int, float)):
        return True
    return hasattr(x, "__array__") or (hasattr(x, "shape") and hasattr(x, "dtype"))


# --- splits and batches --------------------------------------------------------------------------


def train_validation_split(arrays: Batch, validation_split: float) -> tuple[Batch, Batch]:
    """Splits arrays by rows: the last ones, before any shuffling, are for validation.

    Args:
        arrays: `(x, y, sample_weight)`, trees of array-likes (N, ...); None stays None.
        validation_split: share of the rows for validation, in (0, 1). The first
            `floor(N * (1 - validation_split))` rows are for training.

    Returns:
        `((x, y, sample_weight) for training, the same for validation)`, views where possible.

    Raises:
        ValueError: a split outside (0, 1), one that leaves a side empty, or data without rows.
    """
    if not isinstance(validation_split, (int, float)) or not 0 < validation_split < 1:
        raise ValueError(
            "narae.Model: expected validation_split to be in (0, 1). "
            f"Received: validation_split={validation_split!r}."
        )
    named = list(zip(("x", "y", "sample_weight"), arrays))
    for name, value in named:
        if not is_array_data(value):
            raise ValueError(
                "narae.Model: expected arrays with validation_split; batches cannot be split by "
                f"rows, pass validation_data. Received: {name} of type {type(value).__name__}."
            )
    arrays = tuple(map_named(to_array, value, name) for name, value in named)
    count = _check_counts(*arrays)
    split = math.floor(count * (1.0 - validation_split))
    if split == 0 or split == count:
        raise ValueError(
            f"narae.Model: expected validation_split to leave rows on both sides. Received: "
            f"validation_split={validation_split} of {count} rows."
        )
    return map_arrays(lambda a: a[:split], arrays), map_arrays(lambda a: a[split:], arrays)


def unpack_x_y_sample_weight(data: Any) -> Batch:
    """Splits a batch, `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)`, into its three parts.

    Args:
        data: the batch; anything but a tuple or list is `x` alone.

    Returns:
        `(x, y, sample_weight)`, None for what is missing.

    Raises:
        ValueError: a tuple of no or more than three parts.

    Example:

    >>> narae.utils.unpack_x_y_sample_weight((1, 2))
    (1, 2, None)
    """
    if not isinstance(data, (list, tuple)) or hasattr(data, "_fields"):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise ValueError(
            "narae.Model: expected a batch to be x, (x, y) or (x, y, sample_weight). "
            f"Received: a {type(data).__name__} of {len(data)} parts."
        )
    return (*data, None, None)[:3]


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """Joins the parts of a batch, the inverse of `unpack_x_y_sample_weight`.

    Args:
        x: inputs.
        y: labels or None.
        sample_weight: weights or None.

    Returns:
        `x` (or `(x,)` if it is itself a tuple or list), `(x, y)` or `(x, y, sample_weight)`.
    """
    if y is None:
        return (x,) if isinstance(x, (list, tuple)) else x
    return (x, y) if sample_weight is None else (x, y, sample_weight)
