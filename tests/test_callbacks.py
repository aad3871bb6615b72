"""Callbacks, driven by a small stand-in for a model."""

import csv
import json
import math

import numpy as np
import pytest

import narae
from narae import callbacks
from narae.callbacks.monitor import MonitorCallback
from narae.engine import random as engine_random
from narae.training.callback import Callback, CallbackList, History


class Optimizer:
    built = True
    learning_rate = 0.1


class Model:
    """Counts epochs in its only weight; a save writes that weight."""

    trainable_variables = ()
    metrics = ()

    def __init__(self):
        self.optimizer = Optimizer()
        self.weight = 0.0
        self.stop_training = False
        self._initial_epoch = None
        self.saved = []

    def _flatten_layers(self):
        return []

    def get_weights(self):
        return [np.array(self.weight)]

    def set_weights(self, weights):
        self.weight = float(weights[0])

    def save(self, path, overwrite=True):
        self.saved.append(path)
        with open(path, "w") as file:
            file.write(str(self.weight))

    save_weights = save

    def load_weights(self, path):
        with open(path) as file:
            self.weight = float(file.read())


def fit(model, epochs_logs, callback_list, steps=2):
    """Runs the hooks as `fit` does; `epochs_logs` gives the logs of each epoch."""
    hooks = CallbackList(callback_list, add_history=True, model=model, epochs=len(epochs_logs))
    model._initial_epoch = None
    model.stop_training = False
    hooks.on_train_begin()
    for epoch in range(model._initial_epoch or 0, len(epochs_logs)):
        hooks.on_epoch_begin(epoch)
        for batch in range(steps):
            hooks.on_train_batch_begin(batch)
            model.weight += 1 / steps
            hooks.on_train_batch_end(batch, dict(epochs_logs[epoch]))
        hooks.on_epoch_end(epoch, dict(epochs_logs[epoch]))
        if model.stop_training:
            break
    hooks.on_train_end()
    return hooks.history


def losses(*values):
    return [{"loss": value, "val_loss": value} for value in values]


# --- the list


def test_order_and_history():
    model = Model()
    mine = Callback()
    hooks = CallbackList([[mine]], add_history=True, add_progbar=True, model=model, verbose=0)
    kinds = [type(c) for c in hooks.callbacks]
    assert kinds == [Callback, History, callbacks.ProgbarLogger]
    assert model.history is hooks.history and mine.model is model and mine.params == {"verbose": 0}
    history = fit(model, losses(3, 2), [])
    assert history.epoch == [0, 1] and history.history == {"loss": [3, 2], "val_loss": [3, 2]}


def test_batch_hooks_cost_nothing_when_unused():
    hooks = CallbackList([callbacks.EarlyStopping(), callbacks.ModelCheckpoint("a.keras")])
    assert not any(hooks.batch_hooks(mode) for mode in ("train", "test", "predict"))
    assert not hooks.needs_batch_logs
    bar = CallbackList(add_progbar=True, verbose=1)
    assert bar.batch_hooks("train") and not bar.needs_batch_logs
    assert CallbackList(callbacks.TerminateOnNaN()).needs_batch_logs
    assert CallbackList(callbacks.ModelCheckpoint("a.keras", save_freq=2)).needs_batch_logs
    old = type("Old", (Callback,), {"on_batch_end": lambda self, batch, logs: None})
    assert CallbackList(old()).needs_batch_logs


def test_logs_of_a_batch_are_made_once_and_only_if_read():
    made, seen = [], []

    def make():
        made.append(1)
        return {"loss": 1.0}

    class Lazy(Callback):
        _lazy_logs = True

        def on_train_batch_end(self, batch, logs=None):
            assert logs is make

    hooks = CallbackList([Lazy()])
    hooks.on_train_batch_end(0, make)
    assert not made
    for _ in range(2):
        hooks.append(
            [callbacks.LambdaCallback(on_train_batch_end=lambda b, logs: seen.append(logs))]
        )
    hooks.on_train_batch_end(1, make)
    assert len(made) == 1 and seen == [{"loss": 1.0}] * 2


