"""compile, fit, evaluate, predict: numbers, names, data, and what is recorded."""

import re

import numpy as np
import pytest

import narae
from narae import Input, Model, Sequential, _core, layers, ops


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def classifier(**kwargs):
    model = Sequential([Input((4,)), layers.Dense(8, activation="relu"), layers.Dense(3)])
    model.add(layers.Softmax())
    arguments = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"], **kwargs}
    model.compile(narae.optimizers.SGD(0.1), **arguments)
    x = numbers(50, 4)
    return model, x, (x[:, 0] > 0).astype("int32") + (x[:, 1] > 0)


def linear(units=1, **kwargs):
    model = Sequential(
        [Input((3,)), layers.Dense(units, use_bias=False, kernel_initializer="ones")]
    )
    model.compile(narae.optimizers.SGD(0.1), **{"loss": "mse", **kwargs})
    return model


def two_outputs(**kwargs):
    x = Input((3,))
    model = Model(x, [layers.Dense(1, name="a")(x), layers.Dense(2, name="b")(x)])
    model.compile("sgd", **kwargs)
    return model, numbers(10, 3), [numbers(10, 1), numbers(10, 2)]


# Numbers


def test_one_step_is_gradient_descent():
    model, x, y = linear(), numbers(8, 3), numbers(8, 1)
    w = np.ones((3, 1))
    model.train_on_batch(x, y)
    expected = w - 0.1 * 2 * x.T @ (x @ w - y) / 8
    np.testing.assert_allclose(model.get_weights()[0], expected, rtol=1e-5)


def test_the_reported_loss_is_the_mean_over_samples():
    model, x, y = linear(), numbers(10, 3), numbers(10, 1)
    loss = model.evaluate(x, y, batch_size=4, verbose=0)
    np.testing.assert_allclose(loss, np.mean((x.sum(1, keepdims=True) - y) ** 2), rtol=1e-5)


def test_sample_weights_divide_by_the_number_of_samples():
    model, x, y = linear(), numbers(4, 3), numbers(4, 1)
    weights = np.array([1, 0, 2, 1], "float32")
    squares = (x.sum(1, keepdims=True) - y)[:, 0] ** 2
    loss = model.evaluate(x, y, sample_weight=weights, verbose=0)
    np.testing.assert_allclose(loss, np.mean(squares * weights), rtol=1e-5)


def test_class_weights_are_sample_weights():
    model, x, y = classifier()
    twin, _, _ = classifier()
    twin.set_weights(model.get_weights())
    model.train_on_batch(x, y, class_weight={0: 1.0, 1: 2.0, 2: 0.5})
    twin.train_on_batch(x, y, sample_weight=np.array([1.0, 2.0, 0.5])[y])
    np.testing.assert_array_equal(model.get_weights()[0], twin.get_weights()[0])


def test_added_losses_and_regularizers_count():
    x = Input((3,))
    y = layers.Dense(1, use_bias=False, kernel_initializer="ones", kernel_regularizer="l2")(x)
    model = Model(x, layers.ActivityRegularization(l1=0.5)(y))
    model.compile("sgd", "mse")
    data, target = numbers(4, 3), numbers(4, 1)
    out = data.sum(1, keepdims=True)
    expected = np.mean((out - target) ** 2) + 0.01 * 3 + 0.5 * np.abs(out).sum() / 4
    np.testing.assert_allclose(model.evaluate(data, target, verbose=0), expected, rtol=1e-5)


def test_training_without_a_loss_is_refused():
    model = linear(loss=None)
    with pytest.raises(ValueError, match="expected a loss"):
        model.fit(numbers(4, 3), numbers(4, 1), verbose=0)


def test_fit_learns():
    model, x, y = classifier()
    history = model.fit(x, y, epochs=60, verbose=0).history
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    assert history["accuracy"][-1] > 0.8


# Kernels' gradients that are never stored


class Twice(layers.Layer):
    """A dense kernel used twice, and once more on a variable."""

    def build(self, shape):
        self.other = self.add_weight((80, 200), "glorot_uniform", name="other")
        self.kernel = self.add_weight((200, 200), "glorot_uniform", name="kernel")

    def call(self, x):
        h = ops.dense(ops.tanh(ops.dense(x, self.kernel)), self.kernel)
        return h + ops.mean(ops.dense(self.other, self.kernel), axis=0)


class OnVariable(Twice):
    """A dense kernel used on a variable only, which an optimizer may change before the kernel."""

    def call(self, x):
        return x + ops.mean(ops.dense(self.other, self.kernel), axis=0)


