"""Activations against the real Keras, their gradients, and how they are found."""

import os

import numpy as np
import pytest

from helpers import randn
from narae import activations, ops
from narae.engine.operation import KerasTensor
from narae.engine.tape import grad

os.environ.setdefault("KERAS_BACKEND", "jax")

X = np.concatenate([3 * randn((6, 8)), np.full((1, 8), 0.0), np.full((1, 8), 7.0)])
X = X.astype("float32")
CASES = [
    *((name, {}) for name in sorted(activations._OBJECTS) if name != "threshold"),
    ("relu", {"negative_slope": 0.1}),
    ("relu", {"max_value": 6}),
    ("relu", {"max_value": 2.0}),
    ("relu", {"threshold": 1.0}),
    ("relu", {"negative_slope": 0.1, "max_value": 2.0, "threshold": 0.5}),
    ("leaky_relu", {"negative_slope": 0.4}),
    ("elu", {"alpha": 0.5}),
    ("celu", {"alpha": 2.0}),
    ("gelu", {"approximate": True}),
    ("softmax", {"axis": 0}),
    ("log_softmax", {"axis": 0}),
    ("sparsemax", {"axis": 0}),
    ("glu", {"axis": 0}),
    ("hard_shrink", {"threshold": 1.0}),
    ("soft_shrink", {"threshold": 1.0}),
    ("threshold", {"threshold": 0.5, "default_value": -2.0}),
    ("squareplus", {"b": 2}),
]
IDS = [f"{name}-{'-'.join(arguments)}" for name, arguments in CASES]


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


@pytest.mark.keras
@pytest.mark.parametrize(("name", "arguments"), CASES, ids=IDS)
def test_keras(keras, name, arguments):
    if name == "sparsemax":
        pytest.skip("Keras 3.15's does not sum to one: see test_sparsemax")
    theirs = keras.activations.get(name)
    actual = activations.get(name)(X, **arguments)
    if name != "linear":
        actual = actual.numpy()
    expected = np.asarray(theirs(keras.ops.convert_to_tensor(X), **arguments))
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=IDS)
def test_gradient(name, arguments):
    function = activations.get(name)
    x, direction = randn((4, 6), "float64", seed=3), randn((4, 6), "float64", seed=4)

    def total(x):
        return ops.sum(ops.square(function(x, **arguments)))

    slope = (float(total(x + 1e-6 * direction)) - float(total(x - 1e-6 * direction))) / 2e-6
    dx = grad(total)(x).numpy()
    np.testing.assert_allclose((dx * direction).sum(), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=IDS)
def test_symbolic(name, arguments):
    """Activations take the symbols of a functional model."""
    y = activations.get(name)(KerasTensor((None, 8)), **arguments)
    expected = (None, 4) if name == "glu" and not arguments else (None, 8)
    assert y.shape == expected


@pytest.mark.parametrize("axis", [-1, 0])
def test_sparsemax(axis):
    """Of all points of the simplex, none is nearer to x than sparsemax(x)."""
    p = activations.sparsemax(X, axis=axis).numpy()
    np.testing.assert_allclose(p.sum(axis), 1, rtol=1e-5)
    assert (p >= 0).all() and (p == 0).any()
    distance = ((p - X) ** 2).sum(axis)
    rng = np.random.default_rng(0)
    for _ in range(50):
        other = rng.dirichlet(np.ones(X.shape[axis]), X.shape[0 if axis else 1])
        other = other if axis else other.T
        mixed = 0.9 * p + 0.1 * other
        assert (((mixed - X) ** 2).sum(axis) >= distance - 1e-5).all()


def test_get():
    assert activations.get(None) is activations.linear
    assert activations.get("relu") is activations.get(activations.relu) is activations.relu
    assert activations.get("swish") is activations.silu
    assert activations.get("hard_swish") is activations.hard_silu
    own = activations.get(lambda x: x)
    assert own(1) == 1
    with pytest.raises(ValueError, match="activations.get: .*Did you mean 'relu'"):
        activations.get("rellu")
    with pytest.raises(ValueError, match="Received: 3"):
        activations.get(3)


def test_serialize():
    assert activations.serialize(activations.relu) == "relu"
    assert activations.serialize(activations.swish) == "silu"
    assert activations.deserialize("gelu") is activations.gelu
    config = {"module": "builtins", "class_name": "function", "config": "mish"}
    assert activations.deserialize(config) is activations.mish
    with pytest.raises(ValueError, match="lambda"):
        activations.serialize(lambda x: x)


def test_layer_as_activation():
    from narae.layers import LeakyReLU

    layer = activations.get(LeakyReLU(negative_slope=0.5))
    np.testing.assert_allclose(np.asarray(layer(X)), np.where(X > 0, X, 0.5 * X))
    again = activations.get(activations.serialize(layer))
    assert again.negative_slope == 0.5


@pytest.mark.keras
def test_the_names_that_keras_knows(keras):
    names = {name for name in dir(keras.activations) if not name.startswith("_")}
    assert names <= set(dir(activations))