def test_every_hook_is_called():
    names = [n for n in dir(Callback) if n.startswith("on_") and "on_batch" not in n]
    called = []
    hooks = CallbackList(
        callbacks.LambdaCallback(**{n: lambda *a, n=n: called.append(n) for n in names})
    )
    for name in names:
        getattr(hooks, name)(*([0] if "batch" in name or "epoch" in name else []))
    assert sorted(called) == sorted(names)


def test_what_is_no_callback():
    with pytest.raises(TypeError, match=r"Received: the class EarlyStopping; write EarlyStopping"):
        CallbackList([callbacks.EarlyStopping])
    with pytest.raises(TypeError, match="derived from narae.callbacks.Callback"):
        CallbackList([print])
    with pytest.raises(ValueError, match="names of hooks. Received: on_tea"):
        callbacks.LambdaCallback(on_tea=print)


# --- monitors


@pytest.mark.parametrize(
    "monitor, more",
    [("val_loss", False), ("accuracy", True), ("val_acc", True), ("auc_1", True), ("mse", False),
     ("val_root_mean_squared_error", False), ("sparse_categorical_crossentropy", False),
     ("sparse_categorical_accuracy", True), ("f1_score", True), ("mean_io_u", True),
     ("false_negatives", False), ("out_a_loss", False), ("r2_score", True),
     ("kl_divergence", False)],
)  # fmt: skip
def test_direction_from_the_name(monitor, more):
    callback = MonitorCallback(monitor)
    callback.set_model(Model())
    assert callback.current_value({monitor: 1.0}) == 1.0
    assert callback.is_better(2.0, 1.0) == more and callback.is_better(1.0, 2.0) != more


def test_direction_from_the_metric():
    metric = type("Metric", (), {"name": "tea", "_direction": "up"})()
    model = Model()
    model.metrics = [metric]
    callback = MonitorCallback("val_tea")
    callback.set_model(model)
    callback.current_value({"val_tea": 1.0})
    assert callback.is_better(2.0, 1.0)
    model.metrics = []
    with pytest.raises(ValueError, match="mode='min' or mode='max'.*monitor='val_tea'"):
        fit(model, [{"val_tea": 1.0}], callbacks.EarlyStopping("val_tea"))
    with pytest.warns(UserWarning, match="mode='up'; 'auto' is used"):
        callbacks.EarlyStopping(mode="up")


def test_missing_value_warns():
    with pytest.warns(UserWarning, match="'val_loss', which is not available. Available are: loss"):
        fit(Model(), [{"loss": 1.0}], callbacks.EarlyStopping())


# --- EarlyStopping, TerminateOnNaN


@pytest.mark.parametrize(
    "kwargs, values, epochs",
    [({}, [3, 2, 2, 1], 3), ({"patience": 2}, [3, 2, 2, 2, 1], 4),
     ({"patience": 2}, [3, 2, 2, 1], 4),
     ({}, [1, 2, 3], 2), ({"min_delta": 0.5}, [3, 2.8, 1], 2), ({"min_delta": 0.5}, [3, 2, 1], 3),
     ({"mode": "max"}, [3, 2, 1], 2), ({"start_from_epoch": 2}, [3, 4, 5, 6, 7], 4),
     ({"baseline": 1, "patience": 2}, [3, 2.5, 2, 1.5], 2), ({}, [math.nan, 2, 1, 0], 4),
     ({"patience": 1}, [2, math.nan, 1], 2)],
)  # fmt: skip
def test_early_stopping(kwargs, values, epochs):
    history = fit(Model(), losses(*values), callbacks.EarlyStopping(**kwargs))
    assert len(history.epoch) == epochs


def test_early_stopping_restores_the_best_weights(capsys):
    model = Model()
    stop = callbacks.EarlyStopping(patience=1, restore_best_weights=True, verbose=1)
    fit(model, losses(3, 1, 2, 0), stop)
    assert model.weight == 2.0 and stop.best == 1 and stop.stopped_epoch == 2
    assert capsys.readouterr().out == (
        "Epoch 3: early stopping\nRestoring model weights from the end of the best epoch: 2.\n"
    )
    fit(model, losses(3, 2), stop)  # used again, from the start
    assert model.weight == 4.0


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_terminate_on_nan(loss, capsys):
    history = fit(Model(), losses(1, loss, 1), callbacks.TerminateOnNaN())
    assert len(history.epoch) == 2
    assert "Batch 0: Invalid loss, terminating training" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="Invalid loss"):
        fit(Model(), losses(loss), callbacks.TerminateOnNaN(raise_error=True))


