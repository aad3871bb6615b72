"""Every layer against the real Keras: configs, weights, shapes, outputs and gradients.

Both layers get the same weights and inputs.
"""

import copy
import os
import re

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")
jax = pytest.importorskip("jax")

import narae  # noqa: E402
from layer_cases import CASES, arguments_of, inputs_of, make, name_of  # noqa: E402
from narae import layers, ops  # noqa: E402
from narae.engine.tape import GradientTape  # noqa: E402

pytestmark = pytest.mark.keras


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """Half of the time would be compiling. Put back, for the setting is the whole process's."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def comparable(config):
    """A config without what may differ: the numbers at the end of automatic names."""
    if isinstance(config, dict):
        return {
            k: re.sub(r"_\d+$", "", v) if k == "name" and isinstance(v, str) else comparable(v)
            for k, v in config.items()
            if k != "shared_object_id"
        }
    if isinstance(config, (list, tuple)):
        return [comparable(v) for v in config]
    return config


def flat(outputs):
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return [np.asarray(y) for z in outputs for y in (flat(z) if isinstance(z, list) else [z])]


def float_leaves(x):
    return [v for v in (x if isinstance(x, list) else [x]) if v.dtype == np.float32]


def keras_values_and_gradients(layer, name, x, call, probes):
    """Outputs, new states, and gradients of sum(outputs * probes): for the inputs, the weights."""
    trainable = [v.value for v in layer.trainable_variables]
    others = [v.value for v in layer.non_trainable_variables]

    def run(floats, weights):
        floats = iter(floats)
        values = [
            next(floats) if v.dtype == np.float32 else v for v in (x if type(x) is list else [x])
        ]
        values = values if isinstance(x, list) else values[0]
        y, state = layer.stateless_call(weights, others, *arguments_of(name, values), **call)
        leaves = jax.tree_util.tree_leaves(y)
        return sum((a * b).sum() for a, b in zip(leaves, probes)), (leaves, state)

    grad = jax.jit(jax.grad(run, argnums=(0, 1), has_aux=True))
    (dx, dw), (leaves, state) = grad([jax.numpy.asarray(v) for v in float_leaves(x)], trainable)
    return leaves, state, [*dx, *dw]


def narae_values_and_gradients(layer, name, x, call, probes):
    x = [ops.convert_to_tensor(v) for v in x] if isinstance(x, list) else ops.convert_to_tensor(x)
    sources = [v for v in (x if isinstance(x, list) else [x]) if v.dtype == "float32"]
    with GradientTape() as tape:
        tape.watch(sources)
        y = layer(*arguments_of(name, x), **call)
        leaves = narae.engine.tree.flatten(y)
        total = sum(ops.sum(a * ops.convert_to_tensor(b)) for a, b in zip(leaves, probes))
    sources = [*sources, *layer.trainable_variables]
    return leaves, tape.gradient(total, sources, unconnected_gradients="zero")


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_layer(case):
    name, arguments, shapes, call = case
    x = inputs_of(shapes)
    ours, theirs = make(layers, name, arguments), make(keras.layers, name, arguments)

    config = ours.get_config()
    assert comparable(config) == comparable(theirs.get_config())
    assert comparable(type(ours).from_config(config).get_config()) == comparable(config)
    again = type(theirs).from_config(copy.deepcopy(config))  # Keras empties what it reads
    assert comparable(again.get_config()) == comparable(config)

    symbols = [keras.KerasTensor(v.shape, v.dtype) for v in (x if isinstance(x, list) else [x])]
    symbols = symbols if isinstance(x, list) else symbols[0]
    theirs(*arguments_of(name, symbols), **call)
    y = ours(*arguments_of(name, x), **call)
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    assert [tuple(w.shape) for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    assert [w.trainable for w in ours.weights] == [w.trainable for w in theirs.weights]

    rng = np.random.default_rng(1)
    weights = [rng.uniform(0.2, 1.0, w.shape).astype(w.dtype) for w in theirs.get_weights()]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    if name == "Normalization":
        theirs.finalize_state()
    probes = [rng.standard_normal(v.shape).astype("float32") for v in flat(y)]
    expected, states, gradients = keras_values_and_gradients(theirs, name, x, call, probes)
    y, ours_gradients = narae_values_and_gradients(ours, name, x, call, probes)
    assert [(v.shape, v.dtype) for v in flat(y)] == [(v.shape, v.dtype) for v in expected]
    for a, b in zip(flat(y), expected):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
    for v, b in zip(ours.non_trainable_weights, states):
        np.testing.assert_allclose(v.numpy(), b, rtol=1e-4, atol=1e-5)
    assert len(ours_gradients) == len(gradients)
    for a, b in zip(ours_gradients, gradients):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_shapes(case):
    """compute_output_shape, symbolic calls and real calls tell the same shapes, as Keras's."""
    name, arguments, shapes, call = case
    x = inputs_of(shapes)
    listed = x if isinstance(x, list) else [x]
    layer = make(layers, name, arguments)
    symbols = [narae.KerasTensor((None, *v.shape[1:]), str(v.dtype)) for v in listed]
    symbols = symbols if isinstance(x, list) else symbols[0]
    symbolic = narae.engine.tree.flatten(layer(*arguments_of(name, symbols), **call))
    real = narae.engine.tree.flatten(layer(*arguments_of(name, x), **call))
    assert [(None, *y.shape[1:]) for y in real] == [y.shape for y in symbolic]
    assert [y.dtype for y in real] == [y.dtype for y in symbolic]

    given = [(None, *v.shape[1:]) for v in listed]
    theirs = make(keras.layers, name, arguments)
    given = given if isinstance(x, list) else given[0]
    try:
        expected = theirs.compute_output_shape(*arguments_of(name, given))
    except NotImplementedError:
        return
    found = layer.compute_output_shape(*arguments_of(name, given))
    sizes = zip(narae.engine.tree.flatten(list(found)), narae.engine.tree.flatten(list(expected)))
    assert all(b in (a, None) for a, b in sizes)  # narae may know a size that Keras does not


def branches():
    """One case of each class that works in a model, on inputs of its own."""
    chosen, seen = [], set()
    for case in CASES:
        name, _, _, call = case
        if name in seen or call or name in ("Normalization", "CategoryEncoding"):
            continue
        seen.add(name)
        chosen.append(case)
    return chosen


def model_of_all(module):
    """A functional model with a branch for every class."""
    inputs, outputs = [], []
    for case in branches():
        name, arguments, shapes, _ = case
        x = inputs_of(shapes)
        listed = x if isinstance(x, list) else [x]
        symbols = [module.Input(v.shape[1:], dtype=str(v.dtype)) for v in listed]
        inputs += symbols
        y = make(module.layers, name, arguments)(
            *arguments_of(name, symbols if isinstance(x, list) else symbols[0])
        )
        outputs += narae.engine.tree.flatten(y)
    return module.Model(inputs, outputs)


def batch_of_all():
    arrays = [inputs_of(case[2]) for case in branches()]
    flat_arrays = [v for x in arrays for v in (x if isinstance(x, list) else [x])]
    return [np.concatenate([v, v, v])[:2] for v in flat_arrays]


@pytest.mark.parametrize("there, back", [(narae, keras), (keras, narae)], ids=["to", "from"])
def test_files(there, back, tmp_path):
    """A model of every layer, saved by one library and loaded by the other, predicts the same."""
    x = batch_of_all()
    model = model_of_all(there)
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "all.keras")
    found = back.saving.load_model(tmp_path / "all.keras").predict(x, verbose=0)
    names = [type(layer).__name__ for layer in model.layers]
    assert len(names) > 90
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
