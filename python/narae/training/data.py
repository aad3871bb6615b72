"""Datasets: from what users hand to `fit`, `evaluate` and `predict` to batches.

A dataset is one of three classes with the same few members:

    num_batches, num_samples   ints, or None when they cannot be known
    epoch(seed)                iterates `(x, y, sample_weight)` trees of arrays, one per batch
    reset()                    makes the next epoch start over, where it would go on instead
    on_epoch_end()             tells a `PyDataset` that the epoch is over

`ArrayDataset` (everything in memory) also has `epoch_indices(seed)` and `fill(indices, out)`, with
which a recorded training step gathers a batch straight into its own input arrays.
"""

from __future__ import annotations

import collections
import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from narae import _core
from narae.engine import random as engine_random
from narae.engine import tree
from narae.training.arrays import (
    Batch,
    is_array_data,
    map_arrays,
    prepare_batch,
    unpack_x_y_sample_weight,
)


def gather_rows(
    source: np.ndarray, indices: np.ndarray, out: np.ndarray | None = None
) -> np.ndarray:
    """Copies rows, `out[i] = source[indices[i]]`, on all threads.

    Args:
        source: contiguous array (N, ...) of any dtype.
        indices: integers (B,) in [0, N).
        out: where to write, (B, ...) of the same dtype; a new array by default.

    Returns:
        The array (B, ...).

    Raises:
        IndexError: a row number out of range.
    """
    if out is None:
        out = np.empty((len(indices), *source.shape[1:]), source.dtype)
    _core.gather_rows(source, np.ascontiguousarray(indices, np.int64), out)
    return out


def _check_positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(
            f"narae.Model: expected {name} to be a positive integer. Received: {name}={value!r}."
        )
    return int(value)


class _Shuffler:
    """Draws the orders of the epochs: the same seed, the same order."""

    def __init__(self, rng: int | np.random.Generator | None):
        self._rng = np.random.Generator(np.random.Philox(rng)) if isinstance(rng, int) else rng

    def order(self, count: int, seed: int | tuple[int, ...] | None) -> np.ndarray:
        if seed is None and self._rng is not None:
            return self._rng.permutation(count)
        if seed is None:
            seed = engine_random.draw_seed()
        return np.random.Generator(np.random.Philox(seed)).permutation(count)