# --- learning rate


@pytest.mark.parametrize("schedule", [lambda e: 1 / (e + 1), lambda e, rate: 1 / (e + 1)])
def test_learning_rate_scheduler(schedule, capsys):
    scheduler = callbacks.LearningRateScheduler(schedule, verbose=1)
    history = fit(Model(), losses(3, 2, 1), scheduler)
    np.testing.assert_allclose(history.history["learning_rate"], [1, 1 / 2, 1 / 3])
    out = capsys.readouterr().out
    assert "\nEpoch 2: LearningRateScheduler setting learning rate to 0.5.\n" in out


def test_learning_rate_errors():
    with pytest.raises(ValueError, match="schedule to return a number. Received: 'fast'"):
        fit(Model(), losses(1), callbacks.LearningRateScheduler(lambda e: "fast"))
    with pytest.raises(KeyError):  # an error inside the schedule is the schedule's own
        fit(Model(), losses(1), callbacks.LearningRateScheduler(lambda e: {}[e]))
    model = Model()
    model.optimizer = None
    with pytest.raises(ValueError, match="optimizer to have a learning rate"):
        fit(model, losses(1), callbacks.ReduceLROnPlateau())
    with pytest.raises(ValueError, match="factor to be below 1. Received: factor=1"):
        callbacks.ReduceLROnPlateau(factor=1)


@pytest.mark.parametrize(
    "kwargs, values, rates",
    [({"patience": 1}, [3, 3, 3], [0.1, 0.1, 0.01]),
     ({"patience": 2}, [3, 3, 3, 3], [0.1, 0.1, 0.1, 0.01]),
     ({"patience": 1, "min_lr": 0.05}, [3, 3, 3, 3], [0.1, 0.1, 0.05, 0.05]),
     ({"patience": 1, "min_delta": 0.5}, [3, 2.9, 2.8], [0.1, 0.1, 0.01]),
     ({"patience": 1, "cooldown": 2, "factor": 0.5}, [3] * 5, [0.1, 0.1, 0.05, 0.05, 0.025])],
)  # fmt: skip
def test_reduce_lr_on_plateau(kwargs, values, rates):
    history = fit(Model(), losses(*values), callbacks.ReduceLROnPlateau(**kwargs))
    np.testing.assert_allclose(history.history["learning_rate"], rates, rtol=1e-6)


# --- checkpoints


def test_model_checkpoint(tmp_path, capsys):
    model = Model()
    path = str(tmp_path / "new" / "{epoch:02d}-{val_loss:.1f}.keras")
    fit(model, losses(3, 2), callbacks.ModelCheckpoint(path, verbose=1))
    assert [p[-13:] for p in model.saved] == ["/01-3.0.keras", "/02-2.0.keras"]
    assert f"\nEpoch 1: saving model to {model.saved[0]}\n" in capsys.readouterr().out


def test_model_checkpoint_saves_the_best(tmp_path, capsys):
    model, path = Model(), str(tmp_path / "best.weights.h5")
    best = callbacks.ModelCheckpoint(path, save_best_only=True, save_weights_only=True, verbose=1)
    fit(model, losses(2, 3, 1), best)
    assert len(model.saved) == 2 and best.best == 1
    assert capsys.readouterr().out == (
        f"\nEpoch 1: val_loss improved from None to 2.00000, saving model to {path}\n"
        f"\nEpoch 1: finished saving model to {path}\n"
        "\nEpoch 2: val_loss did not improve from 2.00000\n"
        f"\nEpoch 3: val_loss improved from 2.00000 to 1.00000, saving model to {path}\n"
        f"\nEpoch 3: finished saving model to {path}\n"
    )
    model.saved.clear()
    threshold = callbacks.ModelCheckpoint(
        path, save_best_only=True, save_weights_only=True, initial_value_threshold=1.5
    )
    fit(model, losses(2, 1), threshold)
    assert len(model.saved) == 1


