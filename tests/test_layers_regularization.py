"""Dropout and noise: what they do while training, and only then."""

import numpy as np
import pytest

from narae import layers, ops
from narae.engine.tape import GradientTape

ONES = np.ones((200, 50), "float32")


def test_dropout_scales_what_it_keeps():
    y = layers.Dropout(0.25, seed=1)(ONES, training=True).numpy()
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.02


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dropout(0.5),
        layers.GaussianNoise(0.5),
        layers.GaussianDropout(0.5),
        layers.AlphaDropout(0.5),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_nothing_happens_outside_training(layer):
    np.testing.assert_array_equal(layer(ONES).numpy(), ONES)
    np.testing.assert_array_equal(layer(ONES, training=False).numpy(), ONES)
    assert (layer(ONES, training=True).numpy() != ONES).any()
    assert layer.weights == []


def test_rates_zero_and_one():
    np.testing.assert_array_equal(layers.Dropout(0.0)(ONES, training=True).numpy(), ONES)
    np.testing.assert_array_equal(layers.Dropout(1.0)(ONES, training=True).numpy(), 0 * ONES)


def test_seed_repeats_and_calls_differ():
    a, b = (layers.Dropout(0.5, seed=7) for _ in range(2))
    first, second = a(ONES, training=True).numpy(), a(ONES, training=True).numpy()
    np.testing.assert_array_equal(first, b(ONES, training=True).numpy())
    assert (first != second).any()


def test_gradient_uses_the_same_mask():
    layer = layers.Dropout(0.5, seed=3)
    x = ops.convert_to_tensor(ONES)
    with GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        total = ops.sum(y)
    np.testing.assert_array_equal(tape.gradient(total, x).numpy(), y.numpy())


def test_noise_shape_shares_the_mask():
    x = np.ones((4, 5, 6), "float32")
    y = layers.Dropout(0.5, noise_shape=(None, 1, None))(x, training=True).numpy()
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    assert 0 < (y == 0).mean() < 1


@pytest.mark.parametrize("layer, shape, first", [
    (layers.SpatialDropout1D(0.5), (8, 5, 9), False),
    (layers.SpatialDropout2D(0.5), (8, 3, 4, 9), False),
    (layers.SpatialDropout2D(0.5, data_format="channels_first"), (8, 9, 3, 4), True),
    (layers.SpatialDropout3D(0.5), (8, 2, 3, 4, 9), False),
], ids=range(4))  # fmt: skip
def test_spatial_dropout_drops_whole_channels(layer, shape, first):
    y = layer(np.ones(shape, "float32"), training=True).numpy()
    y = np.moveaxis(y, 1 if first else -1, 1).reshape(8, 9, -1)
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :, :1], y.shape))
    assert 0.2 < (y == 0).mean() < 0.8


def test_noise_moments():
    y = layers.GaussianNoise(0.5, seed=1)(ONES, training=True).numpy() - 1
    assert abs(y.mean()) < 0.02 and abs(y.std() - 0.5) < 0.02
    y = layers.GaussianDropout(0.2, seed=1)(ONES, training=True).numpy()
    assert abs(y.mean() - 1) < 0.02 and abs(y.std() - 0.5) < 0.02


def test_alpha_dropout_keeps_mean_and_variance():
    x = np.random.default_rng(0).standard_normal((400, 100)).astype("float32")
    y = layers.AlphaDropout(0.3, seed=1)(x, training=True).numpy()
    assert abs(y.mean()) < 0.02 and abs(y.std() - 1) < 0.02


def test_activity_regularization():
    layer = layers.ActivityRegularization(l1=0.1, l2=0.2)
    x = np.array([[1.0, -2.0], [3.0, 0.0]], "float32")
    np.testing.assert_array_equal(layer(x).numpy(), x)
    (loss,) = layer.losses
    np.testing.assert_allclose(float(loss), (0.1 * 6 + 0.2 * 14) / 2, rtol=1e-6)


def test_recurrent_dropout_masks_are_shared_by_the_steps():
    """A layer that copies its input shows which features are dropped: the same at every step."""
    layer = layers.SimpleRNN(
        6, activation=None, kernel_initializer="identity", recurrent_initializer="zeros",
        dropout=0.5, return_sequences=True, seed=2,
    )  # fmt: skip
    x = np.ones((3, 5, 6), "float32")
    np.testing.assert_allclose(layer(x).numpy(), x)
    y = layer(x, training=True).numpy()
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    assert set(np.unique(y)) == {0.0, 2.0}
    assert (layer(x, training=True).numpy() != y).any()


@pytest.mark.parametrize("make", [layers.SimpleRNN, layers.LSTM, layers.GRU])
@pytest.mark.parametrize("rates", [(0.4, 0.0), (0.0, 0.4), (0.4, 0.4)])
def test_recurrent_layers_train_with_dropout(make, rates):
    layer = make(3, dropout=rates[0], recurrent_dropout=rates[1], seed=1)
    x = np.ones((2, 4, 5), "float32")
    quiet = layer(x).numpy()
    np.testing.assert_array_equal(quiet, layer(x, training=False).numpy())
    with GradientTape() as tape:
        total = ops.sum(layer(x, training=True))
    assert all(g is not None for g in tape.gradient(total, layer.trainable_variables))
