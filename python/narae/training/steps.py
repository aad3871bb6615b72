"""Training, evaluating and predicting one batch.

A step is a function of one batch. Where it is made of narae's own code only, it is recorded at its
first run and replayed afterwards (see `engine.recording`), with the batch gathered straight into
the recording's input arrays. Otherwise it runs eagerly. Both give the same bits.
"""

import functools
import inspect
import types
import warnings

import numpy as np

from narae.engine import tape, tree
from narae.engine.recording import RecordedStep, is_recording
from narae.engine.tape import GradientTape, products_kept
from narae.engine.tensor import Tensor
from narae.layers.holder import trainable_changes
from narae.layers.layer import calls_are_watched
from narae.training.arrays import map_arrays, pack_x_y_sample_weight, unpack_x_y_sample_weight
from narae.training.compile_utils import add_to_mean, total_loss
from narae.training.data import ArrayDataset, gather_rows

_REPLAYED_BYTES = 1 << 16  # inputs up to here: above, the layers' Python is no longer noticed


class Steps:
    """What a model does with one batch, recorded where possible; `Trainer` inherits it."""

    @property
    def run_eagerly(self) -> bool:
        """Whether every step runs in Python, never recorded."""
        return self._run_eagerly

    @run_eagerly.setter
    def run_eagerly(self, value):
        self._run_eagerly = bool(value)
        self._drop_recordings()

    @property
    def jit_compile(self) -> bool | str:
        """Whether steps are recorded: True, False, or "auto" for models of narae's own layers."""
        return self._jit_compile

    @jit_compile.setter
    def jit_compile(self, value):
        self._jit_compile = value
        self._drop_recordings()

    # One step; these may be overridden

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Returns the scalar that training minimizes: the compiled losses and the added ones.

        May be overridden.

        Args:
            x, y, sample_weight: the batch.
            y_pred: the model's outputs for it.
            training: whether a step of training asks.
        """
        losses = []
        if self._compiled_loss is not None:
            value = self._compiled_loss(y, y_pred, sample_weight)
            if value is not None:
                losses.append(value)
        losses.extend(self.losses)
        if not losses and training:
            raise ValueError(
                "narae.Model: expected a loss. Pass one to compile(), or call add_loss() in a "
                "layer."
            )
        return total_loss(losses)

    def compute_metrics(self, x, y, y_pred, sample_weight=None) -> dict:
        """Adds a batch to the compiled metrics and returns the values so far."""
        self._update_metrics(y, y_pred, sample_weight)
        return self.get_metrics_result()

    def train_step(self, data) -> dict:
        """Trains on one batch, `x`, `(x, y)` or `(x, y, sample_weight)`, and returns the logs.

        May be overridden, with a `GradientTape` and `self.optimizer.apply(gradients, variables)`.
        """
        result = self._train_core(*unpack_x_y_sample_weight(data))
        return self.get_metrics_result() if result is None else result

    def test_step(self, data) -> dict:
        """Evaluates one batch and returns the logs."""
        result = self._test_core(*unpack_x_y_sample_weight(data))
        return self.get_metrics_result() if result is None else result

    def predict_step(self, data):
        """Returns the outputs for one batch."""
        return self(unpack_x_y_sample_weight(data)[0], training=False)

    def _train_core(self, x, y, sample_weight):
        with GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self._call_compute_loss(x, y, y_pred, sample_weight, True)
            scaled = self.optimizer.scale_loss(loss)
        self._track_loss(loss, x)
        variables = self.trainable_variables
        if variables:
            with products_kept(getattr(self.optimizer, "product_slots", None)):
                gradients = tape.gradient(scaled, variables)
            self.optimizer.apply(gradients, variables)
        else:
            warnings.warn("The model has no trainable weights.", stacklevel=2)
        return self._count_batch(x, y, y_pred, sample_weight)

    def _test_core(self, x, y, sample_weight):
        y_pred = self(x, training=False)
        loss = self._call_compute_loss(x, y, y_pred, sample_weight, False)
        self._track_loss(loss, x)
        return self._count_batch(x, y, y_pred, sample_weight)

    def _call_compute_loss(self, x, y, y_pred, sample_weight, training):
        if self._overrides("compute_loss"):
            parameters = inspect.signature(self.compute_loss).parameters
            if "training" not in parameters and "kwargs" not in parameters:
                return self.compute_loss(x, y, y_pred, sample_weight)
        return self.compute_loss(x, y, y_pred, sample_weight, training=training)

    def _track_loss(self, loss, x):
        if self._loss_tracker is not None:
            count = next(leaf.shape[0] for leaf in tree.flatten(x) if leaf is not None)
            add_to_mean(self._loss_tracker, loss, count)

    def _count_batch(self, x, y, y_pred, sample_weight):
        if self._overrides("compute_metrics"):
            return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        self._update_metrics(y, y_pred, sample_weight)
        return None

    def _update_metrics(self, y, y_pred, sample_weight):
        if self._compiled_metrics is not None:
            self._compiled_metrics.update_state(y, y_pred, sample_weight)

    def _overrides(self, method: str) -> bool:
        return getattr(type(self), method) is not getattr(Steps, method)

    # Steps on tensors, recorded where possible

    def _train_tensors(self, x, y, sample_weight):
        if self._overrides("train_step"):
            return self.train_step(pack_x_y_sample_weight(x, y, sample_weight))
        return self._train_core(x, y, sample_weight)

    def _test_tensors(self, x, y, sample_weight):
        if self._overrides("test_step"):
            return self.test_step(pack_x_y_sample_weight(x, y, sample_weight))
        return self._test_core(x, y, sample_weight)

    def _predict_tensors(self, x, y, sample_weight):
        if self._overrides("predict_step"):
            return self.predict_step(pack_x_y_sample_weight(x))
        return self(x, training=False)

    def _drop_recordings(self) -> None:
        self._steps = {}
        self._call_signature = None
        self._eager_reason = None
        self._steps_made_at = -1

    def _step(self, mode: str) -> RecordedStep | None:
        """The recorded step for "train", "test" or "predict"; None when it must run eagerly."""
        if self._steps_made_at != trainable_changes():
            self._drop_recordings()
            self._steps_made_at = trainable_changes()
        if mode not in self._steps:
            if self._eager_reason is None:
                self._eager_reason = _why_eager(self)
            record = not self._eager_reason
            self._steps[mode] = RecordedStep(getattr(self, f"_{mode}_tensors")) if record else None
        return self._steps[mode]

    def _replayed_step(self, x) -> RecordedStep | None:
        """The prediction step if its replay is to answer `model(x)`, else None.

        That gives the same bits as calling the layers, without their cost in Python, which is what
        a small batch spends most time on. Nobody must look into the call (a tape, a model around
        this one, losses that layers add), and the batch before was of the same shape and dtype.
        """
        array = x.array if isinstance(x, Tensor) and x.mask is None else x
        if type(array) is not np.ndarray or array.nbytes > _REPLAYED_BYTES or not self._called:
            return None
        if tape.is_open() or is_recording() or calls_are_watched() or self._jit_compile != "auto":
            return None
        signature = array.shape, array.dtype
        if self._call_signature != signature:
            self.__dict__["_call_signature"] = signature
            return None
        return None if self._overrides("predict_step") else self._step("predict")

    @property
    def recording_status(self) -> str:
        """Whether steps are recorded and replayed, and if not, why.

        >>> history = model.fit(x, y, verbose=0)
        >>> model.recording_status
        'replayed: train'
        """
        reason = self._eager_reason if self._eager_reason is not None else _why_eager(self)
        if reason:
            return f"eager: {reason}"
        parts = []
        for mode, step in self._steps.items():
            if step.reason:
                parts.append(f"{mode} runs eagerly, because {step.reason}")
            elif step.recorded:
                parts.append(mode)
        return f"replayed: {', '.join(parts)}" if parts else "to be recorded at the first step"

    def make_train_function(self, force: bool = False):
        """Makes the training step anew if `force`, and returns it."""
        return self._make_function("train", force)

    def make_test_function(self, force: bool = False):
        """Makes the evaluation step anew if `force`, and returns it."""
        return self._make_function("test", force)

    def make_predict_function(self, force: bool = False):
        """Makes the prediction step anew if `force`, and returns it: from a batch to its outputs.

        It is the quickest way to predict small batches of arrays.

        >>> predict = model.make_predict_function()
        >>> predict(x).shape
        (4, 1)
        """
        return self._make_function("predict", force)

    def _make_function(self, mode: str, force: bool):
        if force:
            self._drop_recordings()
        return functools.partial(self._run_batch, mode)

    def _run_batch(self, mode: str, x, y=None, sample_weight=None):
        """Runs a step on one batch of arrays."""
        step = self._step(mode)
        if step is not None:
            return (step.fresh if mode == "predict" else step)(x, y, sample_weight)
        return getattr(self, f"_{mode}_tensors")(*map_arrays(Tensor, (x, y, sample_weight)))

    def _runs(self, mode: str, dataset, first=None):
        """Iterates over an epoch; calling what it yields runs the step on the next batch."""
        step = self._step(mode)
        if step is not None and isinstance(dataset, ArrayDataset):
            yield from _array_runs(step, dataset)
            return
        batches = dataset.epoch() if first is None else first
        for batch in batches:
            yield functools.partial(self._run_batch, mode, *batch)

    def _before_train_step(self):
        """What sets the learning rate of a schedule before each step, or None."""
        optimizers = [self.optimizer] if hasattr(self.optimizer, "update_learning_rate") else []
        for value in vars(self).values():  # optimizers of a train_step of the user's own
            if hasattr(value, "update_learning_rate") and value not in optimizers:
                optimizers.append(value)
        updates = [o.update_learning_rate for o in optimizers if _has_schedule(o)]
        if not updates:
            return None
        return updates[0] if len(updates) == 1 else lambda: [update() for update in updates]


def _has_schedule(optimizer) -> bool:
    rate = getattr(optimizer, "_learning_rate", None)
    return rate is not None and callable(rate) and not isinstance(rate, Tensor)


def _array_runs(step: RecordedStep, dataset: ArrayDataset):
    """The epoch of a recorded step on arrays: rows go straight into the recording's inputs."""
    arrays = dataset._arrays
    if dataset._shuffle is True:
        batches = dataset.epoch_indices()
    else:
        size, total = dataset.batch_size, dataset.num_samples
        starts = (i * size for i in dataset.epoch_batches())
        batches = (slice(start, min(start + size, total)) for start in starts)
    known = {}  # rows in the batch -> (pairs of source and target, how to run)
    for rows in batches:
        contiguous = isinstance(rows, slice)
        count = rows.stop - rows.start if contiguous else len(rows)
        if count not in known:
            slot = step.slot(*map_arrays(lambda a, n=count: a[:n], arrays))
            pairs = zip(tree.flatten(arrays), tree.flatten(slot.inputs))
            known[count] = ([pair for pair in pairs if pair[0] is not None], slot.run)
        pairs, run = known[count]
        for source, target in pairs:
            if contiguous:
                target[...] = source[rows]
            else:
                gather_rows(source, rows, target)
        yield run


