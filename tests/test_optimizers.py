"""Optimizers against the real Keras: weights after steps, state in its order, configs, messages."""

import copy
import os
import pickle

import numpy as np
import pytest

from helpers import randn
from narae import ops, optimizers
from narae.engine.naming import name_scope
from narae.engine.recording import RecordedStep
from narae.engine.variable import Variable
from narae.optimizers import schedules

os.environ.setdefault("KERAS_BACKEND", "jax")

SHAPES = {"kernel": (5, 7), "bias": (7,), "scale": ()}
ALL = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "beta_1": 0.5, "beta_2": 0.7, "epsilon": 1e-3}),
    ("AdamW", {}),
    ("Nadam", {}),
    ("Adamax", {}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.5}),
    ("RMSprop", {"centered": True, "rho": 0.5}),
    ("RMSprop", {"momentum": 0.5, "centered": True}),
    ("Adagrad", {}),
    ("Adadelta", {"learning_rate": 1.0}),
    ("Ftrl", {"l1_regularization_strength": 0.01, "l2_regularization_strength": 0.02}),
    ("Ftrl", {"beta": 0.1, "l2_shrinkage_regularization_strength": 0.1}),
    ("Lion", {}),
    ("Lamb", {}),
    ("Adafactor", {}),
]
EXTRAS = [
    {},
    {"weight_decay": 0.1},
    {"clipvalue": 0.3},
    {"clipnorm": 0.8},
    {"global_clipnorm": 0.8},
    {"use_ema": True, "ema_momentum": 0.8},
    {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 2},
    {"loss_scale_factor": 8.0, "clipnorm": 0.1},
    {"gradient_accumulation_steps": 2},
    {"gradient_accumulation_steps": 2, "clipnorm": 0.5, "weight_decay": 0.1},
    {"gradient_accumulation_steps": 2, "use_ema": True, "ema_overwrite_frequency": 2},
]
INITIAL = {name: randn(shape, seed=i) for i, (name, shape) in enumerate(SHAPES.items())}


def gradients(step):
    return [randn(shape, seed=10 * step + i) for i, shape in enumerate(SHAPES.values())]


def variables(dtype="float32"):
    with name_scope("model"), name_scope("dense"):
        return [Variable(value, dtype=dtype, name=name) for name, value in INITIAL.items()]


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


def compare(keras, name, arguments, steps=5):
    arguments = {"learning_rate": 0.05, **arguments}
    ours = getattr(optimizers, name)(**arguments, name="mine")
    theirs = getattr(keras.optimizers, name)(**arguments, name="mine")
    mine = variables()
    with keras.name_scope("model"), keras.name_scope("dense"):
        others = [keras.Variable(value, name=key) for key, value in INITIAL.items()]
    for step in range(1, steps + 1):
        ours.apply(gradients(step), mine)
        theirs.apply([keras.ops.convert_to_tensor(g) for g in gradients(step)], others)
        for a, b in zip(mine, others):
            np.testing.assert_allclose(a.numpy(), np.asarray(b), rtol=1e-4, atol=1e-5)
    assert len(ours.variables) == len(theirs.variables)
    for a, b in zip(ours.variables, theirs.variables):
        assert tuple(a.shape) == tuple(b.shape)
        if "gradient_accumulator" in a.path:
            continue  # Keras sets it back to zero after an update, narae before the next sum
        np.testing.assert_allclose(a.numpy(), np.asarray(b), rtol=1e-4, atol=1e-5, err_msg=a.path)
        if b.name.startswith("variable"):
            continue  # nadam's product has no name of its own
        assert a.path == b.path
    assert int(ours.iterations) == int(theirs.iterations)
    config = ours.get_config()
    for key, value in theirs.get_config().items():
        assert config[key] == (pytest.approx(value) if isinstance(value, float) else value), key
    return ours, theirs, mine, others


@pytest.mark.keras
@pytest.mark.parametrize(("name", "arguments"), ALL)
def test_keras(keras, name, arguments):
    ours, theirs, _, _ = compare(keras, name, arguments)
    config = keras.optimizers.serialize(theirs)
    again = optimizers.deserialize(config)
    assert type(again) is type(ours) and again.get_config() == ours.get_config()
    assert optimizers.serialize(ours)["module"] == config["module"]
    assert set(ours.get_config()) == set(theirs.get_config())


