"""Masks through the layers, against the real Keras."""

import os

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")
from narae import layers, ops  # noqa: E402

pytestmark = pytest.mark.keras

OTHER = {"recurrent_activation": "hard_sigmoid"}  # runs step by step
ALL = {"return_sequences": True}

# What stands behind the masked input x (and z of the same shape with another mask).
CASES = [
    lambda L, x, z: L.Dense(3)(x),
    lambda L, x, z: L.Activation("relu")(x),
    lambda L, x, z: L.Dropout(0.5)(x),
    lambda L, x, z: L.LayerNormalization()(x),
    lambda L, x, z: L.BatchNormalization()(x, training=True),
    lambda L, x, z: L.BatchNormalization()(x),
    lambda L, x, z: L.GlobalAveragePooling1D()(x),
    lambda L, x, z: L.GlobalAveragePooling1D(keepdims=True)(x),
    lambda L, x, z: L.SimpleRNN(3)(x),
    lambda L, x, z: L.SimpleRNN(3, activation="relu", **ALL)(x),
    lambda L, x, z: L.LSTM(3)(x),
    lambda L, x, z: L.LSTM(3, return_state=True, **ALL)(x)[0],
    lambda L, x, z: L.LSTM(3, return_state=True, **ALL)(x)[2],
    lambda L, x, z: L.LSTM(3, go_backwards=True, **ALL)(x),
    lambda L, x, z: L.LSTM(3, go_backwards=True, **ALL, **OTHER)(x),
    lambda L, x, z: L.LSTM(3, return_state=True, **OTHER)(x)[2],
    lambda L, x, z: L.GRU(3, **ALL)(x),
    lambda L, x, z: L.GRU(3, reset_after=False)(x),
    lambda L, x, z: L.GRU(3, **ALL, **OTHER)(x),
    lambda L, x, z: L.RNN(L.LSTMCell(3), zero_output_for_mask=True, **ALL)(x),
    lambda L, x, z: L.RNN([L.LSTMCell(3), L.GRUCell(2)], **ALL)(x),
    lambda L, x, z: L.Bidirectional(L.LSTM(3))(x),
    lambda L, x, z: L.Bidirectional(L.LSTM(3, **ALL))(x),
    lambda L, x, z: L.Bidirectional(L.GRU(3, **ALL, **OTHER), merge_mode="sum")(x),
    lambda L, x, z: L.TimeDistributed(L.Dense(3))(x),
    lambda L, x, z: L.MultiHeadAttention(2, 3)(x, z),
    lambda L, x, z: L.MultiHeadAttention(2, 3)(x, z, use_causal_mask=True),
    lambda L, x, z: L.MultiHeadAttention(2, 3, sliding_window=2)(z, x, z),
    lambda L, x, z: L.MultiHeadAttention(2, 3)(x, x, return_attention_scores=True)[1],
    lambda L, x, z: L.GroupQueryAttention(3, 4, 2)(x, z),
    lambda L, x, z: L.Attention()([x, z]),
    lambda L, x, z: L.Attention(use_scale=True)([z, x, z], use_causal_mask=True),
    lambda L, x, z: L.AdditiveAttention()([x, z]),
    lambda L, x, z: L.Add()([x, z]),
    lambda L, x, z: L.Subtract()([x, z]),
    lambda L, x, z: L.Average()([x, z]),
    lambda L, x, z: L.Multiply()([x, z]),
    lambda L, x, z: L.Maximum()([x, z]),
    lambda L, x, z: L.Minimum()([x, z]),
    lambda L, x, z: L.Maximum()([x, x + 1]),
    lambda L, x, z: L.Concatenate()([x, z]),
    lambda L, x, z: L.Concatenate(axis=1)([x, z]),
    lambda L, x, z: L.Concatenate(axis=1)([x, z * 2]),
    lambda L, x, z: L.Dot(axes=2)([x, z]),
]


def run(module, layer, x, z):
    mask = module.Masking(mask_value=9.0)
    return layer(module, mask(x), mask(z))


@pytest.mark.parametrize("layer", CASES, ids=range(len(CASES)))
@pytest.mark.filterwarnings("ignore")  # some layers drop the mask, and say so
def test_masks(layer, monkeypatch):
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((2, 3, 5, 4)).astype("float32")
    x[0, 3:], x[1, :2], x[2] = 9.0, 9.0, x[2]
    z[0, 1:], z[1, 4:] = 9.0, 9.0
    monkeypatch.setattr(layers.Layer, "add_weight", fixed(layers.Layer.add_weight))
    monkeypatch.setattr(keras.layers.Layer, "add_weight", fixed(keras.layers.Layer.add_weight))
    y = run(layers, layer, ops.convert_to_tensor(x), ops.convert_to_tensor(z))
    expected = run(keras.layers, layer, keras.ops.array(x), keras.ops.array(z))
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-4, atol=1e-5)
    mask = getattr(expected, "_keras_mask", None)
    assert (y.mask is None) == (mask is None)
    if mask is not None:
        np.testing.assert_array_equal(y.mask.numpy(), mask)


def fixed(add_weight):
    """The same weights on both sides: a wave over the positions."""

    def wrapper(self, shape=None, initializer=None, *args, **kwargs):
        if kwargs.get("trainable", True):

            def initializer(shape, dtype=None):
                return np.cos(np.arange(np.prod(shape))).reshape(shape).astype("float32")

        return add_weight(self, shape, initializer, *args, **kwargs)

    return wrapper


def test_embedding_mask():
    x = np.array([[1, 0, 2], [0, 0, 3]])
    y = layers.Embedding(4, 2, mask_zero=True)(x)
    np.testing.assert_array_equal(y.mask.numpy(), x != 0)
    assert layers.Embedding(4, 2)(x).mask is None


def test_a_layer_that_drops_the_mask_says_so():
    x = layers.Masking()(np.ones((2, 3, 4), "float32"))
    with pytest.warns(UserWarning, match="Flatten"):
        assert layers.Flatten()(x).mask is None


def test_masked_softmax():
    x = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], "float32")
    mask = np.array([[True, False, True], [False, False, False]])
    y = layers.Softmax()(x, mask=mask).numpy()
    e = np.exp([1.0, 3.0])
    np.testing.assert_allclose(y[0, [0, 2]], e / e.sum(), rtol=1e-6)
    np.testing.assert_array_equal(y[1], 0)
    assert y[0, 1] == 0


def test_initial_state_and_mask_together():
    """The mask counts too when an initial state is given."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 4, 3)).astype("float32")
    h = [rng.standard_normal((2, 5)).astype("float32") for _ in range(2)]
    x[:, 2:] = 0
    layer = layers.LSTM(5)
    short = layer(x[:, :2], initial_state=h).numpy()
    np.testing.assert_allclose(
        layer(layers.Masking()(x), initial_state=h).numpy(), short, rtol=1e-6
    )
