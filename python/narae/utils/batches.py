"""Data sets made from arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from narae.engine import random as engine_random
from narae.training.arrays import is_array_data, map_named, named_leaves
from narae.training.data import PyDataset


def _check_count(name: str, value: Any, low: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise ValueError(
            f"narae.utils.timeseries_dataset_from_array: expected {name} to be an integer of at "
            f"least {low}. Received: {name}={value!r}."
        )


class TimeSeries(PyDataset):
    """Batches of windows of a series; see `timeseries_dataset_from_array`."""

    def __init__(self, data: np.ndarray, targets: Any, starts: np.ndarray, offsets, batch_size):
        super().__init__()
        self._data, self._targets = data, targets
        self._starts, self._offsets = starts, offsets
        self._batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self._starts) // (self._batch_size or 1))

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        if self._batch_size is None:
            starts = self._starts[index]
        else:
            starts = self._starts[index * self._batch_size : (index + 1) * self._batch_size]
        windows = self._data[np.add.outer(starts, self._offsets)]
        return windows if self._targets is None else (windows, self._targets[starts])


def timeseries_dataset_from_array(
    data: Any,
    targets: Any,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
    format: str | None = "tf",
) -> TimeSeries:
    """Cuts a series into windows, `x[i, t] = data[s_i + t * sampling_rate]`, `y[i] = targets[s_i]`.

    The windows start at `s_i = i * sequence_stride` (before shuffling).

    Args:
        data: series, shape (time, ...).
        targets: what belongs to the window that starts at each time, shape (time, ...), or None.
        sequence_length: steps in a window.
        sequence_stride: time between the starts of two windows.
        sampling_rate: time between two steps of a window.
        batch_size: windows per batch; None gives single windows.
        shuffle: mix the windows, once.
        seed: fixes the mix.
        start_index, end_index: use only `data[start_index:end_index]`, and the targets likewise.
        format: accepted as in Keras; the result is always a `PyDataset`.

    Returns:
        A `PyDataset` for `fit`, of batches `x` or `(x, y)`; `x` is (batch, sequence_length, ...).

    Raises:
        ValueError: numbers that leave no window, or indices outside the data.

    Example:

    >>> dataset = narae.utils.timeseries_dataset_from_array(np.arange(6), np.arange(6) + 3, 3)
    >>> x, y = dataset[0]
    >>> x[1], int(y[1])
    (array([1, 2, 3]), 4)
    """
    data = np.asarray(data)
    _check_count("sequence_length", sequence_length)
    _check_count("sequence_stride", sequence_stride)
    _check_count("sampling_rate", sampling_rate)
    if batch_size is not None:
        _check_count("batch_size", batch_size)
    start, end = start_index or 0, len(data) if end_index is None else end_index
    if not 0 <= start < end <= len(data):
        raise ValueError(
            "narae.utils.timeseries_dataset_from_array: expected 0 <= start_index < end_index <= "
            f"len(data) ({len(data)}). Received: start_index={start_index}, end_index={end_index}."
        )
    data = data[start:end]
    count = len(data) - (sequence_length - 1) * sampling_rate
    if targets is not None:
        targets = np.asarray(targets)[start:end]
        count = min(count, len(targets))
    if count < 1:
        raise ValueError(
            "narae.utils.timeseries_dataset_from_array: expected at least one window. Received: "
            f"{len(data)} steps of time, sequence_length={sequence_length}, "
            f"sampling_rate={sampling_rate}"
            + ("." if targets is None else f", {len(targets)} targets.")
        )
    starts = np.arange(0, count, sequence_stride)
    if shuffle:
        _generator(seed).shuffle(starts)
    offsets = np.arange(sequence_length) * sampling_rate
    return TimeSeries(data, targets, starts, offsets, batch_size)


def _generator(seed: int | None) -> np.random.Generator:
    seed = engine_random.draw_seed() if seed is None else seed
    return np.random.Generator(np.random.Philox(seed))


class Subset(PyDataset):
    """Some of the batches of a `PyDataset`."""

    def __init__(self, dataset: PyDataset, indices: np.ndarray):
        super().__init__(dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size)
        self._dataset, self._indices = dataset, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Any:
        return self._dataset[int(self._indices[index])]


def split_dataset(
    dataset: Any,
    left_size: float | int | None = None,
    right_size: float | int | None = None,
    shuffle: bool = False,
    seed: int | None = None,
    preferred_backend: str | None = None,
) -> tuple[Any, Any]:
    """Splits data in two.

    Args:
        dataset: array-likes of one length (an array, or a tuple, list or dict of them), which are
            split by rows, or a `PyDataset`, which is split by batches.
        left_size: share (below 1) or number of what goes left; by default what is not right.
        right_size: the same for the right.
        shuffle: mix before splitting.
        seed: fixes the mix.
        preferred_backend: accepted as in Keras; there is one kind of result.

    Returns:
        `(left, right)`, each of the structure of `dataset`.

    Raises:
        ValueError: no sizes, sizes that do not fit, or lengths that differ.

    Example:

    >>> (x, y), (x_test, y_test) = narae.utils.split_dataset((np.zeros((10, 3)), range(10)), 0.8)
    >>> len(x), len(y_test)
    (8, 2)
    """
    if isinstance(dataset, PyDataset):
        total = dataset.num_batches
    else:
        dataset = map_named(lambda leaf, _: np.asarray(leaf), dataset, "dataset")
        lengths = {name: len(leaf) for name, leaf in named_leaves(dataset, "dataset")}
        if not is_array_data(dataset) or len(set(lengths.values())) != 1:
            raise ValueError(
                "narae.utils.split_dataset: expected arrays of one length, or a PyDataset. "
                f"Received: {lengths}."
            )
        total = next(iter(lengths.values()))
    left, right = _sizes(total, left_size, right_size)
    order = _generator(seed).permutation(total) if shuffle else np.arange(total)
    parts = order[:left], order[left : left + right]
    if isinstance(dataset, PyDataset):
        return Subset(dataset, parts[0]), Subset(dataset, parts[1])
    return tuple(map_named(lambda a, _, rows=rows: a[rows], dataset, "") for rows in parts)


def _sizes(total: int | None, left: Any, right: Any) -> tuple[int, int]:
    def wrong(expected: str) -> ValueError:
        return ValueError(
            f"narae.utils.split_dataset: expected {expected}. Received: left_size={left}, "
            f"right_size={right} of {total} rows."
        )

    if not total:
        raise wrong("data of a known length")
    if left is None and right is None:
        raise wrong("left_size or right_size")
    counts = []
    for size in (left, right):
        whole = isinstance(size, (int, np.integer)) and not isinstance(size, bool)
        share = isinstance(size, float) and 0 <= size <= 1
        if size is not None and not share and not (whole and 0 <= size <= total):
            raise wrong("sizes that are shares in [0, 1] or numbers of rows")
        counts.append(round(size * total) if share else size)
    a, b = counts
    a = total - b if a is None else a
    b = total - a if b is None else b
    if a + b > total:
        raise wrong("sizes that fit the data together")
    if not a or not b:
        raise wrong("rows on both sides")
    return a, b