@pytest.mark.keras
@pytest.mark.parametrize("extra", EXTRAS, ids=str)
@pytest.mark.parametrize("name", ["SGD", "Adam", "Nadam"])
def test_extras(keras, name, extra):
    ours, theirs, mine, others = compare(keras, name, extra)
    ours.finalize_variable_values(mine)
    theirs.finalize_variable_values(others)
    for a, b in zip(mine, others):
        np.testing.assert_allclose(a.numpy(), np.asarray(b), rtol=1e-4, atol=1e-5)


@pytest.mark.keras
def test_exclude_from_weight_decay(keras):
    results = []
    for module, make in ((optimizers, Variable), (keras.optimizers, keras.Variable)):
        optimizer = module.SGD(0.1, weight_decay=0.5)
        weights = [make(value, name=name) for name, value in INITIAL.items()]
        optimizer.exclude_from_weight_decay(var_list=[weights[2]], var_names=["bia"])
        optimizer.apply([np.zeros_like(value) for value in INITIAL.values()], weights)
        results.append([np.asarray(w) for w in weights])
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    np.testing.assert_array_equal(results[0][1], INITIAL["bias"])
    np.testing.assert_allclose(results[0][0], 0.95 * INITIAL["kernel"], rtol=1e-6)


@pytest.mark.parametrize("extra", EXTRAS, ids=str)
@pytest.mark.parametrize(("name", "arguments"), [ALL[1], ALL[3], ALL[6], ALL[11]])
def test_recorded_steps_equal_eager_ones(name, arguments, extra):
    make = getattr(optimizers, name)
    schedule = schedules.ExponentialDecay(0.05, 2, 0.5)
    arguments = {"learning_rate": schedule, **arguments, **extra}
    eager, replayed = (make(**arguments) for _ in range(2))
    mine, others = variables(), variables()
    step = RecordedStep(lambda *g: replayed.apply(g, others))
    for i in range(1, 7):
        eager.apply(gradients(i), mine)
        replayed.update_learning_rate()
        step(*gradients(i))
    assert step.recorded, step.reason
    for a, b in zip([*mine, *eager.variables], [*others, *replayed.variables], strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_hyperparameters_change_between_recorded_steps():
    eager, replayed = (optimizers.Adam(0.1, clipnorm=1.0) for _ in range(2))
    mine, others = variables(), variables()
    step = RecordedStep(lambda *g: replayed.apply(g, others))
    for i in range(1, 7):
        eager.apply(gradients(i), mine)
        step(*gradients(i))
        for optimizer in (eager, replayed):
            optimizer.learning_rate = 0.1 / i
            if i == 3:
                optimizer.beta_1 = 0.5
                optimizer.clipnorm = 0.1
    for a, b in zip(mine, others):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_learning_rate():
    optimizer = optimizers.Adam(0.001)
    assert optimizer.get_config()["learning_rate"] == 0.0010000000474974513
    optimizer.learning_rate = 0.25
    assert float(optimizer.learning_rate) == 0.25
    optimizer.learning_rate.assign(0.5)
    assert float(optimizer.learning_rate) == 0.5
    w = Variable([1.0])
    scheduled = optimizers.SGD(schedules.PiecewiseConstantDecay([0, 1], [1.0, 0.5, 0.25]))
    assert [v.name for v in scheduled.variables] == ["iteration"]
    rates = []
    for _ in range(3):
        rates.append(float(scheduled.learning_rate))
        scheduled.apply([[0.0]], [w])
    assert rates == [1.0, 0.5, 0.25]
    with pytest.raises(TypeError, match="PiecewiseConstantDecay"):
        scheduled.learning_rate = 0.1
    again = optimizers.deserialize(optimizers.serialize(scheduled))
    assert again._learning_rate.get_config() == scheduled._learning_rate.get_config()
    called = optimizers.SGD(lambda: 0.125)
    called.apply([[1.0]], [w])
    assert float(called.learning_rate) == 0.125 and w.numpy() == [0.875]


def test_missing_gradients():
    w = variables()
    optimizer = optimizers.SGD(0.1, weight_decay=0.5)
    with pytest.warns(UserWarning, match="no gradients for .'model/dense/bias'"):
        optimizer.apply([gradients(1)[0], None, gradients(1)[2]], w)
    np.testing.assert_array_equal(w[1].numpy(), INITIAL["bias"])
    assert (w[0].numpy() != INITIAL["kernel"]).all()
    with pytest.raises(ValueError, match="None only"):
        optimizer.apply([None, None, None], w)


def test_some_variables_in_any_order():
    w = variables()
    optimizer = optimizers.SGD(1.0)
    optimizer.build(w)
    optimizer.apply([np.ones(()), np.ones((5, 7))], [w[2], w[0]])
    np.testing.assert_allclose(w[0].numpy(), INITIAL["kernel"] - 1, rtol=1e-6)
    np.testing.assert_array_equal(w[1].numpy(), INITIAL["bias"])


def test_apply_gradients():
    w = Variable([1.0])
    optimizer = optimizers.SGD(0.5)
    assert int(optimizer.apply_gradients([(ops.convert_to_tensor([1.0]), w)])) == 1
    assert w.numpy() == [0.5]


def test_two_optimizers_of_one_model():
    w = variables()
    first, second = optimizers.SGD(0.1), optimizers.SGD(0.1)
    first.apply(gradients(1), w)
    second.apply(gradients(1), w)
    reverse = optimizers.SGD(0.1)
    reverse.apply(gradients(1)[::-1], w[::-1])  # another order: the variables move
    first.apply(gradients(1), w)
    for variable, start, g in zip(w, INITIAL.values(), gradients(1)):
        np.testing.assert_allclose(variable.numpy(), start - 0.4 * g, rtol=1e-5, atol=1e-6)


def test_two_dtypes():
    w = [Variable([1.0, 2.0]), Variable([1.0, 2.0], dtype="float64"), Variable([3.0])]
    optimizer = optimizers.Nadam(0.1)
    single = optimizers.Nadam(0.1)
    alone = Variable([1.0, 2.0])
    for _ in range(3):
        optimizer.apply([[0.5, 1.0], np.array([0.5, 1.0]), [0.1]], w)
        single.apply([[0.5, 1.0]], [alone])
    np.testing.assert_array_equal(w[0].numpy(), alone.numpy())
    np.testing.assert_allclose(w[1].numpy(), alone.numpy(), rtol=1e-6)
    assert w[1].dtype == "float64" and len(optimizer.variables) == 2 + 6 + 1
    with pytest.raises(ValueError, match="variables of one dtype"):
        optimizers.SGD(global_clipnorm=1.0).build(w)


def test_constraint():
    w = Variable([-1.0, 1.0])
    w.constraint = lambda v: ops.maximum(v, 0.0)
    optimizers.SGD(0.5).apply([[1.0, 1.0]], [w])
    np.testing.assert_array_equal(w.numpy(), [0.0, 0.5])


class SignDescent(optimizers.Optimizer):
    """An optimizer of a user's own, with a slot."""

    def build(self, variables):
        super().build(variables)
        self.counts = self.add_optimizer_variables(variables, "count")

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        self.assign_add(self.counts[index], ops.ones_like(gradient))
        self.assign_sub(variable, learning_rate * ops.sign(gradient))


@pytest.mark.parametrize(
    "extra",
    [{}, {"weight_decay": 0.1}, {"clipnorm": 1.0}, {"clipvalue": 0.1}, {"use_ema": True}],
    ids=str,
)
def test_own_optimizer(extra):
    w = variables()
    optimizer = SignDescent(0.1, **extra)
    assert optimizer.name.startswith("sign_descent")
    optimizer.apply(gradients(1), w)
    for variable, start, g in zip(w, INITIAL.values(), gradients(1)):
        start = start * (1 - 0.1 * extra.get("weight_decay", 0))
        np.testing.assert_allclose(variable.numpy(), start - 0.1 * np.sign(g), rtol=1e-5, atol=1e-6)
    optimizer.apply(gradients(1), w)
    assert (optimizer.counts[0].numpy() == 2).all()
    assert len(optimizer.variables) == 2 + 3 * (2 if "use_ema" in extra else 1)
    with pytest.raises(NotImplementedError, match="gradient_accumulation_steps"):
        SignDescent(0.1, gradient_accumulation_steps=2).apply(gradients(1), variables())


def test_own_optimizer_clips_the_global_norm():
    class Plain(optimizers.Optimizer):
        def update_step(self, gradient, variable, learning_rate):
            variable.assign_sub(learning_rate * gradient)

    ready, own = variables(), variables()
    optimizers.SGD(0.1, global_clipnorm=0.5).apply(gradients(1), ready)
    Plain(0.1, global_clipnorm=0.5).apply(gradients(1), own)
    for a, b in zip(ready, own):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5)