def test_model_checkpoint_counts_batches(tmp_path):
    model = Model()
    path = str(tmp_path / "{epoch}-{batch}.keras")
    fit(model, losses(2, 1), callbacks.ModelCheckpoint(path, save_freq=3), steps=4)
    assert [p[-9:] for p in model.saved] == ["1-3.keras", "2-2.keras"]


@pytest.mark.parametrize(
    "args, kwargs, message",
    [(["a.h6"], {}, "end in .keras"), (["a.weights.h5"], {}, "end in .keras"),
     (["a.keras"], {"save_weights_only": True}, "end in .weights.h5"),
     (["a.keras"], {"save_freq": "step"}, "save_freq to be"),
     (["a.keras"], {"save_freq": 0}, "save_freq to be")],
)  # fmt: skip
def test_wrong_checkpoints(args, kwargs, message):
    with pytest.raises(ValueError, match=message):
        callbacks.ModelCheckpoint(*args, **kwargs)


def test_checkpoint_path_names_what_is_known(tmp_path):
    with pytest.raises(KeyError, match="val_acc"):
        fit(Model(), losses(1), callbacks.ModelCheckpoint(str(tmp_path / "{val_acc}.keras")))


def test_backup_and_restore(tmp_path):
    folder = tmp_path / "backup"

    def run(fail_at=None):
        def drawn_at(epoch, logs):
            if epoch == fail_at:
                raise KeyboardInterrupt
            drawn.append(engine_random.draw_seed())

        model = Model()
        fit(
            model,
            losses(4, 3, 2, 1),
            [callbacks.LambdaCallback(on_epoch_begin=drawn_at), callbacks.BackupAndRestore(folder)],
        )
        return model

    drawn = []
    engine_random.set_random_seed(1)
    run()
    assert not folder.exists()  # deleted after a run that ended well
    unbroken, drawn = drawn, []
    engine_random.set_random_seed(1)
    with pytest.raises(KeyboardInterrupt):
        run(fail_at=2)
    assert sorted(p.name for p in folder.iterdir()) == ["state_2.weights.h5", "training_state.json"]
    engine_random.set_random_seed(99)
    model = run()
    assert model.weight == 4.0 and model._initial_epoch == 2
    assert drawn == unbroken


def test_backup_options(tmp_path):
    folder = tmp_path / "backup"
    backup = callbacks.BackupAndRestore(folder, double_checkpoint=True, delete_checkpoint=False)
    fit(Model(), losses(3, 2, 1), backup)
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["state_2.weights.h5", "state_3.weights.h5", "training_state.json"]
    assert json.loads((folder / "training_state.json").read_text())["epoch"] == 3
    model = Model()
    fit(model, losses(3, 2, 1), callbacks.BackupAndRestore(folder, save_freq=3), steps=4)
    assert model.weight == 3.0 and not folder.exists()
    with pytest.raises(ValueError, match="backup_dir=''"):
        callbacks.BackupAndRestore("")
    with pytest.raises(ValueError, match="save_freq"):
        callbacks.BackupAndRestore(tmp_path, save_freq=False)


# --- CSVLogger


def read_csv(path, separator=","):
    with open(path, newline="") as file:
        return list(csv.reader(file, delimiter=separator))


def test_csv_logger(tmp_path):
    path = tmp_path / "log.csv"
    logger = callbacks.CSVLogger(path)
    fit(Model(), [{"loss": 0.5, "acc": 1.0}, {"loss": 0.25, "acc": 1.0, "val_loss": 2.0}], logger)
    assert path.read_text() == "epoch,acc,loss,val_loss\n0,1.0,0.5,NA\n1,1.0,0.25,2.0\n"
    fit(Model(), [{"loss": 0.5}], logger)
    assert read_csv(path) == [["epoch", "loss"], ["0", "0.5"]]
    fit(Model(), [{"loss": 0.1, "mae": 3}], callbacks.CSVLogger(path, append=True))
    assert read_csv(path) == [["epoch", "loss", "mae"], ["0", "0.5", "NA"], ["0", "0.1", "3"]]
    fit(Model(), losses(1), callbacks.CSVLogger(path, separator=";"))
    assert read_csv(path, ";")[0] == ["epoch", "loss", "val_loss"]
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]