class ArrayDataset:
    """Batches of arrays that are in memory, gathered row by row.

    Args:
        x, y, sample_weight: trees of arrays, as `prepare_batch` returns them.
        batch_size: rows per batch; the last batch of an epoch may be smaller.
        shuffle: False, True, or "batch" to shuffle the order of whole batches only.
        steps: at most so many batches per epoch. Without shuffling, each epoch goes on where the
            one before stopped; `reset()` starts over.
        rng: seed or generator for epochs without a seed of their own.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        batch_size: int | None = None,
        shuffle: bool | str = False,
        steps: int | None = None,
        rng: int | np.random.Generator | None = None,
    ):
        if shuffle not in (True, False, "batch"):
            raise ValueError(
                "narae.Model: expected shuffle to be True, False or 'batch' for arrays. "
                f"Received: shuffle={shuffle!r}."
            )
        self._arrays = (x, y, sample_weight)
        self._leaves = tree.flatten(self._arrays)
        self.num_samples = next(len(leaf) for leaf in self._leaves if leaf is not None)
        self.batch_size = _check_positive("batch_size", 32 if batch_size is None else batch_size)
        self._all_batches = -(-self.num_samples // self.batch_size)
        if steps is not None and steps > self._all_batches:
            warnings.warn(
                f"The data holds {self._all_batches} batches of {self.batch_size}, fewer than the "
                f"{steps} steps asked for; an epoch ends when the data ends.",
                stacklevel=4,
            )
        self.num_batches = self._all_batches if steps is None else min(steps, self._all_batches)
        self._shuffle = shuffle
        self._shuffler = _Shuffler(rng)
        self._position = 0

    def epoch_batches(self, seed: int | tuple[int, ...] | None = None) -> list[int]:
        """The numbers of the batches of one epoch, in order, for batches of neighbouring rows."""
        if self._shuffle == "batch":
            return self._shuffler.order(self._all_batches, seed)[: self.num_batches].tolist()
        start = self._position
        if self.num_batches < self._all_batches:
            self._position = (start + self.num_batches) % self._all_batches
        return [(start + i) % self._all_batches for i in range(self.num_batches)]

    def epoch_indices(self, seed: int | tuple[int, ...] | None = None) -> list[np.ndarray]:
        """The row numbers of each batch of one epoch: int64 arrays of at most `batch_size`."""
        B, N = self.batch_size, self.num_samples
        if self._shuffle is True:
            order = self._shuffler.order(N, seed)
            return [order[i * B : (i + 1) * B] for i in range(self.num_batches)]
        rows = np.arange(N)
        return [rows[i * B : (i + 1) * B] for i in self.epoch_batches(seed)]

    def fill(self, indices: np.ndarray, out: Any) -> None:
        """Gathers the rows `indices` into the arrays of `out`, an `(x, y, sample_weight)` tree."""
        for source, target in zip(self._leaves, tree.flatten(out)):
            if source is not None:
                gather_rows(source, indices, target)

    def epoch(self, seed: int | tuple[int, ...] | None = None) -> Iterator[Batch]:
        """Iterates over the batches of one epoch; in given order they are views, not copies."""
        if self._shuffle is True:
            for indices in self.epoch_indices(seed):
                yield map_arrays(lambda a, rows=indices: gather_rows(a, rows), self._arrays)
            return
        for i in self.epoch_batches(seed):
            rows = slice(i * self.batch_size, (i + 1) * self.batch_size)
            yield map_arrays(lambda a, rows=rows: a[rows], self._arrays)

    def reset(self) -> None:
        """Makes the next epoch start at the first row."""
        self._position = 0

    def on_epoch_end(self) -> None:
        """Nothing to do for arrays."""


class PyDataset:
    """Base class of datasets that make their batches one by one, by number.

    Subclasses define `__getitem__(index)`, which returns a batch `(x, y)` or
    `(x, y, sample_weight)`, and `__len__`, the number of batches. `fit` shuffles the order of the
    batches unless `shuffle=False`.

    Args:
        workers: how many batches are made at the same time, in threads.
        use_multiprocessing: make them in processes instead; the dataset must be picklable.
        max_queue_size: how many batches are made ahead.

    Example:

    >>> class Squares(narae.utils.PyDataset):
    ...     def __len__(self):
    ...         return 10
    ...     def __getitem__(self, index):
    ...         x = np.arange(index * 4, index * 4 + 4, dtype="float32")[:, None]
    ...         return x, x**2
    """

    workers: int = 1
    use_multiprocessing: bool = False
    max_queue_size: int = 10

    def __init__(
        self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10
    ):
        self.workers = workers
        self.use_multiprocessing = use_multiprocessing
        self.max_queue_size = max_queue_size

    def __getitem__(self, index: int) -> Any:
        """Returns batch number `index`."""
        raise NotImplementedError(
            f"{type(self).__name__}: expected a method __getitem__(index) that returns a batch."
        )

    @property
    def num_batches(self) -> int | None:
        """The number of batches; None when there is no end to them."""
        return len(self) if hasattr(self, "__len__") else None

    def on_epoch_begin(self) -> None:
        """Called before every epoch."""

    def on_epoch_end(self) -> None:
        """Called after every epoch."""


class PyDatasetAdapter:
    """Batches made by a `PyDataset`, a few of them ahead when it has workers."""

    num_samples = None

    def __init__(
        self,
        dataset: PyDataset,
        shuffle: bool | str = False,
        class_weight: dict[int, float] | None = None,
        steps: int | None = None,
        rng: int | np.random.Generator | None = None,
    ):
        self._dataset = dataset
        self._shuffle = bool(shuffle)
        self._class_weight = class_weight
        self._steps = steps
        self._shuffler = _Shuffler(rng)
        self._position = 0
        if dataset.num_batches == 0:
            raise ValueError(
                "narae.Model: expected at least one batch. "
                f"Received: {type(dataset).__name__} with no batches."
            )

    @property
    def num_batches(self) -> int | None:
        counts = [n for n in (self._dataset.num_batches, self._steps) if n is not None]
        return min(counts, default=None)

    def epoch(self, seed: int | tuple[int, ...] | None = None) -> Iterator[Batch]:
        self._dataset.on_epoch_begin()
        for batch in self._fetch(self._order(seed)):
            yield prepare_batch(*unpack_x_y_sample_weight(batch), class_weight=self._class_weight)

    def _order(self, seed: int | tuple[int, ...] | None) -> Iterator[int]:
        total, count = self._dataset.num_batches, self.num_batches
        if total is not None and self._shuffle:
            return iter(self._shuffler.order(total, seed)[:count].tolist())
        if count is None:
            return itertools.count()
        start = self._position
        self._position = start + count if total is None else (start + count) % total
        return (i if total is None else i % total for i in range(start, start + count))

    def _fetch(self, order: Iterator[int]) -> Iterator[Any]:
        dataset = self._dataset
        if dataset.workers <= 1 and not dataset.use_multiprocessing:
            yield from (dataset[i] for i in order)
            return
        from concurrent import futures

        workers = max(1, dataset.workers)
        if dataset.use_multiprocessing:
            pool = futures.ProcessPoolExecutor(
                workers, initializer=_set_worker_dataset, initargs=(dataset,)
            )
            make = _worker_batch
        else:
            pool, make = futures.ThreadPoolExecutor(workers), dataset.__getitem__
        try:
            ahead = itertools.islice(order, max(workers, dataset.max_queue_size))
            pending = collections.deque(pool.submit(make, i) for i in ahead)
            while pending:
                batch = pending.popleft().result()
                pending.extend(pool.submit(make, i) for i in itertools.islice(order, 1))
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)

    def reset(self) -> None:
        """Makes the next epoch start at the first batch."""
        self._position = 0

    def on_epoch_end(self) -> None:
        self._dataset.on_epoch_end()


_worker_dataset: PyDataset | None = None  # set in worker processes only


def _set_worker_dataset(dataset: PyDataset) -> None:
    global _worker_dataset
    _worker_dataset = dataset


def _worker_batch(index: int) -> Any:
    return _worker_dataset[index]


class IteratorDataset:
    """Batches from a generator, an iterator, or anything that can be iterated over many times."""

    num_samples = None

    def __init__(
        self, source: Any, class_weight: dict[int, float] | None = None, steps: int | None = None
    ):
        self._source = source
        self._class_weight = class_weight
        self._steps = steps
        self._once = iter(source) is source
        self._iterator: Iterator[Any] | None = None
        self._seen = 0
        length = None if self._once or not hasattr(source, "__len__") else len(source)
        counts = [n for n in (length, steps) if n is not None]
        self.num_batches = min(counts, default=None)

    def epoch(self, seed: int | tuple[int, ...] | None = None) -> Iterator[Batch]:
        if self._iterator is None or (self._steps is None and not self._once):
            self._iterator = iter(self._source)
            fresh = True
        else:
            fresh = False
        step = 0
        while step != self.num_batches:
            try:
                batch = next(self._iterator)
            except StopIteration:
                if self._once or fresh:
                    self._out_of_data(step)
                    return
                self._iterator, fresh = iter(self._source), True
                continue
            step += 1
            self._seen += 1
            yield prepare_batch(*unpack_x_y_sample_weight(batch), class_weight=self._class_weight)

    def _out_of_data(self, step: int) -> None:
        if not self._seen:
            raise ValueError(
                "narae.Model: expected at least one batch. "
                f"Received: {type(self._source).__name__} that yields nothing."
            )
        if step == 0 or self.num_batches is not None:
            warnings.warn(
                f"The {type(self._source).__name__} ran out of data after {self._seen} batches. "
                "Let it yield steps_per_epoch * epochs batches, or pass a narae.utils.PyDataset.",
                stacklevel=3,
            )
        if not self._once:
            self._iterator = None

    def reset(self) -> None:
        """Makes the next epoch start over, where the source allows it."""
        if not self._once:
            self._iterator = None

    def on_epoch_end(self) -> None:
        """Nothing to do for iterators."""


def make_dataset(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    batch_size: int | None = None,
    shuffle: bool | str = False,
    class_weight: dict[int, float] | None = None,
    steps: int | None = None,
    rng: int | np.random.Generator | None = None,
) -> ArrayDataset | PyDatasetAdapter | IteratorDataset:
    """Turns what `fit`, `evaluate` and `predict` take into a dataset of batches.

    Args:
        x: array-likes or a tree of them, shape (samples, ...); or a `PyDataset`, a generator, or
            any iterable of batches `x`, `(x, y)` or `(x, y, sample_weight)`.
        y: labels; None when `x` brings them.
        sample_weight: weights of the samples; None when `x` brings them.
        batch_size: rows per batch of arrays, 32 by default; batches that `x` makes stay as made.
        shuffle: whether each epoch takes a new order of rows (arrays) or batches (`PyDataset`).
        class_weight: from class index to weight.
        steps: batches per epoch; None goes through all the data.
        rng: seed or generator of the orders of epochs that are given no seed.

    Returns:
        The dataset; see the module's docstring for its members.

    Raises:
        ValueError: data that cannot be used, with the name of the array at fault.

    Example:

    >>> dataset = make_dataset(np.zeros((5, 3)), np.arange(5), batch_size=2)
    >>> dataset.num_batches
    3
    >>> [x.shape for x, y, sample_weight in dataset.epoch()]
    [(2, 3), (2, 3), (1, 3)]
    """
    if steps is not None:
        steps = _check_positive("steps", steps)
    if batch_size is not None:
        batch_size = _check_positive("batch_size", batch_size)
    if not isinstance(x, PyDataset) and is_array_data(x):
        arrays = prepare_batch(x, y, sample_weight, class_weight)
        return ArrayDataset(*arrays, batch_size, shuffle, steps, rng)
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise ValueError(
                f"narae.Model: expected {name}=None, since x yields whole batches. "
                f"Received: x of type {type(x).__name__} and {name} of type {type(value).__name__}."
            )
    if isinstance(x, PyDataset):
        return PyDatasetAdapter(x, shuffle, class_weight, steps, rng)
    if hasattr(x, "__iter__"):
        return IteratorDataset(x, class_weight, steps)
    raise ValueError(
        "narae.Model: expected x to be arrays, a PyDataset, a generator or an iterable of batches. "
        f"Received: x of type {type(x).__name__}."
    )