def test_saved_state_continues():
    first = optimizers.Adam(0.1)
    w = variables()
    for i in range(3):
        first.apply(gradients(i), w)
    store = {}
    first.save_own_variables(store)
    assert store["0"].dtype == "int32" and store["0"] == 3
    second = optimizers.Adam(0.7)
    copies = [Variable(v.numpy(), name=v.name) for v in w]
    second.build(copies)
    second.load_own_variables(store)
    first.apply(gradients(9), w)
    second.apply(gradients(9), copies)
    for a, b in zip(w, copies):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    with pytest.warns(UserWarning, match="not loaded"):
        optimizers.SGD().load_own_variables(store)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("rate", [0.1, schedules.CosineDecay(0.1, 5)])
def test_copies(copied, rate):
    optimizer = optimizers.Nadam(rate, weight_decay=0.1)
    assert copied(optimizer).get_config() == optimizer.get_config()
    w = variables()
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.apply(gradients(1), w)
    other, other_w = copied((optimizer, w))
    for i in (2, 3):
        optimizer.apply(gradients(i), w)
        other.apply(gradients(i), other_w)
    for a, b in zip([*w, *optimizer.variables], [*other_w, *other.variables], strict=True):
        assert not np.shares_memory(a.array, b.array)
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_scale_loss():
    assert float(optimizers.SGD(loss_scale_factor=4.0).scale_loss(ops.convert_to_tensor(2.0))) == 8
    assert float(optimizers.SGD().scale_loss(ops.convert_to_tensor(2.0))) == 2