# Why a model is not recorded


def _is_own(thing) -> bool:
    """Whether a class or function belongs to narae."""
    return getattr(thing, "__module__", "").split(".")[0] == "narae"


def _why_eager(model) -> str:
    """Returns why the model's steps are not recorded; empty when they are."""
    if model.run_eagerly:
        return "compiled with run_eagerly=True"
    if model.jit_compile is False:
        return "compiled with jit_compile=False"
    if model.jit_compile is True:
        return ""
    hint = "; compile with jit_compile=True to record it"
    for layer in model._flatten_layers():
        cls = type(layer)
        if not _is_own(cls):
            return f"{cls.__name__} '{layer.name}' is not one of narae's own classes{hint}"
        if cls.__name__ == "Lambda" or not getattr(layer, "supports_jit", True):
            return f"layer '{layer.name}' of type {cls.__name__} runs Python code"
        for key, value in () if isinstance(layer, Steps) else vars(layer).items():
            if isinstance(value, types.FunctionType) and not _is_own(value):
                return f"{key} of layer '{layer.name}' is a function of your own{hint}"
            used_in_step = key.endswith(("_regularizer", "_constraint")) and value is not None
            if used_in_step and not _is_own(type(value)):
                return f"{key} of layer '{layer.name}' is not one of narae's own{hint}"
    for part in _compiled_parts(model):
        code = getattr(part, "fn", None) or getattr(part, "_fn", None)
        if not _is_own(type(part)) or (code is not None and not _is_own(code)):
            name = getattr(part, "name", type(part).__name__)
            return f"{name} is not one of narae's own losses, metrics and optimizers{hint}"
    return ""


def _compiled_parts(model) -> list:
    parts = [] if model.optimizer is None else [model.optimizer]
    if model._compiled_loss is not None:
        parts += [entry.loss for entry in model._compiled_loss.entries]
    if model._compiled_metrics is not None:
        parts += model._compiled_metrics.metrics
    return parts + model._metrics
