"""Small helpers on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from narae.engine import config


def to_categorical(x: Any, num_classes: int | None = None) -> np.ndarray:
    """Turns class numbers into rows with a one at the class and zeros elsewhere.

    Args:
        x: integers in [0, num_classes), any shape; a last axis of length 1 is dropped.
        num_classes: length of the rows; the largest number plus one by default.

    Returns:
        Array of `floatx`, of the shape of `x` with an axis of length `num_classes` at the end.

    Raises:
        ValueError: no integers, or one outside the range.

    Example:

    >>> narae.utils.to_categorical([0, 2])
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    given = np.asarray(x)
    labels = given.astype("int64") if given.dtype.kind in "iubf" else None
    if labels is None or (labels != given).any():
        raise ValueError(
            f"narae.utils.to_categorical: expected integers. Received: x of dtype {given.dtype}."
        )
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if num_classes is None:
        num_classes = int(labels.max(initial=-1)) + 1
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"narae.utils.to_categorical: expected integers in [0, {num_classes}). "
            f"Received: values from {labels.min()} to {labels.max()}."
        )
    rows = np.zeros((labels.size, num_classes), dtype=config.floatx())
    rows[np.arange(labels.size), labels.reshape(-1)] = 1
    return rows.reshape(*labels.shape, num_classes)


def normalize(x: Any, axis: int = -1, order: int = 2) -> np.ndarray:
    """Divides by the norm along an axis: `y = x / |x|`; zeros stay zeros.

    Args:
        x: array-like.
        axis: the axis along which the norm is taken.
        order: order of the norm, 2 for the Euclidean one.

    Returns:
        Array of the shape of `x`.

    Example:

    >>> narae.utils.normalize([[3.0, 4.0]])
    array([[0.6, 0.8]])
    """
    x = np.asarray(x)
    norms = np.linalg.norm(x, order, axis, keepdims=True)
    return x / np.where(norms == 0, 1, norms)


def pad_sequences(
    sequences: Any,
    maxlen: int | None = None,
    dtype: str = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: float | str = 0.0,
) -> np.ndarray:
    """Makes sequences equally long: short ones are filled up, long ones are cut.

    Args:
        sequences: N sequences of arrays-likes, of one shape behind their first axis.
        maxlen: the common length; the longest sequence's by default.
        dtype: dtype of the result; `object` for strings.
        padding: `"pre"` fills at the start, `"post"` at the end.
        truncating: `"pre"` cuts at the start, `"post"` at the end.
        value: what is filled in.

    Returns:
        Array (N, maxlen, ...).

    Raises:
        ValueError: what is not a sequence, shapes that differ, or an unknown option.

    Example:

    >>> narae.utils.pad_sequences([[1], [2, 3]])
    array([[0, 1],
           [2, 3]], dtype=int32)
    """
    for name, option in (("padding", padding), ("truncating", truncating)):
        if option not in ("pre", "post"):
            raise ValueError(
                f"narae.utils.pad_sequences: expected {name} to be 'pre' or 'post'. "
                f"Received: {name}={option!r}."
            )
    if not hasattr(sequences, "__len__"):
        raise ValueError(
            "narae.utils.pad_sequences: expected a list of sequences. "
            f"Received: {type(sequences).__name__}."
        )
    for i, sequence in enumerate(sequences):
        if not hasattr(sequence, "__len__"):
            raise ValueError(
                "narae.utils.pad_sequences: expected sequences. "
                f"Received: sequences[{i}]={sequence!r}."
            )
    if isinstance(value, str) and np.dtype(dtype).kind not in "OUS":
        raise ValueError(
            "narae.utils.pad_sequences: expected dtype=object for strings. "
            f"Received: dtype={dtype!r}, value={value!r}."
        )
    if maxlen is None:
        maxlen = max(map(len, sequences), default=0)
    inner = next((np.shape(s)[1:] for s in sequences if len(s)), ())
    padded = np.full((len(sequences), maxlen, *inner), value, dtype=dtype)
    for i, sequence in enumerate(sequences):
        if not len(sequence) or not maxlen:
            continue
        row = np.asarray(sequence, dtype=dtype)
        if row.shape[1:] != inner:
            raise ValueError(
                f"narae.utils.pad_sequences: expected entries of shape {inner} in every sequence. "
                f"Received: entries of shape {row.shape[1:]} in sequences[{i}]."
            )
        row = row[-maxlen:] if truncating == "pre" else row[:maxlen]
        padded[i, slice(-len(row), None) if padding == "pre" else slice(len(row))] = row
    return padded