def test_swap_ema_weights():
    class Variable:
        def __init__(self, value):
            self.value = np.float32(value)

        def numpy(self):
            return self.value

        def assign(self, value):
            self.value = np.float32(value)

    model = Model()
    weight, average = Variable(1), Variable(5)
    model.optimizer._trainable_variables = [weight]
    with pytest.raises(ValueError, match="use_ema=True"):
        CallbackList(callbacks.SwapEMAWeights(), model=model).on_test_begin()
    model.optimizer.use_ema = True
    model.optimizer._averages = [average]
    hooks = CallbackList(callbacks.SwapEMAWeights(), model=model)
    hooks.on_test_begin()
    assert (weight.value, average.value) == (5, 1)
    hooks.on_test_end()
    assert (weight.value, average.value) == (1, 5)
    hooks = CallbackList(callbacks.SwapEMAWeights(swap_on_epoch=True), model=model)
    hooks.on_epoch_begin(0)
    hooks.on_epoch_end(0)
    assert weight.value == 5
    hooks.on_epoch_begin(1)
    assert weight.value == 1


# --- with a model of narae


def small_model(optimizer="adam"):
    hidden = [narae.layers.Dense(4), narae.layers.Dropout(0.25)]
    model = narae.Sequential([narae.Input((3,)), *hidden, narae.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


def fit_model(model, *callback_list, epochs=4):
    x = np.random.default_rng(0).standard_normal((50, 3)).astype("float32")
    return model.fit(x, x.sum(1), batch_size=8, epochs=epochs, verbose=0, callbacks=callback_list)


class Killed(Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def test_a_resumed_fit_repeats_the_bits_of_an_unbroken_one(tmp_path):
    def run(seed, *callback_list):
        narae.utils.set_random_seed(seed)
        model = small_model()
        history = fit_model(model, callbacks.BackupAndRestore(tmp_path / "state"), *callback_list)
        return model.get_weights(), history

    unbroken, history = run(1)
    with pytest.raises(KeyboardInterrupt):
        run(1, Killed())
    resumed, resumed_history = run(2)
    assert resumed_history.epoch == [2, 3]
    assert resumed_history.history["loss"] == history.history["loss"][2:]
    for a, b in zip(unbroken, resumed):
        np.testing.assert_array_equal(a, b)


def test_best_model_on_disk(tmp_path):
    model, path = small_model(), tmp_path / "best.keras"
    best = callbacks.ModelCheckpoint(path, monitor="loss", save_best_only=True)
    fit_model(model, best, callbacks.CSVLogger(tmp_path / "log.csv"))
    loaded = narae.saving.load_model(path)
    x = np.ones((5, 3), "float32")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert len(read_csv(tmp_path / "log.csv")) == 5


def test_learning_rates_reach_the_optimizer():
    model = small_model()
    history = fit_model(model, callbacks.LearningRateScheduler(lambda epoch: 0.5**epoch))
    np.testing.assert_allclose(history.history["learning_rate"], [1, 0.5, 0.25, 0.125])
    assert float(model.optimizer.learning_rate) == 0.125
    rate = narae.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    model = small_model(narae.optimizers.SGD(rate))
    with pytest.raises(TypeError, match="ExponentialDecay"):
        fit_model(model, callbacks.LearningRateScheduler(lambda epoch: 0.1))


def test_averages_are_swapped_in_for_evaluation():
    model = small_model(narae.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.5))
    weights = {}

    def keep(name):
        return lambda *_: weights.update({name: model.get_weights()[0]})

    look = callbacks.LambdaCallback(on_epoch_end=keep("own"), on_test_begin=keep("average"))
    x = np.ones((8, 3), "float32")
    model.fit(x, x.sum(1), verbose=0, epochs=2, validation_data=(x, x.sum(1)),
              callbacks=[callbacks.SwapEMAWeights(), look])  # fmt: skip
    assert not np.array_equal(weights["own"], weights["average"])
    np.testing.assert_array_equal(model.get_weights()[0], weights["average"])  # fit's end
