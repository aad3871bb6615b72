"""The progress bar, and the callback that draws it."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from narae.training.callback import Callback, Logs

_BOLD, _GREEN, _WHITE, _RESET = "\x1b[1m", "\x1b[32m", "\x1b[37m", "\x1b[0m"
_BLOCK = "\u2501"

_interactive = True


def enable_interactive_logging() -> None:
    """Lets progress and messages go to standard output, as they do by default."""
    global _interactive
    _interactive = True


def disable_interactive_logging() -> None:
    """Sends progress and messages to the logger "narae" instead of standard output."""
    global _interactive
    _interactive = False


def is_interactive_logging_enabled() -> bool:
    """Returns whether progress and messages go to standard output."""
    return _interactive


def print_message(message: str, end: str = "\n") -> None:
    """Writes to standard output, or to the logger "narae" when interactive logging is off."""
    if not _interactive:
        import logging

        logging.getLogger("narae").info(message.strip("\n"))
        return
    try:
        sys.stdout.write(message + end)
    except UnicodeEncodeError:  # a terminal without the bar's character
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write((message + end).encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


class Progbar:
    """A line of text that shows how far a loop has come, and running averages.

    Args:
        target: number of steps; None when it is not known.
        width: number of blocks of the bar.
        verbose: 0 shows nothing, 1 redraws a bar, 2 prints one line at the end.
        interval: seconds between two drawings.
        stateful_metrics: names of values that are shown as given; others are averaged over steps.
        unit_name: what a step is called.

    Example:

    >>> bar = narae.utils.Progbar(3, verbose=2)
    >>> for step in range(3):
    ...     bar.add(1, [("loss", step)])
    3/3 - 0s - ...s/step - loss: 1.0000
    """

    def __init__(
        self,
        target: int | None,
        width: int = 20,
        verbose: int = 1,
        interval: float = 0.05,
        stateful_metrics: Iterable[str] | None = None,
        unit_name: str = "step",
    ):
        self.target = target
        self.width = width
        self.verbose = verbose
        self.interval = interval
        self.unit_name = unit_name
        self.stateful_metrics = set(stateful_metrics or ())
        # As Keras: a terminal, a notebook, or any POSIX system overwrites its line.
        self._dynamic = "ipykernel" in sys.modules or "posix" in sys.modules or sys.stdout.isatty()
        self._start = time.time()
        self._after_first: float | None = None
        self._last_step: float | None = None
        self._last_drawn = 0.0
        self._drawn_width = 0
        self._seen = 0
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}

    def step_done(self) -> bool:
        """Notes that a step ends now, and returns whether an update would be drawn.

        The time per step is then that of the steps alone, without what comes before the last
        update: validation, or saving.
        """
        self._last_step = time.time()
        if self._after_first is None:
            self._after_first = self._last_step
        return self.verbose == 1 and self._last_step - self._last_drawn >= self.interval

    def add(self, n: int, values: Iterable[tuple[str, float]] | None = None) -> None:
        """Moves on by `n` steps."""
        self.update(self._seen + n, values)

    def update(
        self,
        current: int,
        values: Iterable[tuple[str, float]] | None = None,
        finalize: bool | None = None,
    ) -> None:
        """Sets the number of steps done.

        Args:
            current: steps done.
            values: pairs of name and value, of the steps since the last update.
            finalize: True says that this is the last update, with values to show as they are; by
                default the update that reaches `target` is the last.
        """
        as_given = bool(finalize)
        if finalize is None:
            finalize = self.target is not None and current >= self.target
        steps = max(current - self._seen, 1)
        for name, value in values or ():
            if as_given or name in self.stateful_metrics:
                self._sums[name], self._counts[name] = value, 1
            else:
                self._sums[name] = self._sums.get(name, 0.0) + value * steps
                self._counts[name] = self._counts.get(name, 0) + steps
        self._seen = current
        now = time.time()
        per_step = self._time_per_step(current, self._last_step or now)
        if self.verbose == 1 and (finalize or now - self._last_drawn >= self.interval):
            self._draw(current, per_step, now, finalize)
            self._last_drawn = now
        elif self.verbose == 2 and finalize:
            digits = len(str(self.target)) if self.target is not None else 7
            target = self.target if self.target is not None else "Unknown"
            elapsed = f"{now - self._start:.0f}s -{self._step_text(per_step)}"
            print_message(f"{current:{digits}d}/{target} - {elapsed}{self._values_text()}")

    def _time_per_step(self, current: int, now: float) -> float:
        """Seconds per step, without the first one, which builds and records."""
        if current <= 0:
            return 0.0
        if self._after_first is not None and current > 1:
            return (now - self._after_first) / (current - 1)
        if current == 1 and self._after_first is None:
            self._after_first = now
        return (now - self._start) / current

    def _draw(self, current: int, per_step: float, now: float, finalize: bool) -> None:
        if self.target is None:
            left, bar = f"{current:7d}/Unknown", ""
            shown = len(left)
        else:
            counter = f"{current:{len(str(self.target))}d}/{self.target}"
            done = min(self.width, self.width * current // self.target) if self.target else 0
            green = f"{_GREEN}{_BLOCK * done}{_RESET}" if done else ""
            left = f"{_BOLD}{counter}{_RESET} "
            bar = f"{green}{_WHITE}{_BLOCK * (self.width - done)}{_RESET}"
            shown = len(counter) + 1 + self.width
        if self.target is None or finalize:
            clock = f"{now - self._start:.0f}s"
        else:
            clock = _clock_text(per_step * (self.target - current))
        tail = self._step_text(per_step) + self._values_text()
        shown += 1 + len(clock) + len(tail)
        erase = "\b" * self._drawn_width + "\r" if self._dynamic else "\n"
        blank = " " * (self._drawn_width - shown)
        line = f"{erase}{left}{bar} {_BOLD}{clock}{_RESET}{tail}{blank}"
        print_message(line, end="\n" if finalize else "")
        self._drawn_width = shown

    def _step_text(self, seconds: float) -> str:
        if seconds >= 1 or seconds == 0:
            return f" {seconds:.0f}s/{self.unit_name}"
        if seconds >= 1e-3:
            return f" {seconds * 1e3:.0f}ms/{self.unit_name}"
        return f" {seconds * 1e6:.0f}us/{self.unit_name}"

    def _values_text(self) -> str:
        text = ""
        for name, total in self._sums.items():
            value = float(total / max(1, self._counts[name]))
            text += f" - {name}: {value:.4f}" if abs(value) > 1e-3 else f" - {name}: {value:.4e}"
        return text


def _clock_text(seconds: float) -> str:
    if seconds > 3600:
        return f"{seconds // 3600:.0f}:{seconds % 3600 // 60:02.0f}:{seconds % 60:02.0f}"
    if seconds > 60:
        return f"{seconds // 60:.0f}:{math.floor(seconds % 60):02d}"
    return f"{math.floor(seconds)}s"


class ProgbarLogger(Callback):
    """Shows the progress of `fit`, `evaluate` and `predict`; they add it when `verbose` is not 0.

    Logs of a batch are read only when a drawing is due.
    """

    _lazy_logs = True

    def __init__(self):
        super().__init__()
        self._bar: Progbar | None = None
        self._seen = 0
        self._training = False
        self._verbose = 1

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params
        verbose = params.get("verbose", 1)
        self._verbose = 1 if verbose == "auto" else int(verbose)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._training = True

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._open()
        epochs = self.params.get("epochs") or 1
        if self._verbose and epochs > 1:
            print_message(f"Epoch {epoch + 1}/{epochs}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._close(logs)

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._training = False

    def on_test_begin(self, logs: Logs | None = None) -> None:
        if not self._training:
            self._open()

    def on_test_end(self, logs: Logs | None = None) -> None:
        if not self._training:
            self._close(logs)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        self._open()

    def on_predict_end(self, logs: Logs | None = None) -> None:
        self._close(None)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._step(batch, logs)

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if not self._training:
            self._step(batch, logs)

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._step(batch, None)

    def _open(self) -> None:
        self._seen = 0
        self._bar = Progbar(self.params.get("steps"), verbose=self._verbose)

    def _step(self, batch: int, logs: Logs | Callable[[], Logs] | None) -> None:
        self._seen = batch + 1
        if self._bar is not None and self._bar.step_done():
            logs = (logs() if callable(logs) else logs) or {}
            self._bar.stateful_metrics.update(logs)  # they are running averages already
            self._bar.update(self._seen, logs.items(), finalize=False)

    def _close(self, logs: Logs | None) -> None:
        if self._bar is None:
            return
        if self._bar.target is None:
            self._bar.target = self._seen
        self._bar.update(self._bar.target, (logs or {}).items(), finalize=True)
        self._bar = None