def test_get():
    assert isinstance(optimizers.get("adam"), optimizers.Adam)
    assert isinstance(optimizers.get("RMSprop"), optimizers.RMSprop)
    assert isinstance(optimizers.get("SGD"), optimizers.SGD)
    assert isinstance(optimizers.get(optimizers.Lion), optimizers.Lion)
    assert optimizers.get(None) is None
    optimizer = optimizers.get({"class_name": "Adam", "config": {"learning_rate": 0.5}})
    assert float(optimizer.learning_rate) == 0.5
    assert optimizers.get(optimizer) is optimizer
    with pytest.raises(ValueError, match="Did you mean 'adam'"):
        optimizers.get("adm")
    with pytest.raises(ValueError, match="an instance of Optimizer"):
        optimizers.get(lambda: 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimizers.SGD(lr=0.1), "unknown arguments. Received: .'lr': 0.1"),
        (lambda: optimizers.SGD("fast"), "expected learning_rate"),
        (lambda: optimizers.SGD(momentum=1.5), r"expected momentum in \[0, 1\]"),
        (lambda: optimizers.Adam(clipnorm=1.0, clipvalue=1.0), "expected one of clipnorm"),
        (lambda: optimizers.Adam(clipnorm=0.0), "expected clipnorm to be positive"),
        (lambda: optimizers.Adam(beta_1=1.1), "Adam: expected beta_1"),
        (lambda: optimizers.AdamW(weight_decay=None), "expected weight_decay"),
        (lambda: optimizers.Adam(gradient_accumulation_steps=1), "from 2 on"),
        (lambda: optimizers.Adam(use_ema=True, ema_momentum=2.0), "expected ema_momentum"),
        (lambda: optimizers.Adam(use_ema=True, ema_overwrite_frequency=0), "ema_overwrite"),
        (lambda: optimizers.Ftrl(learning_rate_power=0.5), "learning_rate_power"),
        (lambda: optimizers.Ftrl(l1_regularization_strength=-1.0), "l1_regularization_strength"),
        (lambda: optimizers.Lion(beta_1=0.0), r"expected beta_1 in \(0, 1\]"),
        (lambda: optimizers.RMSprop(rho=-1.0), "expected rho"),
        (lambda: optimizers.SGD().apply([np.ones(())]), "build.variables. called before"),
        (lambda: optimizers.SGD().apply([np.ones(3)], variables()), "one gradient per variable"),
        (
            lambda: optimizers.SGD().apply([np.ones(3)], [Variable([1.0])]),
            r"gradient of shape \(1,\)",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_unknown_variable():
    optimizer = optimizers.SGD()
    optimizer.build(variables())
    with pytest.raises(ValueError, match="the optimizer was built with"):
        optimizer.apply([[1.0]], [Variable([1.0])])
    with pytest.raises(ValueError, match="before the optimizer is built"):
        optimizer.exclude_from_weight_decay(var_names=["bias"])


@pytest.mark.keras
def test_the_names_that_keras_knows(keras):
    for module, ours, later in (
        (
            keras.optimizers,
            optimizers,
            {
                "LossScaleOptimizer", "Muon", "MultiOptimizer",
                "OptimizerMap", "ScheduleFreeAdamW", "legacy",
            },
        ),
        (keras.optimizers.schedules, schedules, set()),
    ):  # fmt: skip
        names = {name for name in dir(module) if not name.startswith("_")}
        assert names - set(dir(ours)) <= later
