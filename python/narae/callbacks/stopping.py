"""Callbacks that end training."""

from __future__ import annotations

import math

from narae.callbacks.monitor import MonitorCallback
from narae.training.callback import Callback, Logs
from narae.training.progress import print_message


class EarlyStopping(MonitorCallback):
    """Stops training when a value has not improved for `patience` epochs.

    Args:
        monitor: name of the value in the logs.
        min_delta: the least change that counts as an improvement.
        patience: how many epochs without improvement are allowed.
        verbose: 1 prints when training stops.
        mode: `"min"`, `"max"`, or `"auto"` to tell from the name.
        baseline: value to be better than; epochs that are not count as without improvement.
        restore_best_weights: go back to the weights of the best epoch at the end of training.
        start_from_epoch: epochs before this one are not looked at.

    Example:

    >>> stop = narae.callbacks.EarlyStopping(min_delta=0.1, restore_best_weights=True)
    >>> history = model.fit(
    ...     x, y, validation_split=0.25, epochs=100, verbose=0, callbacks=[stop]
    ... )
    >>> len(history.epoch) < 100
    True
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._reset()

    def _reset(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best: float | None = None
        self.best_epoch = 0
        self.best_weights = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        current = self.current_value(logs)
        if current is None or epoch < self.start_from_epoch:
            return
        better = self.is_better(current, self.best)
        if self.restore_best_weights and (better or self.best_weights is None):
            self.best_weights = self.model.get_weights()
            self.best_epoch = epoch
        self.wait += 1
        if better:
            self.best = current
            self.best_epoch = epoch
            if self.baseline is None or self.is_better(current, self.baseline):
                self.wait = 0
                return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stopped_epoch > 0 and self.verbose > 0:
            print_message(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose > 0:
                print_message(
                    "Restoring model weights from the end of the best epoch: "
                    f"{self.best_epoch + 1}."
                )
            self.model.set_weights(self.best_weights)


class TerminateOnNaN(Callback):
    """Stops training as soon as the loss is NaN or infinite.

    It reads the loss after every step, which an otherwise unwatched training does not.

    Args:
        raise_error: raise RuntimeError instead of stopping quietly.

    Example:

    >>> stop = narae.callbacks.TerminateOnNaN()
    >>> history = model.fit(x * np.nan, y, epochs=5, verbose=0, callbacks=[stop])
    Batch 0: Invalid loss, terminating training
    >>> history.epoch
    [0]
    """

    def __init__(self, raise_error: bool = False):
        super().__init__()
        self.raise_error = raise_error

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        message = f"Batch {batch}: Invalid loss, terminating training"
        self.model.stop_training = True
        if self.raise_error:
            raise RuntimeError(f"narae.callbacks.TerminateOnNaN: {message} (loss={loss}).")
        print_message(message)
