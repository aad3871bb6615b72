"""A callback that writes the logs of every epoch to a table."""

from __future__ import annotations

import csv
import os
from typing import Any

from narae.training.callback import Callback, Logs
from narae.utils.files import atomic_path


class CSVLogger(Callback):
    """Writes one row per epoch to a CSV file: `epoch`, then the names in the logs, sorted.

    Rows are flushed to the disk as they are written, so a killed run keeps its epochs. A name that
    first occurs in a later epoch gets a column then; values that are missing read `NA`.

    Args:
        filename: path of the file.
        separator: what stands between two values.
        append: go on with an existing file instead of replacing it.

    Example:

    >>> logger = narae.callbacks.CSVLogger("log.csv")
    >>> history = model.fit(x, y, epochs=3, verbose=0, callbacks=[logger])
    >>> open("log.csv").read().split()[0]
    'epoch,loss'
    """

    def __init__(self, filename: str | os.PathLike, separator: str = ",", append: bool = False):
        super().__init__()
        self.filename = os.fspath(filename)
        self.separator = separator
        self.append = append
        self._file: Any = None
        self._columns: list[str] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._close()
        self._columns = []
        if self.append and os.path.exists(self.filename):
            self._columns = next(iter(self._read()), [])
        else:
            open(self.filename, "w").close()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        row = {"epoch": epoch, **(logs or {})}
        new = sorted(name for name in row if name not in self._columns and name != "epoch")
        if new:
            self._add_columns(new)
        if self._file is None:
            self._file = open(self.filename, "a", newline="")  # noqa: SIM115
        writer = csv.writer(self._file, delimiter=self.separator, lineterminator="\n")
        writer.writerow([row.get(name, "NA") for name in self._columns])
        self._file.flush()
        os.fsync(self._file.fileno())

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._close()

    def _read(self) -> list[list[str]]:
        with open(self.filename, newline="") as file:
            return list(csv.reader(file, delimiter=self.separator))

    def _add_columns(self, names: list[str]) -> None:
        """Puts new names into the header and NA below them, as with `validation_freq` > 1."""
        self._close()
        rows = self._read()[1:]
        self._columns = [*(self._columns or ["epoch"]), *names]
        with (
            atomic_path(self.filename) as temporary,
            open(temporary, "w", newline="") as file,
        ):
            writer = csv.writer(file, delimiter=self.separator, lineterminator="\n")
            writer.writerow(self._columns)
            writer.writerows(row + ["NA"] * len(names) for row in rows)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
