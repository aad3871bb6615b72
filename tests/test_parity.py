"""From the same weights, the loss curves of twelve small models are those of the real Keras."""

import os

import numpy as np
import pytest

import narae
import zoo

os.environ.setdefault("KERAS_BACKEND", "jax")
pytestmark = pytest.mark.keras

EPOCHS = 5
TOLERANCE = 1e-3


@pytest.fixture
def keras():
    import keras

    keras.utils.set_random_seed(7)
    return keras


@pytest.mark.parametrize("name", zoo.MODELS)
def test_loss_curve(keras, name):
    theirs, x, y = zoo.MODELS[name](keras)
    ours, _, _ = zoo.MODELS[name](narae)
    ours.set_weights(theirs.get_weights())
    settings = {"epochs": EPOCHS, "batch_size": 16, "shuffle": False, "verbose": 0}
    expected = theirs.fit(x, y, **settings).history
    received = ours.fit(x, y, **settings).history
    assert list(received) == list(expected)
    for key, curve in expected.items():
        np.testing.assert_allclose(
            received[key], curve, atol=TOLERANCE, rtol=TOLERANCE, err_msg=key
        )
    assert received["loss"][-1] < received["loss"][0]


@pytest.mark.parametrize("name", zoo.MODELS)
def test_evaluate_and_predict(keras, name):
    theirs, x, y = zoo.MODELS[name](keras)
    ours, _, _ = zoo.MODELS[name](narae)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(
        ours.evaluate(x, y, batch_size=20, verbose=0),
        theirs.evaluate(x, y, batch_size=20, verbose=0),
        atol=1e-5, rtol=1e-5,
    )  # fmt: skip
    for a, b in zip(
        narae.tree.flatten(ours.predict(x, batch_size=20, verbose=0)),
        narae.tree.flatten(theirs.predict(x, batch_size=20, verbose=0)),
    ):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, atol=2e-5)
