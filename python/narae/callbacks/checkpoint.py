"""Callbacks that save the model while it trains."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from narae.callbacks.monitor import MonitorCallback
from narae.engine import random as engine_random
from narae.training.callback import Callback, Logs
from narae.training.progress import print_message
from narae.utils.files import atomic_path


def _check_save_freq(name: str, save_freq: str | int) -> None:
    is_count = isinstance(save_freq, int) and not isinstance(save_freq, bool) and save_freq > 0
    if save_freq != "epoch" and not is_count:
        raise ValueError(
            f"narae.callbacks.{name}: expected save_freq to be 'epoch' or a positive number of "
            f"batches. Received: save_freq={save_freq!r}."
        )


class ModelCheckpoint(MonitorCallback):
    """Saves the model, or its weights, after epochs or after a number of batches.

    Args:
        filepath: where to save, ending in `.keras`, or in `.weights.h5` with `save_weights_only`;
            may name `{epoch}` (from 1), `{batch}` and values of the logs, `"{val_loss:.2f}.keras"`.
        monitor: name of the value that decides what is best.
        verbose: 1 prints each save.
        save_best_only: save only when the monitored value has improved.
        save_weights_only: save weights and optimizer state without the architecture.
        mode: `"min"`, `"max"`, or `"auto"` to tell from the name.
        save_freq: `"epoch"`, or a number of batches.
        initial_value_threshold: what the first value must improve on.

    Raises:
        ValueError: a file name with another ending, or a wrong `save_freq`.

    Example:

    >>> best = narae.callbacks.ModelCheckpoint("best.keras", save_best_only=True)
    >>> history = model.fit(
    ...     x, y, validation_split=0.25, epochs=10, verbose=0, callbacks=[best]
    ... )
    >>> model = narae.models.load_model("best.keras")
    """

    def __init__(
        self,
        filepath: str | os.PathLike,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ):
        super().__init__(monitor, mode)
        self.filepath = os.fspath(filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        self.best = initial_value_threshold
        endings = (".weights.h5",) if save_weights_only else (".keras", ".h5")
        wrong = not self.filepath.endswith(endings)
        if wrong or (not save_weights_only and self.filepath.endswith(".weights.h5")):
            raise ValueError(
                f"narae.callbacks.ModelCheckpoint: expected filepath to end in {endings[0]} with "
                f"save_weights_only={save_weights_only}. Received: filepath={self.filepath!r}."
            )
        _check_save_freq("ModelCheckpoint", save_freq)
        self._batches_since_save = 0
        self._epoch = 0
        if save_freq != "epoch":  # without this hook the steps need not stop for logs
            self.on_train_batch_end = self._count_batch

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._batches_since_save = 0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_freq == "epoch":
            self._save(epoch, None, logs)

    def _count_batch(self, batch: int, logs: Logs | None = None) -> None:
        self._batches_since_save += 1
        if self._batches_since_save >= self.save_freq:
            self._batches_since_save = 0
            self._save(self._epoch, batch, logs)

    def _save(self, epoch: int, batch: int | None, logs: Logs | None) -> None:
        path = self._path(epoch, batch, logs)
        head = f"\nEpoch {epoch + 1}: "
        if not self.save_best_only:
            self._write(path, f"{head}saving model to {path}", head)
            return
        current = self.current_value(logs)
        if current is None:
            return
        if not self.is_better(current, self.best):
            if self.verbose > 0:
                best = "None" if self.best is None else f"{self.best:.5f}"
                print_message(f"{head}{self.monitor} did not improve from {best}")
            return
        before = "None" if self.best is None else f"{self.best:.5f}"
        change = f"{self.monitor} improved from {before} to {current:.5f}"
        self._write(path, f"{head}{change}, saving model to {path}", head)
        self.best = current

    def _write(self, path: str, announcement: str, head: str) -> None:
        if self.verbose > 0:
            print_message(announcement)
        folder = os.path.dirname(path)
        if folder:
            os.makedirs(folder, exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path, overwrite=True)
        else:
            self.model.save(path, overwrite=True)
        if self.verbose > 0:
            print_message(f"{head}finished saving model to {path}")

    def _path(self, epoch: int, batch: int | None, logs: Logs | None) -> str:
        known = {"epoch": epoch + 1, **(logs or {})}
        if batch is not None:
            known["batch"] = batch + 1
        try:
            return self.filepath.format(**known)
        except KeyError as error:
            raise KeyError(
                "narae.callbacks.ModelCheckpoint: expected filepath to name only "
                f"{sorted(known)}. Received: filepath={self.filepath!r} with {error}."
            ) from None


class BackupAndRestore(Callback):
    """Saves the state of training, so that a killed `fit`, started again, goes on where it was.

    Kept are the weights, the optimizer's state, the random state and the number of epochs done: a
    run resumed after an epoch repeats the bits of an unbroken one. After a `fit` that ends well the
    backup is deleted.

    Args:
        backup_dir: folder of the backup, of one model only.
        save_freq: `"epoch"`, or a number of batches; then an epoch that was broken off starts
            again with the weights of its last saved batch.
        double_checkpoint: keep the backup before the last one too.
        delete_checkpoint: delete the backup at the end of training.

    Example:

    >>> backup = narae.callbacks.BackupAndRestore("backup")
    >>> history = model.fit(x, y, epochs=10, verbose=0, callbacks=[backup])
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike,
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ):
        super().__init__()
        if not os.fspath(backup_dir):
            raise ValueError(
                "narae.callbacks.BackupAndRestore: expected a folder. Received: backup_dir=''."
            )
        _check_save_freq("BackupAndRestore", save_freq)
        self.backup_dir = os.fspath(backup_dir)
        self.save_freq = save_freq
        self.double_checkpoint = double_checkpoint
        self.delete_checkpoint = delete_checkpoint
        self._state_file = os.path.join(self.backup_dir, "training_state.json")
        self._batches_since_save = 0
        self._epoch = 0
        if save_freq != "epoch":
            self.on_train_batch_end = self._count_batch

    def on_train_begin(self, logs: Logs | None = None) -> None:
        state = self._read()
        if state is None:
            return
        path = os.path.join(self.backup_dir, os.path.basename(state["weights"]))
        optimizer = getattr(self.model, "optimizer", None)
        if optimizer is not None and not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        self.model.load_weights(path)
        engine_random.set_global_state(_from_json(state["random"]))
        for generator, kept in zip(self._generators(), state["generators"]):
            generator.state.assign(_from_json(kept))
        self.model._initial_epoch = state["epoch"]

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch + 1
        if self.save_freq == "epoch":
            self._save(epoch + 1)

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.delete_checkpoint:
            self._delete()

    def _count_batch(self, batch: int, logs: Logs | None = None) -> None:
        self._batches_since_save += 1
        if self._batches_since_save >= self.save_freq:
            self._batches_since_save = 0
            self._save(self._epoch)

    def _save(self, epoch: int) -> None:
        """New weights first, then the small file that names them: a kill leaves a whole backup."""
        os.makedirs(self.backup_dir, exist_ok=True)
        old = self._read() or {"weights": None, "number": 0}
        number = old["number"] + 1
        weights = f"state_{number}.weights.h5"
        self.model.save_weights(os.path.join(self.backup_dir, weights), overwrite=True)
        state = {
            "epoch": epoch,
            "number": number,
            "weights": weights,
            "random": _to_json(engine_random.global_state()),
            "generators": [_to_json(g.state.numpy()) for g in self._generators()],
        }
        with atomic_path(self._state_file) as temporary, open(temporary, "w") as file:
            json.dump(state, file)
        keep = {weights, old["weights"]} if self.double_checkpoint else {weights}
        self._delete_weights(keep)

    def _generators(self) -> list[Any]:
        """What draws for dropout and the like: files of weights do not keep it."""
        return [g for layer in self.model._flatten_layers() for g in layer._seed_generators]

    def _read(self) -> dict[str, Any] | None:
        if not os.path.exists(self._state_file):
            return None
        with open(self._state_file) as file:
            return json.load(file)

    def _delete_weights(self, keep: set[str | None]) -> None:
        for name in os.listdir(self.backup_dir):
            if name.startswith("state_") and name.endswith(".weights.h5") and name not in keep:
                os.remove(os.path.join(self.backup_dir, name))

    def _delete(self) -> None:
        if os.path.exists(self._state_file):
            os.remove(self._state_file)
            self._delete_weights(set())
        if os.path.isdir(self.backup_dir) and not os.listdir(self.backup_dir):
            os.rmdir(self.backup_dir)


def _to_json(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: _to_json(value) for key, value in state.items()}
    if isinstance(state, np.ndarray):
        return {"dtype": state.dtype.name, "values": state.tolist()}
    return state.item() if isinstance(state, np.generic) else state


def _from_json(state: Any) -> Any:
    if isinstance(state, dict) and set(state) == {"dtype", "values"}:
        return np.array(state["values"], dtype=state["dtype"])
    if isinstance(state, dict):
        return {key: _from_json(value) for key, value in state.items()}
    return state
