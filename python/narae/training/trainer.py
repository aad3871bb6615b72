"""compile, fit, evaluate and predict: the loops over the steps of `steps.py`."""

import contextlib
import functools
import inspect
import itertools
import warnings

import numpy as np

from narae.engine import tree
from narae.engine.tensor import KerasTensor, Tensor
from narae.training.arrays import (
    map_arrays,
    prepare_batch,
    train_validation_split,
    unpack_x_y_sample_weight,
)
from narae.training.callback import CallbackList
from narae.training.compile_utils import CompiledLoss, CompiledMetrics
from narae.training.data import ArrayDataset, PyDatasetAdapter, make_dataset
from narae.training.steps import Steps


class Trainer(Steps):
    """What makes a model trainable; `Model` inherits it."""

    def __init__(self):
        self.compiled = False
        self.stop_training = False
        self.optimizer = None
        self.loss = None
        self.history = None
        self.run_eagerly = False
        self.jit_compile = "auto"
        self.steps_per_execution = 1
        self._compiled_loss = None
        self._compiled_metrics = None
        self._loss_tracker = None
        self._compile_arguments = {}

    # Compiling

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Says how the model is trained; must come before `fit` and `evaluate`.

        Args:
            optimizer: an optimizer or its name.
            loss: a loss, its name, or a function `(y_true, y_pred)` of ops; with several outputs
                a list or a dict by output name. None when the model adds its losses itself.
            loss_weights: factors of the losses of several outputs.
            metrics: list of metrics, names or functions; with several outputs a list of lists or
                a dict. "accuracy" picks the kind that fits the output.
            weighted_metrics: metrics that sample weights apply to.
            run_eagerly: run every step in Python, never recorded.
            steps_per_execution: accepted; each step is one native call already.
            jit_compile: "auto" records models made of narae's own layers, True any model.
            auto_scale_loss: accepted; there is no float16 training.

        Raises:
            ValueError: an unknown name, or another `jit_compile`.

        >>> model = narae.Sequential([Input((4,)), layers.Dense(3, activation="softmax")])
        >>> model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> model.optimizer.name, model.loss
        ('adam', 'sparse_categorical_crossentropy')
        """
        from narae import metrics as metrics_module
        from narae import optimizers

        if jit_compile not in ("auto", True, False, None):
            raise ValueError(
                "narae.Model.compile: expected jit_compile to be True, False or 'auto'. "
                f"Received: jit_compile={jit_compile!r}"
            )
        names = getattr(self, "output_names", None)
        self.optimizer = optimizers.get(optimizer)
        self.loss = loss
        self._compiled_loss = None if loss is None else CompiledLoss(loss, loss_weights, names)
        self._compiled_metrics = (
            CompiledMetrics(metrics, weighted_metrics, names)
            if metrics is not None or weighted_metrics is not None
            else None
        )
        self._loss_tracker = metrics_module.Mean(name="loss")
        self.run_eagerly = run_eagerly
        self.jit_compile = "auto" if jit_compile is None else jit_compile
        self.steps_per_execution = steps_per_execution
        self.stop_training = False
        self._compile_arguments = {
            "optimizer": self.optimizer,
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            "run_eagerly": self.run_eagerly,
            "steps_per_execution": steps_per_execution,
            "jit_compile": self.jit_compile,
        }
        self.compiled = True

    def get_compile_config(self) -> dict:
        """Returns what `compile_from_config` needs to compile the model in the same way."""
        from narae.saving.registry import serialize_keras_object

        if not self.compiled:
            return {}
        return serialize_keras_object(self._compile_arguments)

    def compile_from_config(self, config: dict) -> None:
        """Compiles the model as the dict from `get_compile_config` says."""
        from narae.saving.registry import deserialize_keras_object

        if type(self).compile is not Trainer.compile:
            warnings.warn(
                f"{type(self).__name__}: compile() is the class's own, so the model was loaded "
                "without compiling it. Call compile(), or implement get_compile_config() and "
                "compile_from_config().",
                stacklevel=2,
            )
            return
        known = inspect.signature(Trainer.compile).parameters
        config = {k: deserialize_keras_object(v) for k, v in config.items() if k in known}
        if config.get("jit_compile") is True:
            config["jit_compile"] = "auto"  # what Keras's own "auto" is saved as
        self.compile(**config)
        if self.built and self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def _require_compiled(self, method: str) -> None:
        if not self.compiled:
            raise ValueError(
                f"narae.Model.{method}: expected a compiled model. You must call compile() before "
                f"using the model: model.compile(optimizer, loss), then {method}()."
            )

    # Metrics

    @property
    def metrics(self) -> list:
        """The loss's mean, the compiled metrics, and those that the layers hold."""
        found = self._own_metrics()
        for layer in self._flatten_layers(include_self=False):
            if not isinstance(layer, Trainer):
                found.extend(layer._metrics)
        return found

    def _own_metrics(self) -> list:
        found = [self._loss_tracker] if self._loss_tracker is not None else []
        if self._compiled_metrics is not None:
            found.append(self._compiled_metrics)
        if self._compiled_loss is not None:
            found.extend(self._compiled_loss.metrics)
        return found + self._metrics

    @property
    def compiled_metrics(self):
        """The metrics that `compile` was given."""
        return self._compiled_metrics

    @property
    def metrics_names(self) -> list:
        """The names of `metrics`."""
        return [metric.name for metric in self.metrics]

    def reset_metrics(self) -> None:
        """Sets the loss's mean and all metrics back to their start."""
        for metric in self.metrics:
            metric.reset_state()

    def get_metrics_result(self) -> dict:
        """Returns the values of the metrics so far, by name."""
        results = {}
        for metric in self.metrics:
            value = metric.result()
            if isinstance(value, dict):
                results.update(value)
            else:
                results[metric.name] = value
        return results

    def _logs(self, outputs=None) -> dict:
        """The values to report, as floats in alphabetical order."""
        logs = self.get_metrics_result()
        if isinstance(outputs, dict) and set(outputs) != set(logs):
            logs = outputs  # a train_step of the user's own
        return {name: _to_float(logs[name]) for name in sorted(logs)}

    def _in_order(self, logs: dict):
        """The values as a list: the loss, then the metrics as compiled, then the rest."""
        if len(logs) == 1:
            return next(iter(logs.values()))
        names = []
        for metric in self.metrics:
            inner = metric.metrics if isinstance(metric, CompiledMetrics) else [metric]
            names.extend(m.name for m in inner)
        names = [name for name in dict.fromkeys(names) if name in logs]
        names += [name for name in sorted(logs) if name not in names]
        return [logs[name] for name in names]

    # Building before the first step

    def _prepare(self, batch) -> None:
        """Builds the model, losses, metrics and optimizer for batches like this one."""
        x, y, _ = batch
        loss, metrics = self._compiled_loss, self._compiled_metrics
        if not self.built or _unbuilt(loss) or _unbuilt(metrics):
            y_pred = self._output_spec(x)
            if y_pred is not None:
                if _unbuilt(loss) and not self._overrides("compute_loss"):
                    loss.build(y, y_pred)
                if _unbuilt(metrics) and y is not None:
                    metrics.build(y, y_pred)
        own_step = self._overrides("train_step")
        if self.built and self.optimizer is not None and not (own_step or self.optimizer.built):
            self.optimizer.build(self.trainable_variables)

    def _output_spec(self, x):
        """Returns the symbolic outputs for inputs like `x`, building the model on the way."""
        functional = getattr(self, "_functional", None) or self
        if "_outputs_struct" in vars(functional):
            return functional._outputs_struct
        inputs = map_arrays(lambda a: KerasTensor((None, *a.shape[1:]), _cast(self, a.dtype)), x)
        try:
            if not self.built:
                with self._reopened_scope():
                    self._maybe_build((inputs,), {})
            functional = getattr(self, "_functional", None)
            if functional is not None:
                return functional._outputs_struct
            with self._reopened_scope():
                outputs = self.compute_output_spec(inputs)
            self.built = True
            return outputs
        except NotImplementedError:
            if self._overrides("train_step"):
                return None  # a model that only joins others, with a train_step of its own
            raise
        except Exception:  # call() may need what zeros of another size do not give
            return self(map_arrays(Tensor, x), training=False)
        finally:
            self._clear_losses()

    def _check_labels(self, dataset) -> None:
        """Once per fit: class labels must fit the loss and the number of classes."""
        loss = self._compiled_loss
        if not isinstance(dataset, ArrayDataset) or loss is None or not loss.built:
            return
        x, y, _ = dataset._arrays
        functional = getattr(self, "_functional", None) or self
        spec = vars(functional).get("_outputs_struct")
        if y is not None and spec is None and loss.entries:
            spec = self._output_spec(map_arrays(lambda a: a[:1], x))
        if y is not None and spec is not None:
            loss.check_labels(y, spec)

    # fit, evaluate, predict

    def fit(
        self,
        x=None,
        y=None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose="auto",
        callbacks=None,
        validation_split: float = 0.0,
        validation_data=None,
        shuffle: bool = True,
        class_weight: dict | None = None,
        sample_weight=None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq=1,
    ):
        """Trains the model: `epochs` passes over the data, one step of the optimizer per batch.

        Args:
            x: arrays (samples, ...), a list or dict of them, a `PyDataset`, a generator or any
                iterable of batches `x`, `(x, y)` or `(x, y, sample_weight)`.
            y: targets, in the structure of the outputs; None when `x` brings them.
            batch_size: samples per step; 32 by default.
            epochs: the epoch to stop after.
            verbose: 0 silent, 1 progress bar, 2 one line per epoch.
            callbacks: list of callbacks.
            validation_split: part of the rows, the last ones, held back for validation.
            validation_data: `(x, y)`, `(x, y, sample_weight)` or a dataset.
            shuffle: whether the order of the rows changes every epoch.
            class_weight: from class number to weight.
            sample_weight: weights of the rows.
            initial_epoch: the epoch to start from, when training goes on.
            steps_per_epoch, validation_steps: batches per epoch; all by default.
            validation_batch_size: `batch_size` by default.
            validation_freq: validate every so many epochs, or a list of epochs (from 1).

        Returns:
            `History`, whose `history` holds the losses and metrics of each epoch.

        Raises:
            ValueError: the model is not compiled, or the data do not fit it.

        >>> history = model.fit(x, y, batch_size=2, epochs=3, verbose=0)
        >>> history.epoch, list(history.history)
        ([0, 1, 2], ['loss'])
        """
        self._require_compiled("fit")
        self.stop_training = False
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = train_validation_split(
                (x, y, sample_weight), validation_split
            )
        dataset = make_dataset(
            x, y, sample_weight, batch_size, shuffle, class_weight, steps=steps_per_epoch
        )
        first = self._first_batches(dataset)
        self._check_labels(dataset)
        validation = None
        if validation_data is not None:
            parts = _unpack_validation(validation_data)
            size = validation_batch_size or batch_size
            validation = make_dataset(*parts, batch_size=size, steps=validation_steps)
            self._check_labels(validation)
        callbacks = self._callback_list(
            callbacks, True, verbose, epochs=epochs, steps=dataset.num_batches
        )
        logs = {}
        self._initial_epoch = None
        callbacks.on_train_begin()
        if self._initial_epoch is not None:  # BackupAndRestore found an earlier run
            initial_epoch = self._initial_epoch
            if isinstance(dataset, PyDatasetAdapter):
                first = None  # its order was drawn before the random state was restored
        for epoch in range(initial_epoch, epochs):
            self.reset_metrics()
            callbacks.on_epoch_begin(epoch)
            outputs = self._loop("train", dataset, callbacks, first=first)
            first = None
            dataset.on_epoch_end()
            logs = self._logs(outputs)
            if validation is not None and _is_due(epoch, validation_freq):
                values = self._evaluate(validation, callbacks)
                logs.update({f"val_{name}": value for name, value in values.items()})
                logs = dict(sorted(logs.items()))
            callbacks.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        finalize = getattr(self.optimizer, "finalize_variable_values", None)
        if finalize is not None and epochs > 0:
            finalize(self.trainable_variables)
        callbacks.on_train_end(logs)
        return self.history

    def evaluate(
        self,
        x=None,
        y=None,
        batch_size: int | None = None,
        verbose="auto",
        sample_weight=None,
        steps: int | None = None,
        callbacks=None,
        return_dict: bool = False,
        **kwargs,
    ):
        """Returns the loss and the metrics on data.

        Args:
            x, y, sample_weight, batch_size, verbose, callbacks: as for `fit`.
            steps: number of batches; all by default.
            return_dict: return a dict by name instead of a list.

        Returns:
            The loss if there are no metrics, else a list of the loss and the metrics; or a dict.

        Raises:
            ValueError: the model is not compiled, or the data do not fit it.

        >>> model.compile("sgd", "mse", metrics=["mae"])
        >>> list(model.evaluate(x, y, verbose=0, return_dict=True))
        ['loss', 'mae']
        """
        if kwargs:
            raise ValueError(f"narae.Model.evaluate: unexpected arguments {sorted(kwargs)}.")
        self._require_compiled("evaluate")
        dataset = make_dataset(x, y, sample_weight, batch_size, steps=steps)
        first = self._first_batches(dataset)
        self._check_labels(dataset)
        callbacks = self._callback_list(
            callbacks, False, verbose, epochs=1, steps=dataset.num_batches
        )
        logs = self._evaluate(dataset, callbacks, first)
        return logs if return_dict else self._in_order(logs)

    def _evaluate(self, dataset, callbacks: CallbackList, first=None) -> dict:
        dataset.reset()
        callbacks.on_test_begin()
        self.reset_metrics()
        logs = self._logs(self._loop("test", dataset, callbacks, first=first))
        callbacks.on_test_end(logs)
        return logs

    def predict(self, x, batch_size: int | None = None, verbose="auto", steps=None, callbacks=None):
        """Returns the model's outputs as NumPy arrays.

        Args:
            x: arrays (samples, ...), a list or dict of them, or an iterable of batches.
            batch_size: samples per step; 32 by default.
            verbose: 0 silent, 1 progress bar.
            steps: number of batches; all by default.
            callbacks: list of callbacks.

        Returns:
            An array (samples, ...), or a structure of them.

        >>> model.predict(x, verbose=0).shape
        (4, 1)
        """
        dataset = make_dataset(x, None, None, batch_size, steps=steps)
        if isinstance(dataset, ArrayDataset) and not self.built:
            self._output_spec(map_arrays(lambda a: a[:1], dataset._arrays[0]))
        told = callbacks is not None or verbose != 0
        whole = isinstance(dataset, ArrayDataset) and dataset.num_samples <= dataset.batch_size
        if whole and not told:
            outputs = self._run_batch("predict", *dataset._arrays)
            return tree.map_structure(lambda y: np.atleast_1d(_to_own_array(y)), outputs)
        callbacks = self._callback_list(
            callbacks, False, verbose, epochs=1, steps=dataset.num_batches
        )
        samples = None
        if isinstance(dataset, ArrayDataset):
            samples = min(dataset.num_samples, dataset.num_batches * dataset.batch_size)
        collected = _Collector(samples)
        callbacks.on_predict_begin()
        step = self._step("predict")
        with contextlib.nullcontext() if step is None else step.lock:
            self._loop("predict", dataset, callbacks, collect=collected.add)
        callbacks.on_predict_end()
        return collected.result()

    def _loop(self, mode: str, dataset, callbacks: CallbackList, collect=None, first=None):
        """Runs the steps of one epoch and returns the outputs of the last one."""
        hooks = callbacks.batch_hooks(mode)
        begin = getattr(callbacks, f"on_{mode}_batch_begin")
        end = getattr(callbacks, f"on_{mode}_batch_end")
        before = self._before_train_step() if mode == "train" else None
        outputs = None
        for index, run in enumerate(self._runs(mode, dataset, first)):
            if hooks:
                begin(index)
            if before is not None:
                before()
            outputs = run()
            if collect is not None:
                collect(outputs)
            if hooks:
                if mode == "predict":
                    end(index, {"outputs": outputs})
                else:
                    end(index, functools.partial(self._logs, outputs))
                if self.stop_training and mode != "predict":
                    break
        return outputs

    def _callback_list(self, callbacks, history: bool, verbose, **params) -> CallbackList:
        if isinstance(callbacks, CallbackList):
            return callbacks
        verbose = 1 if verbose == "auto" else int(verbose)
        return CallbackList(
            callbacks,
            add_history=history,
            add_progbar=verbose != 0,
            model=self,
            verbose=verbose,
            **params,
        )

    def _first_batches(self, dataset):
        """Builds what the first batch asks for; returns an epoch that begins with that batch."""
        if isinstance(dataset, ArrayDataset):
            self._prepare(map_arrays(lambda a: a[: dataset.batch_size], dataset._arrays))
            return None
        epoch = dataset.epoch()
        batch = next(epoch, None)
        if batch is None:
            return epoch
        self._prepare(batch)
        return itertools.chain([batch], epoch)

    # Single batches

    def train_on_batch(
        self, x, y=None, sample_weight=None, class_weight=None, return_dict: bool = False
    ):
        """Trains on one batch and returns its loss and metrics.

        Args:
            x, y, sample_weight, class_weight: as for `fit`.
            return_dict: return a dict by name instead of a list.

        >>> first = model.train_on_batch(x, y)
        >>> model.train_on_batch(x, y) < first
        True
        """
        self._require_compiled("train_on_batch")
        batch = prepare_batch(x, y, sample_weight, class_weight)
        self._prepare(batch)
        self.reset_metrics()
        before = self._before_train_step()
        if before is not None:
            before()
        logs = self._logs(self._run_batch("train", *batch))
        return logs if return_dict else self._in_order(logs)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict: bool = False):
        """Returns the loss and the metrics of one batch.

        Args:
            x, y, sample_weight: as for `fit`.
            return_dict: return a dict by name instead of a list.
        """
        self._require_compiled("test_on_batch")
        batch = prepare_batch(x, y, sample_weight)
        self._prepare(batch)
        self.reset_metrics()
        logs = self._logs(self._run_batch("test", *batch))
        return logs if return_dict else self._in_order(logs)

    def predict_on_batch(self, x):
        """Returns the outputs for one batch as NumPy arrays."""
        batch = prepare_batch(x)
        if not self.built:
            self._output_spec(batch[0])
        return tree.map_structure(_to_own_array, self._run_batch("predict", *batch))


