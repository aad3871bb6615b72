"""Callbacks that set the learning rate between epochs; both add it to the logs."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from narae.callbacks.monitor import MonitorCallback, optimizer_of
from narae.training.callback import Callback, Logs
from narae.training.progress import print_message


class LearningRateScheduler(Callback):
    """Sets the learning rate before every epoch to what a function says.

    Args:
        schedule: `schedule(epoch, learning_rate)`, or `schedule(epoch)`, returns the new rate;
            `epoch` counts from 0.
        verbose: 1 prints the rate.

    Example:

    >>> halve = narae.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    >>> history = model.fit(x, y, epochs=2, verbose=0, callbacks=[halve])
    >>> [round(rate, 4) for rate in history.history["learning_rate"]]
    [0.005, 0.0025]
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0):
        super().__init__()
        self.schedule = schedule
        self.verbose = verbose
        self._takes_rate = _takes_two(schedule)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = optimizer_of(self)
        arguments = (epoch, float(optimizer.learning_rate)) if self._takes_rate else (epoch,)
        new = self.schedule(*arguments)
        try:
            new = float(new)
        except (TypeError, ValueError):
            raise ValueError(
                "narae.callbacks.LearningRateScheduler: expected schedule to return a number. "
                f"Received: {new!r} for epoch {epoch}."
            ) from None
        optimizer.learning_rate = new
        if self.verbose > 0:
            print_message(
                f"\nEpoch {epoch + 1}: LearningRateScheduler setting learning rate to {new}."
            )

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = float(optimizer_of(self).learning_rate)


def _takes_two(function: Callable) -> bool:
    try:
        inspect.signature(function).bind(0, 0.0)
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True


class ReduceLROnPlateau(MonitorCallback):
    """Multiplies the learning rate by `factor` when a value has stopped improving.

    Args:
        monitor: name of the value in the logs.
        factor: what the rate is multiplied by, below 1.
        patience: how many epochs without improvement are allowed.
        verbose: 1 prints each reduction.
        mode: `"min"`, `"max"`, or `"auto"` to tell from the name.
        min_delta: the least change that counts as an improvement.
        cooldown: epochs after a reduction that are not looked at.
        min_lr: the rate stays at least so high.

    Raises:
        ValueError: a factor of 1 or more.

    Example:

    >>> plateau = narae.callbacks.ReduceLROnPlateau("loss", patience=2, min_delta=10)
    >>> history = model.fit(x, y, epochs=4, verbose=0, callbacks=[plateau])
    >>> [round(rate, 4) for rate in history.history["learning_rate"]]
    [0.01, 0.01, 0.01, 0.001]
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        super().__init__(monitor, mode, min_delta)
        if factor >= 1.0:
            raise ValueError(
                "narae.callbacks.ReduceLROnPlateau: expected factor to be below 1. "
                f"Received: factor={factor}."
            )
        self.factor = factor
        self.patience = patience
        self.verbose = verbose
        self.cooldown = cooldown
        self.min_lr = min_lr
        self._reset()

    def _reset(self) -> None:
        self.best: float | None = None
        self.wait = 0
        self.cooldown_counter = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        rate = float(optimizer_of(self).learning_rate)
        current = self.current_value(logs)
        if logs is not None:
            logs["learning_rate"] = rate
        if current is None:
            return
        cooling = self.cooldown_counter > 0
        if cooling:
            self.cooldown_counter -= 1
            self.wait = 0
            cooling = self.cooldown_counter > 0
        if self.is_better(current, self.best):
            self.best = current
            self.wait = 0
        elif not cooling:
            self.wait += 1
            if self.wait >= self.patience and rate > self.min_lr:
                self._reduce(rate, epoch)

    def _reduce(self, rate: float, epoch: int) -> None:
        new = max(rate * self.factor, self.min_lr)
        optimizer_of(self).learning_rate = new
        if self.verbose > 0:
            print_message(
                f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {new}."
            )
        self.cooldown_counter = self.cooldown
        self.wait = 0
