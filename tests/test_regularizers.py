"""Regularizers against their formulas and the real Keras."""

import os

import numpy as np
import pytest

from helpers import randn
from narae import ops, regularizers
from narae.engine.variable import Variable

os.environ.setdefault("KERAS_BACKEND", "jax")

X = randn((4, 6))
CASES = [
    ("L1", {"l1": 0.3}),
    ("L2", {"l2": 0.3}),
    ("L1L2", {"l1": 0.1, "l2": 0.3}),
    ("L1L2", {}),
    ("OrthogonalRegularizer", {"factor": 0.2}),
    ("OrthogonalRegularizer", {"mode": "columns"}),
]


def test_formulas():
    assert float(regularizers.L1(0.3)(Variable(X))) == pytest.approx(0.3 * np.abs(X).sum())
    assert float(regularizers.L2(0.3)(Variable(X))) == pytest.approx(0.3 * (X**2).sum())
    both = 0.1 * np.abs(X).sum() + 0.3 * (X**2).sum()
    assert float(regularizers.L1L2(0.1, 0.3)(Variable(X))) == pytest.approx(both)
    rows = X / np.linalg.norm(X, axis=1, keepdims=True)
    cosines = np.abs((rows @ rows.T)[np.triu_indices(4, 1)])
    expected = 0.2 * cosines.mean()
    orthogonal = regularizers.OrthogonalRegularizer(0.2)
    assert float(orthogonal(Variable(X))) == pytest.approx(expected, rel=1e-5)


def test_gradient():
    from narae.engine.tape import grad

    np.testing.assert_allclose(grad(regularizers.L2(0.3))(X).numpy(), 0.6 * X, rtol=1e-6)
    np.testing.assert_allclose(grad(regularizers.L1(0.3))(X).numpy(), 0.3 * np.sign(X), rtol=1e-6)


@pytest.mark.keras
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_keras(name, arguments):
    import keras

    ours = getattr(regularizers, name)(**arguments)
    theirs = getattr(keras.regularizers, name)(**arguments)
    expected = float(theirs(keras.ops.convert_to_tensor(X)))
    assert float(ours(ops.convert_to_tensor(X))) == pytest.approx(expected, rel=1e-5)
    config = keras.regularizers.serialize(theirs)
    for key, value in config["config"].items():
        assert ours.get_config()[key] == pytest.approx(value)
    again = regularizers.deserialize(config)
    assert type(again) is type(ours)
    assert regularizers.serialize(ours)["module"] == config["module"]


def test_get():
    assert regularizers.get("l2").l2 == 0.01
    assert isinstance(regularizers.get("L1"), regularizers.L1)
    assert isinstance(regularizers.get("l1_l2"), regularizers.L1L2)
    assert regularizers.get(None) is None
    assert regularizers.l1(0.5).l1 == 0.5 and regularizers.l1_l2(l2=0.5).l2 == 0.5

    def own(x):
        return ops.sum(x)

    assert regularizers.get(own) is own
    with pytest.raises(ValueError, match="regularizers.get"):
        regularizers.get("l3")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: regularizers.L1(-0.1), "L1: expected l1"),
        (lambda: regularizers.L2(float("nan")), "L2: expected l2"),
        (lambda: regularizers.L1L2(l2="a"), "L1L2: expected l2"),
        (lambda: regularizers.OrthogonalRegularizer(mode="x"), "expected mode"),
        (lambda: regularizers.OrthogonalRegularizer()(Variable([1.0])), "expected a matrix"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_base_class():
    assert regularizers.Regularizer()(X) == 0.0
    with pytest.raises(NotImplementedError):
        regularizers.Regularizer().get_config()
