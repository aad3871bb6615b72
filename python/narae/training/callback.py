"""The Callback base, the list that calls callbacks, and History."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Logs = dict[str, float]


class Callback:
    """Base class of objects that act at the stages of training, evaluation and prediction.

    `fit` sets `self.model` and `self.params` (`verbose`, `epochs`, `steps`), then calls the hooks
    below. `logs` holds the losses and metrics as floats; what a hook writes into it, later
    callbacks read. Hooks of batches that no callback overrides cost nothing.

    Example:

    >>> class Printer(narae.callbacks.Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         print(epoch, logs["loss"])
    """

    # Whether the hooks of batches take `logs` as it comes, also as a function that makes them.
    _lazy_logs = False

    def __init__(self):
        self.params: dict[str, Any] = {}
        self._model: Any = None

    @property
    def model(self) -> Any:
        """The model that is being trained."""
        return self._model

    def set_params(self, params: dict[str, Any]) -> None:
        """Called once with the parameters of the run."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Called once with the model."""
        self._model = model

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Called when `fit` begins."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called when `fit` ends, with the logs of the last epoch."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Called when `evaluate`, or validation in `fit`, begins."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Called when `evaluate`, or validation in `fit`, ends."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Called when `predict` begins."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Called when `predict` ends."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Called before an epoch of training; `epoch` counts from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Called after an epoch of training and its validation (`val_...`)."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a training step; `batch` counts from 0 in each epoch."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a training step with the averages of the epoch so far."""
        self.on_batch_end(batch, logs)

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a batch of evaluation."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a batch of evaluation with the averages so far."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a batch of prediction."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a batch of prediction; `logs["outputs"]` holds what came out."""

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """An older name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """An older name of `on_train_batch_end`."""


class History(Callback):
    """Keeps the logs of every epoch; `fit` returns it.

    Attributes:
        epoch: the numbers of the epochs, `[0, 1, ...]`.
        history: from each name in the logs to its list of values.

    >>> history = model.fit(x, y, epochs=3, verbose=0)
    >>> history.epoch, len(history.history["loss"])
    ([0, 1, 2], 3)
    """

    def __init__(self):
        super().__init__()
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
        self.model.history = self


_BATCH_HOOKS = tuple(
    f"on_{mode}_batch_{moment}"
    for mode in ("train", "test", "predict")
    for moment in ("begin", "end")
)


def _overrides(callback: Any, hook: str) -> bool:
    """Whether the class or the object itself brings its own version of a hook."""
    names = [hook]
    if hook.startswith("on_train_batch"):
        names.append(hook.replace("train_", ""))
    return any(
        name in vars(callback)
        or getattr(type(callback), name, None) not in (None, getattr(Callback, name))
        for name in names
    )


class CallbackList:
    """Calls the hooks of several callbacks in order: the user's, `History`, `ProgbarLogger`.

    The logs of a batch may be given as a function that makes them: it is called only when a
    callback reads the logs of that very batch. `batch_hooks(mode)` and `needs_batch_logs` tell a
    trainer what it may leave out.

    Args:
        callbacks: a callback, or nested lists of callbacks.
        add_history: add a `History` unless there is one.
        add_progbar: add a `ProgbarLogger` unless there is one.
        model: what the callbacks see as `self.model`.
        **params: what the callbacks see as `self.params`.

    Raises:
        TypeError: something that is not a callback, or a class where an object is meant.
    """

    def __init__(
        self,
        callbacks: Any = None,
        add_history: bool = False,
        add_progbar: bool = False,
        model: Any = None,
        **params: Any,
    ):
        self.callbacks: list[Any] = list(_flatten(callbacks))
        self.history = next((c for c in self.callbacks if isinstance(c, History)), None)
        if add_history and self.history is None:
            self.history = History()
            self.callbacks.append(self.history)
        if add_progbar:
            from narae.training.progress import ProgbarLogger

            if not any(isinstance(c, ProgbarLogger) for c in self.callbacks):
                self.callbacks.append(ProgbarLogger())
        self.params: dict[str, Any] = {}
        self.model = None
        if model is not None:
            self.set_model(model)
        self.set_params(params)
        self._find_hooks()

    def _find_hooks(self) -> None:
        self._hooks = {
            hook: [
                (getattr(c, "_lazy_logs", False), getattr(c, hook))
                for c in self.callbacks
                if _overrides(c, hook)
            ]
            for hook in _BATCH_HOOKS
        }

    def append(self, callback: Any) -> None:
        """Adds one callback, or nested lists of them, at the end."""
        self.callbacks.extend(_flatten(callback))
        self._find_hooks()

    def set_params(self, params: dict[str, Any]) -> None:
        """Gives `params` to every callback."""
        self.params = params
        for callback in self.callbacks:
            callback.set_params(params)

    def set_model(self, model: Any) -> None:
        """Gives `model` to every callback, and the history to the model."""
        self.model = model
        if self.history is not None:
            model.history = self.history
        for callback in self.callbacks:
            callback.set_model(model)

    def batch_hooks(self, mode: str) -> bool:
        """Whether any callback has a hook for the batches of "train", "test" or "predict"."""
        return bool(self._hooks[f"on_{mode}_batch_begin"] or self._hooks[f"on_{mode}_batch_end"])

    @property
    def needs_batch_logs(self) -> bool:
        """Whether some callback reads the logs of every training batch (a bar does not)."""
        return any(not lazy for lazy, _ in self._hooks["on_train_batch_end"])

    def _call_batch(self, hook: str, batch: int, logs: Logs | Callable[[], Logs] | None) -> None:
        for lazy, function in self._hooks[hook]:
            if not lazy and callable(logs):
                logs = logs()
            function(batch, logs)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Calls the hooks before a batch of training."""
        self._call_batch("on_train_batch_begin", batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Calls the hooks after a batch of training."""
        self._call_batch("on_train_batch_end", batch, logs)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Calls the hooks before a batch of evaluation."""
        self._call_batch("on_test_batch_begin", batch, logs)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Calls the hooks after a batch of evaluation."""
        self._call_batch("on_test_batch_end", batch, logs)

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Calls the hooks before a batch of prediction."""
        self._call_batch("on_predict_batch_begin", batch, logs)

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """Calls the hooks after a batch of prediction."""
        self._call_batch("on_predict_batch_end", batch, logs)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Calls the hooks before an epoch."""
        for callback in self.callbacks:
            callback.on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Calls the hooks after an epoch."""
        logs = {} if logs is None else logs  # one dict for all: a callback's entries reach History
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, logs)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Calls the hooks before training."""
        for callback in self.callbacks:
            callback.on_train_begin(logs)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Calls the hooks after training."""
        for callback in self.callbacks:
            callback.on_train_end(logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Calls the hooks before evaluation."""
        for callback in self.callbacks:
            callback.on_test_begin(logs)

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Calls the hooks after evaluation."""
        for callback in self.callbacks:
            callback.on_test_end(logs)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Calls the hooks before prediction."""
        for callback in self.callbacks:
            callback.on_predict_begin(logs)

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Calls the hooks after prediction."""
        for callback in self.callbacks:
            callback.on_predict_end(logs)


def _flatten(callbacks: Any) -> Iterable[Any]:
    if callbacks is None:
        return
    if isinstance(callbacks, (list, tuple)):
        for callback in callbacks:
            yield from _flatten(callback)
        return
    if isinstance(callbacks, type):
        raise TypeError(
            "narae.callbacks: expected a callback object. Received: the class "
            f"{callbacks.__name__}; write {callbacks.__name__}(...)."
        )
    if not hasattr(callbacks, "set_model") or not hasattr(callbacks, "on_epoch_end"):
        raise TypeError(
            "narae.callbacks: expected objects derived from narae.callbacks.Callback. "
            f"Received: {callbacks!r}."
        )
    yield callbacks