class Own(narae.optimizers.Optimizer):
    """Descent of one's own, made of ops."""

    def update_step(self, gradient, variable, learning_rate):
        variable.assign_sub(learning_rate * gradient)


class OwnApply(narae.optimizers.SGD):
    """One variable after the other."""

    def apply(self, grads, trainable_variables=None):
        for gradient, variable in zip(grads, trainable_variables):
            variable.assign_sub(0.1 * gradient)


SGD, ADAM = narae.optimizers.SGD, narae.optimizers.Adam
# Products made in a step of two dense layers and those multiplied out, the optimizer, the layers'
# arguments or the first layer.
KEPT = {
    "sgd": (2, 0, lambda: SGD(0.1), {}),
    "adam": (2, 0, lambda: ADAM(weight_decay=0.1, clipvalue=0.01, use_ema=True), {}),
    "amsgrad, too few samples": (0, 0, lambda: ADAM(amsgrad=True), {}),
    "clipnorm": (0, 0, lambda: ADAM(clipnorm=0.1), {}),
    "global_clipnorm": (0, 0, lambda: ADAM(global_clipnorm=0.1), {}),
    "accumulation": (0, 0, lambda: ADAM(gradient_accumulation_steps=2), {}),
    "regularizer": (2, 2, lambda: SGD(0.1), {"kernel_regularizer": "l2"}),
    "constraint": (2, 0, lambda: SGD(0.1), {"kernel_constraint": "max_norm"}),
    "twice": (4, 3, lambda: SGD(0.1), Twice),
    "on a variable": (2, 1, lambda: SGD(0.1), OnVariable),
    "on a variable, own steps": (0, 0, lambda: Own(0.1), OnVariable),
    "on a variable, own apply": (0, 0, lambda: OwnApply(0.1), OnVariable),
    "on a variable, Lamb": (0, 0, lambda: narae.optimizers.Lamb(0.1), OnVariable),
}


@pytest.mark.parametrize("case", KEPT)
@pytest.mark.parametrize("eager", [False, True])
def test_kernels_are_updated_without_their_gradients(case, eager, monkeypatch):
    """The same weights as from gradients that a GradientTape gives."""
    *expected, make, first = KEPT[case]
    if _core.isa() == "base":  # gains from no factors
        expected = [0, 0]
    arguments = first if isinstance(first, dict) else {}

    class Plain(Sequential):
        def train_step(self, data):
            x, y = data
            with narae.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            variables = self.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            return {"loss": loss}

    counts = [0, 0]
    init, array = ops.gemm.Product.__init__, ops.gemm.Product.array.fget

    def counting_init(self, *factors):
        counts[0] += 1
        init(self, *factors)

    def counting_array(self):
        counts[1] += self.factors is not None
        return array(self)

    monkeypatch.setattr(ops.gemm.Product, "__init__", counting_init)
    monkeypatch.setattr(ops.gemm.Product, "array", property(counting_array))
    x, y = numbers(80, 200), numbers(80, 200, seed=1)
    results = []
    for kind in (Plain, Sequential):
        narae.utils.set_random_seed(1)
        middle = (
            layers.Dense(200, activation="relu", **arguments) if first is arguments else first()
        )
        model = kind([Input((200,)), middle, layers.Dense(200, **arguments)])
        model.compile(make(), "mse", run_eagerly=eager, jit_compile=not eager)
        for _ in range(4):
            model.train_on_batch(x, y)
        results.append(model.get_weights())
        steps = 0 if kind is Plain else 4 if eager else 1
        assert counts == [steps * n for n in expected]
    for one, other in zip(*results):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


# Names and forms of results


def test_history_is_alphabetical_with_validation_after():
    model, x, y = classifier(metrics=["sparse_categorical_accuracy", "acc"])
    history = model.fit(x, y, validation_split=0.2, epochs=2, verbose=0)
    names = ["acc", "loss", "sparse_categorical_accuracy"]
    assert list(history.history) == names + [f"val_{name}" for name in names]
    assert history.epoch == [0, 1]
    assert history.params == {"verbose": 0, "epochs": 2, "steps": 2}
    assert all(isinstance(v, float) for values in history.history.values() for v in values)


def test_evaluate_gives_a_list_in_compile_order_or_a_dict():
    model, x, y = classifier(metrics=["sparse_categorical_accuracy", "acc"])
    values = model.evaluate(x, y, verbose=0)
    named = model.evaluate(x, y, verbose=0, return_dict=True)
    assert list(named) == ["acc", "loss", "sparse_categorical_accuracy"]
    assert values == [named["loss"], named["sparse_categorical_accuracy"], named["acc"]]
    assert isinstance(linear().evaluate(numbers(2, 3), numbers(2, 1), verbose=0), float)