class _Collector:
    """Joins the outputs of batches along the first axis."""

    def __init__(self, samples: int | None):
        self._samples = samples
        self._structure = None
        self._whole = None  # arrays for all samples, when their number is known
        self._parts = []
        self._position = 0

    def add(self, outputs) -> None:
        arrays = [y.array for y in tree.flatten(outputs)]
        if self._structure is None:
            self._structure = tree.map_structure(lambda _: 0, outputs)
            if self._samples is not None and all(a.ndim for a in arrays):
                self._whole = [np.empty((self._samples, *a.shape[1:]), a.dtype) for a in arrays]
            self._parts = [[] for _ in arrays]
        start = self._position
        self._position += arrays[0].shape[0] if arrays[0].ndim else 1
        if self._whole is not None:
            fits = all(
                a.shape[1:] == w.shape[1:] and start + len(a) <= len(w)
                for a, w in zip(arrays, self._whole)
            )
            if fits:
                for a, whole in zip(arrays, self._whole):
                    whole[start : start + len(a)] = a
                return
            self._parts = [[whole[:start].copy()] for whole in self._whole]
            self._whole = None
        for a, parts in zip(arrays, self._parts):
            parts.append(np.atleast_1d(a).copy())

    def result(self):
        if self._structure is None:
            raise ValueError("narae.Model.predict: expected at least one batch. Received: none")
        if self._whole is not None:
            arrays = [whole[: self._position] for whole in self._whole]
        else:
            arrays = [
                parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in self._parts
            ]
        return tree.pack_sequence_as(self._structure, arrays)


def _unpack_validation(data) -> tuple:
    if isinstance(data, (list, tuple)) and not hasattr(data, "_fields"):
        return unpack_x_y_sample_weight(tuple(data))
    return data, None, None


def _is_due(epoch: int, frequency) -> bool:
    """Whether to validate after an epoch (counted from 0)."""
    if isinstance(frequency, (list, tuple, set, range)):
        return epoch + 1 in frequency
    if isinstance(frequency, int) and frequency > 0:
        return (epoch + 1) % frequency == 0
    raise ValueError(
        "narae.Model.fit: expected validation_freq to be a positive integer or a list of epochs. "
        f"Received: validation_freq={frequency!r}"
    )


def _to_float(value) -> float:
    if isinstance(value, Tensor):
        value = value.numpy()
    value = np.asarray(value)
    return float(value) if value.size == 1 else value.tolist()


def _to_own_array(y) -> np.ndarray:
    return np.array(y.array) if isinstance(y, Tensor) else np.asarray(y)


def _unbuilt(part) -> bool:
    return part is not None and not part.built


def _cast(model, dtype) -> str:
    dtype = np.dtype(dtype).name
    return model.compute_dtype if dtype.startswith("float") else dtype
