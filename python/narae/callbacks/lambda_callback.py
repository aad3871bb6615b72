"""A callback made of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from narae.training.callback import Callback


class LambdaCallback(Callback):
    """Calls the given functions at the stages that their names say.

    Args:
        on_epoch_begin, on_epoch_end: functions `f(epoch, logs)`.
        on_train_begin, on_train_end: functions `f(logs)`.
        on_train_batch_begin, on_train_batch_end: functions `f(batch, logs)`.
        **kwargs: any other hook of `Callback` by its name.

    Example:

    >>> show = narae.callbacks.LambdaCallback(
    ...     on_epoch_end=lambda epoch, logs: print(epoch, list(logs))
    ... )
    >>> history = model.fit(x, y, epochs=2, verbose=0, callbacks=[show])
    0 ['loss']
    1 ['loss']
    """

    def __init__(
        self,
        on_epoch_begin: Callable[..., Any] | None = None,
        on_epoch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None,
        on_train_end: Callable[..., Any] | None = None,
        on_train_batch_begin: Callable[..., Any] | None = None,
        on_train_batch_end: Callable[..., Any] | None = None,
        **kwargs: Callable[..., Any],
    ):
        super().__init__()
        hooks = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
        }
        for name in kwargs:
            if not name.startswith("on_") or not hasattr(Callback, name):
                raise ValueError(
                    "narae.callbacks.LambdaCallback: expected names of hooks. "
                    f"Received: {name}={kwargs[name]!r}."
                )
        for name, function in {**hooks, **kwargs}.items():
            if function is not None:
                setattr(self, name, function)