def test_train_on_batch_forgets_the_batch_before():
    model, x, y = linear(), numbers(4, 3), numbers(4, 1)
    model.train_on_batch(x, y)
    expected = model.test_on_batch(x, y)
    assert model.train_on_batch(x, y) == pytest.approx(expected)
    assert list(model.train_on_batch(x, y, return_dict=True)) == ["loss"]


@pytest.mark.parametrize(
    ("loss", "metrics"),
    [
        ("mse", [["mae"], ["mse"]]),
        (["mse", "mse"], {"a": "mae", "b": ["mse"]}),
        ({"a": "mse", "b": "mse"}, {"a": ["mae"], "b": "mse"}),
    ],
)
def test_names_of_several_outputs(loss, metrics):
    model, x, y = two_outputs(loss=loss, metrics=metrics)
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    assert list(logs) == ["a_loss", "a_mae", "b_loss", "b_mse", "loss"]
    assert logs["loss"] == pytest.approx(logs["a_loss"] + logs["b_loss"], rel=1e-5)
    assert model.metrics_names == ["loss", "compile_metrics", "a_loss", "b_loss"]


@pytest.mark.parametrize("weights", [[2.0, 0.5], {"a": 2.0, "b": 0.5}])
def test_loss_weights(weights):
    model, x, y = two_outputs(loss="mse", loss_weights=weights)
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(2 * logs["a_loss"] + 0.5 * logs["b_loss"], rel=1e-5)


def test_targets_by_name_and_an_output_without_a_loss():
    model, x, y = two_outputs(loss={"b": "mse"})
    named = model.evaluate(x, {"a": y[0], "b": y[1]}, verbose=0)
    assert named == model.evaluate(x, {"b": y[1]}, verbose=0)


def test_repeated_metrics_are_numbered():
    model, x, y = classifier(metrics=["acc", "acc"], weighted_metrics=["acc"])
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    assert list(logs) == ["acc", "acc_1", "loss", "weighted_acc"]


def test_weighted_metrics_see_the_weights():
    model = linear(metrics=["mae"], weighted_metrics=[narae.metrics.MeanAbsoluteError(name="w")])
    x, y = numbers(2, 3), numbers(2, 1)
    errors = np.abs(x.sum(1, keepdims=True) - y)[:, 0]
    weights = np.array([1.0, 3.0])
    logs = model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    assert logs["mae"] == pytest.approx(errors.mean(), rel=1e-5)
    assert logs["w"] == pytest.approx((errors * weights).sum() / 4, rel=1e-5)


@pytest.mark.parametrize(
    ("units", "y", "kind"),
    [
        (1, np.zeros((4, 1)), "BinaryAccuracy"),
        (3, np.zeros((4,), int), "SparseCategoricalAccuracy"),
        (3, np.zeros((4, 1), int), "SparseCategoricalAccuracy"),
        (3, np.zeros((4, 3)), "CategoricalAccuracy"),
    ],
)
def test_accuracy_picks_its_kind(units, y, kind):
    loss = "sparse_categorical_crossentropy" if y.dtype == int else "mse"
    model = linear(units, loss=loss, metrics=["accuracy"])
    model.evaluate(numbers(4, 3), y, verbose=0)
    assert type(model._compiled_metrics.metrics[0]).__name__ == kind


# Predict


def test_predict_equals_call():
    model, x, _ = classifier()
    np.testing.assert_array_equal(model.predict(x, verbose=0, batch_size=50), model(x).numpy())
    np.testing.assert_array_equal(model.predict_on_batch(x[:7]), model(x[:7]).numpy())
    assert model.predict(x, batch_size=8, verbose=0).shape == (50, 3)
    assert model.predict(x, batch_size=8, steps=2, verbose=0).shape == (16, 3)


def test_predictions_do_not_share_memory_with_the_next_call():
    model, x, _ = classifier()
    first = model.predict_on_batch(x[:4])
    kept = first.copy()
    model.predict_on_batch(x[4:8])
    np.testing.assert_array_equal(first, kept)


def test_predict_keeps_the_structure_of_outputs():
    x = Input((3,))
    model = Model(x, {"one": x * 2.0, "two": x + 1.0})
    result = model.predict(numbers(5, 3), batch_size=2, verbose=0)
    assert result["one"].shape == (5, 3) and set(result) == {"one", "two"}


