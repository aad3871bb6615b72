"""A callback that shows evaluation the averaged weights."""

from __future__ import annotations

import numpy as np

from narae.training.callback import Callback, Logs


class SwapEMAWeights(Callback):
    """Exchanges the weights with their moving averages during evaluation and prediction.

    For optimizers made with `use_ema=True`; afterwards training goes on with its own weights.

    Args:
        swap_on_epoch: leave the averages in place from the end of an epoch to the start of the
            next, so that a later `ModelCheckpoint` in the list saves them.

    Example:

    >>> model.compile(narae.optimizers.Adam(use_ema=True), loss="mse")
    >>> swap = narae.callbacks.SwapEMAWeights()
    >>> history = model.fit(x, y, epochs=5, verbose=0, callbacks=[swap])
    >>> loss_of_the_averages = model.evaluate(x, y, verbose=0, callbacks=[swap])
    """

    def __init__(self, swap_on_epoch: bool = False):
        super().__init__()
        self.swap_on_epoch = swap_on_epoch
        self._swapped = False

    def _swap(self, to_averages: bool) -> None:
        if self._swapped == to_averages:
            return
        optimizer = self.model.optimizer
        averages = getattr(optimizer, "_averages", None)
        if not getattr(optimizer, "use_ema", False) or not averages:
            raise ValueError(
                "narae.callbacks.SwapEMAWeights: expected a compiled and trained model whose "
                f"optimizer was made with use_ema=True. Received: optimizer={optimizer!r}."
            )
        for variable, average in zip(optimizer._trainable_variables, averages):
            value = np.array(variable.numpy())
            variable.assign(average.numpy())
            average.assign(value)
        self._swapped = to_averages

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._swap(False)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.swap_on_epoch:
            self._swap(True)

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._swap(False)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        self._swap(True)

    def on_test_end(self, logs: Logs | None = None) -> None:
        self._swap(False)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        self._swap(True)

    def on_predict_end(self, logs: Logs | None = None) -> None:
        self._swap(False)
