"""Constraints against their formulas and the real Keras."""

import os

import numpy as np
import pytest

from helpers import randn
from narae import constraints, ops
from narae.engine.recording import RecordedStep
from narae.engine.variable import Variable

os.environ.setdefault("KERAS_BACKEND", "jax")

W = 2 * randn((5, 6))
KERNEL = 2 * randn((3, 3, 2, 4))
CASES = [
    ("MaxNorm", {}, W),
    ("MaxNorm", {"max_value": 1.5, "axis": 1}, W),
    ("MaxNorm", {"axis": (0, 1, 2)}, KERNEL),
    ("NonNeg", {}, W),
    ("UnitNorm", {}, W),
    ("UnitNorm", {"axis": (0, 1, 2)}, KERNEL),
    ("MinMaxNorm", {"min_value": 1.0, "max_value": 2.0}, W),
    ("MinMaxNorm", {"min_value": 5.0, "max_value": 6.0, "rate": 0.3, "axis": 1}, W),
]


def norms(w, axis=0):
    return np.sqrt((w.numpy() ** 2).sum(axis))


def test_meaning():
    w = Variable(W)
    assert (norms(constraints.MaxNorm(2)(w)) <= 2 + 1e-5).all()
    short = norms(w) < 2
    np.testing.assert_allclose(constraints.MaxNorm(2)(w).numpy()[:, short], W[:, short], rtol=1e-6)
    np.testing.assert_allclose(norms(constraints.UnitNorm()(w)), 1, rtol=1e-5)
    limited = norms(constraints.MinMaxNorm(3.0, 4.0)(w))
    assert (limited > 3 - 1e-5).all() and (limited < 4 + 1e-5).all()
    np.testing.assert_array_equal(constraints.NonNeg()(w).numpy(), np.maximum(W, 0))


@pytest.mark.keras
@pytest.mark.parametrize(("name", "arguments", "w"), CASES)
def test_keras(name, arguments, w):
    import keras

    ours = getattr(constraints, name)(**arguments)
    theirs = getattr(keras.constraints, name)(**arguments)
    np.testing.assert_allclose(ours(w).numpy(), np.asarray(theirs(w)), rtol=2e-5, atol=1e-6)
    config = keras.constraints.serialize(theirs)
    assert constraints.serialize(ours) == config
    assert constraints.deserialize(config).get_config() == ours.get_config()


@pytest.mark.parametrize(("name", "arguments", "w"), CASES)
def test_recorded(name, arguments, w):
    constraint = getattr(constraints, name)(**arguments)
    variable = Variable(w, trainable=False)

    def project(value):
        variable.assign(constraint(variable + value))

    step = RecordedStep(project)
    expected = Variable(w, trainable=False)
    for i in range(3):
        value = np.float32(i)
        step(value)
        expected.assign(constraint(expected + value))
    assert step.recorded, step.reason
    np.testing.assert_array_equal(variable.numpy(), expected.numpy())


def test_get():
    assert isinstance(constraints.get("non_neg"), constraints.NonNeg)
    assert constraints.get("max_norm").max_value == 2
    assert constraints.get("UnitNorm").axis == 0
    assert constraints.get(None) is None
    own = constraints.get(lambda w: ops.minimum(w, 1.0))
    assert own(ops.convert_to_tensor([2.0])).numpy() == [1.0]
    assert constraints.max_norm is constraints.MaxNorm
    with pytest.raises(ValueError, match="Did you mean 'max_norm'"):
        constraints.get("maxnorm")
    with pytest.raises(ValueError, match="constraints.get"):
        constraints.get(3)


def test_base_class():
    assert constraints.Constraint()(W) is W
    assert constraints.Constraint.from_config(constraints.Constraint().get_config())