# Data


def batches(x, y, size=10):
    for i in range(0, len(x), size):
        yield x[i : i + size], y[i : i + size]


def test_a_generator_trains_like_arrays():
    model, x, y = classifier()
    twin, _, _ = classifier()
    twin.set_weights(model.get_weights())
    a = model.fit(x, y, batch_size=10, shuffle=False, verbose=0).history
    b = twin.fit(batches(x, y), verbose=0).history
    assert a == b
    np.testing.assert_array_equal(model.get_weights()[0], twin.get_weights()[0])


def test_validation_frequency_and_data():
    model, x, y = classifier()
    history = model.fit(x, y, validation_data=(x, y), validation_freq=2, epochs=4, verbose=0)
    assert len(history.history["val_loss"]) == 2
    history = model.fit(x, y, validation_data=batches(x, y), validation_freq=[1], verbose=0)
    assert len(history.history["val_loss"]) == 1


def test_steps_per_epoch_and_initial_epoch():
    model, x, y = classifier()
    history = model.fit(x, y, batch_size=5, steps_per_epoch=3, epochs=4, initial_epoch=2, verbose=0)
    assert history.epoch == [2, 3]
    assert int(model.optimizer.iterations) == 6


def test_shuffling_depends_on_the_seed_only():
    results = []
    for _ in range(2):
        narae.utils.set_random_seed(5)
        model, x, y = classifier()
        model.fit(x, y, epochs=2, batch_size=8, verbose=0)
        results.append(model.get_weights()[0])
    np.testing.assert_array_equal(*results)


# Callbacks


class Counter(narae.callbacks.Callback):
    def __init__(self, stop_after=None):
        super().__init__()
        self.calls, self.stop_after = [], stop_after

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append((batch, sorted(logs)))
        if self.stop_after is not None and len(self.calls) == self.stop_after:
            self.model.stop_training = True


def test_batch_hooks_get_logs_and_can_stop_training():
    model, x, y = classifier()
    counter = Counter(stop_after=3)
    history = model.fit(x, y, batch_size=10, epochs=5, callbacks=[counter], verbose=0)
    assert counter.calls == [(i, ["accuracy", "loss"]) for i in range(3)]
    assert history.epoch == [0]


def test_learning_rate_schedules_act_on_every_step():
    schedule = narae.optimizers.schedules.ExponentialDecay(1.0, 1, 0.5)
    model = Sequential([Input((3,)), layers.Dense(1)])
    model.compile(narae.optimizers.SGD(schedule), "mse")
    model.fit(numbers(8, 3), numbers(8, 1), batch_size=2, verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.5**4)


# Recording


def test_models_of_own_layers_are_replayed():
    model, x, y = classifier()
    assert model.recording_status == "to be recorded at the first step"
    model.fit(x, y, epochs=2, verbose=0)
    model.predict(x, verbose=0)
    assert model.recording_status == "replayed: train, predict"


@pytest.mark.parametrize("batch_size", [10, 16, 50])
def test_replayed_and_eager_training_give_the_same_bits(batch_size):
    results = []
    for eager in (False, True):
        narae.utils.set_random_seed(3)
        model, x, y = classifier(run_eagerly=eager)
        history = model.fit(x, y, epochs=3, batch_size=batch_size, verbose=0).history
        results.append((history, [w.tobytes() for w in model.get_weights()]))
    assert results[0] == results[1]


class OwnLayer(layers.Layer):
    def call(self, x):
        return x * 2.0


