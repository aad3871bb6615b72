"""What callbacks share that watch one value of the logs."""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

from narae.training.callback import Callback, Logs

# Parts of names that tell whether less or more is better; the first is looked at first.
_LESS = re.compile(
    "loss|error|mse|mae|mape|msle|rmse|entropy|hinge|divergence|kld|poisson|cosh|perplexity"
    "|false_?positives|false_?negatives"
)
_MORE = re.compile(
    "acc|auc|precision|recall|f1|fbeta|iou|io_u|r2|score|similarity|correlation|dice|psnr"
    "|sensitivity|specificity|true_?positives|true_?negatives"
)


class MonitorCallback(Callback):
    """Base of callbacks that ask whether `logs[monitor]` got better.

    A value is better than a reference by more than `min_delta`; NaN is never better.

    Args:
        monitor: name in the logs, for example `"val_loss"`.
        mode: `"min"`, `"max"`, or `"auto"` to tell from the metric or from its name.
        min_delta: the least change that counts.
    """

    def __init__(self, monitor: str, mode: str = "auto", min_delta: float = 0.0):
        super().__init__()
        if mode not in ("auto", "min", "max"):
            warnings.warn(
                f"{type(self).__name__}: expected mode to be 'auto', 'min' or 'max'. "
                f"Received: mode={mode!r}; 'auto' is used.",
                stacklevel=3,
            )
            mode = "auto"
        self.monitor = monitor
        self.mode = mode
        self.min_delta = abs(min_delta)
        self._more_is_better: bool | None = None if mode == "auto" else mode == "max"

    def current_value(self, logs: Logs | None) -> float | None:
        """The monitored value; None, with a warning, where the logs lack it."""
        value = (logs or {}).get(self.monitor)
        if value is None:
            warnings.warn(
                f"{type(self).__name__} monitors {self.monitor!r}, which is not available. "
                f"Available are: {', '.join(logs or {}) or 'none'}.",
                stacklevel=3,
            )
            return None
        if self._more_is_better is None:
            self._more_is_better = self._find_direction()
        return float(value)

    def is_better(self, value: float, reference: float | None) -> bool:
        """Whether `value` improves on `reference`; anything but NaN improves on None."""
        if reference is None or math.isnan(value):
            return not math.isnan(value)
        if self._more_is_better:
            return value - self.min_delta > reference
        return value + self.min_delta < reference

    def _find_direction(self) -> bool:
        name = self.monitor.removeprefix("val_")
        for metric in getattr(self.model, "metrics", None) or ():
            direction = getattr(metric, "_direction", None)
            if getattr(metric, "name", None) == name and direction in ("up", "down"):
                return direction == "up"
        name = name.lower()
        if _LESS.search(name):
            return False
        if _MORE.search(name):
            return True
        raise ValueError(
            f"narae.callbacks.{type(self).__name__}: expected mode='min' or mode='max', since the "
            f"name does not tell which is better. Received: monitor={self.monitor!r}, mode='auto'."
        )


def optimizer_of(callback: Callback) -> Any:
    """The model's optimizer, whose `learning_rate` the callback reads and sets."""
    optimizer = getattr(callback.model, "optimizer", None)
    if not hasattr(optimizer, "learning_rate"):
        raise ValueError(
            f"narae.callbacks.{type(callback).__name__}: expected the model's optimizer to have a "
            f"learning rate. Received: optimizer={optimizer!r}."
        )
    return optimizer