def own_loss(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


@pytest.mark.parametrize(
    ("parts", "arguments", "reason"),
    [
        ([OwnLayer()], {}, "OwnLayer 'own_layer.*jit_compile=True"),
        ([], {"loss": own_loss}, "own_loss"),
        ([], {"run_eagerly": True}, "run_eagerly=True"),
        ([], {"jit_compile": False}, "jit_compile=False"),
    ],
)
def test_code_of_the_users_runs_eagerly(parts, arguments, reason):
    model = Sequential([Input((3,)), *parts, layers.Dense(1)])
    model.compile("sgd", **{"loss": "mse", **arguments})
    model.fit(numbers(4, 3), numbers(4, 1), verbose=0)
    assert model.recording_status.startswith("eager: ")
    assert re.search(reason, model.recording_status)


def test_jit_compile_records_code_of_the_users():
    model = Sequential([Input((3,)), OwnLayer(), layers.Dense(1)])
    model.compile("sgd", own_loss, jit_compile=True)
    model.fit(numbers(4, 3), numbers(4, 1), verbose=0, epochs=2)
    assert model.recording_status == "replayed: train"


def test_reading_a_value_makes_a_step_eager_and_says_why():
    class Reader(layers.Layer):
        def call(self, x):
            return x * float(ops.max(x))

    model = Sequential([Input((3,)), Reader(), layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=True)
    model.fit(numbers(4, 3), numbers(4, 1), verbose=0, epochs=2)
    assert "float() reads the value" in model.recording_status


def test_freezing_a_layer_is_noticed():
    model, x, y = classifier()
    model.fit(x, y, verbose=0)
    model.layers[0].trainable = False
    before = model.layers[0].get_weights()[0]
    model.fit(x, y, verbose=0)
    np.testing.assert_array_equal(model.layers[0].get_weights()[0], before)


# Steps of the user's own


def test_a_custom_train_step():
    class Custom(Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)
            self.tracker = narae.metrics.Mean(name="distance")

        def call(self, x):
            return self.dense(x)

        @property
        def metrics(self):
            return [self.tracker]

        def train_step(self, data):
            x, y = data
            with narae.GradientTape() as tape:
                loss = ops.mean(ops.abs(self(x, training=True) - y))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
            self.tracker.update_state(loss)
            return {"distance": self.tracker.result()}

    model = Custom()
    model.compile(narae.optimizers.SGD(0.05))
    x = numbers(64, 3)
    history = model.fit(x, x[:, :1], epochs=20, verbose=0).history
    assert list(history) == ["distance"]
    assert history["distance"][-1] < 0.5 * history["distance"][0]


def test_a_custom_compute_loss():
    class Custom(Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ops.mean(ops.abs(y_pred - y))

    model = Custom()
    model.compile("sgd")
    logs = model.train_on_batch(numbers(4, 3), numbers(4, 1), return_dict=True)
    assert list(logs) == ["loss"]


# Mistakes


def test_using_an_uncompiled_model():
    model = Sequential([layers.Dense(1)])
    for method in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(ValueError, match=r"You must call compile\(\)"):
            method(numbers(2, 2), numbers(2, 1))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda y: y + 5, r"from 0 to 2, because the output has 3 unit.*from 5 to 7.*y - 5"),
        (lambda y: y * 2, r"Give the last layer 5 units"),
        (lambda y: y - 1, "must not be negative"),
        (lambda y: np.eye(3)[y], "one-hot rows.*categorical_crossentropy"),
    ],
)
def test_labels_that_do_not_fit_sparse_crossentropy(labels, message):
    model, x, y = classifier()
    with pytest.raises(ValueError, match=message):
        model.fit(x, labels(y), verbose=0)


@pytest.mark.parametrize("labels", [lambda y: y, lambda y: y[:, None]])
def test_integer_labels_with_categorical_crossentropy(labels):
    model, x, y = classifier(loss="categorical_crossentropy", metrics=None)
    with pytest.raises(
        ValueError, match=r"sparse_categorical_crossentropy.*to_categorical\(y, 3\)"
    ):
        model.fit(x, labels(y), verbose=0)


def test_missing_targets():
    model, x, _ = classifier()
    with pytest.raises(ValueError, match="expected targets"):
        model.fit(x, verbose=0)


def test_rows_that_do_not_match():
    model, x, y = classifier()
    with pytest.raises(ValueError, match="x: 50, y: 49"):
        model.fit(x, y[:-1], verbose=0)


def test_a_wrong_width_names_the_layer():
    model, x, y = classifier()
    with pytest.raises(ValueError, match=r"\(50?, ?7\)|\(32, 7\)"):
        model.fit(numbers(50, 7), y, verbose=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": "accuracy"}, "expected metrics to be a list or dict"),
        ({"loss": {"wrong": "mse", "b": "mse"}}, "keys of loss to be names of outputs"),
        ({"loss": ["mse", "mse", "mse"]}, "one entry for each of the 2 outputs"),
        ({"loss": "mse", "jit_compile": "yes"}, "jit_compile to be True, False or 'auto'"),
    ],
)
def test_bad_compile_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        model, x, y = two_outputs(**arguments)
        model.fit(x, y, verbose=0)


def test_compile_config_round_trip():
    model, x, y = classifier(metrics=["acc", narae.metrics.AUC(name="area")])
    copy, _, _ = classifier()
    copy.compile_from_config(model.get_compile_config())
    assert copy.get_compile_config() == model.get_compile_config()
