"""The references' conventions (paddings, gate orders, epsilons) against the real Keras."""

import inspect
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
import pytest

from helpers import randn
from reference import attention, conv, norm, optimizer, pool, recurrent, softmax, unary

pytestmark = pytest.mark.keras
keras = pytest.importorskip("keras")


def agree(y, expected):
    expected = np.asarray(expected)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=2e-5, atol=2e-5)


ACTIVATIONS = [name for name in unary.UNARY if hasattr(keras.activations, name)]
PARAMS = {"threshold": {"threshold": 0.3, "default_value": -2.0}}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name):
    x, params = np.linspace(-6, 6, 49, dtype="float32"), PARAMS.get(name, {})
    agree(unary.unary(x, name, **params), getattr(keras.activations, name)(x, **params))


def test_activation_parameters():
    x = np.linspace(-6, 6, 49, dtype="float32")
    params = {"negative_slope": 0.1, "max_value": 2.0, "threshold": 0.5}
    agree(unary.unary(x, "relu", **params), keras.activations.relu(x, **params))
    params = {"approximate": True}
    agree(unary.unary(x, "gelu", **params), keras.activations.gelu(x, **params))
    agree(unary.glu(x[:48]), keras.activations.glu(x[:48]))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation"),
    [(6, 3, 1, 1), (7, 3, 2, 1), (6, 4, 3, 1), (7, 1, 2, 1), (7, 3, 1, 2), (8, 2, 2, 1)],
)
def test_conv(size, kernel, stride, dilation, padding):
    x, w = randn((2, size, size + 1, 4)), randn((kernel, 2, 2, 6))
    options = {"strides": stride, "padding": padding}
    both = {**options, "dilation_rate": dilation}
    agree(conv.conv(x, w, None, stride, padding, dilation), keras.ops.conv(x, w, **both))
    if dilation == 1:
        agree(pool.max_pool(x, kernel, **options), keras.ops.max_pool(x, kernel, **options))
        agree(pool.average_pool(x, kernel, **options), keras.ops.average_pool(x, kernel, **options))
        w = randn((kernel, 2, 4, 2))
        expected = keras.ops.depthwise_conv(x, w, **options)
        agree(conv.depthwise_conv(x, w, None, stride, padding), expected)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("extra", [None, 0, 1])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"),
    [(1, 2, 1), (2, 3, 1), (3, 2, 1), (4, 2, 1), (5, 3, 1), (3, 1, 2)],
)
def test_conv_transpose(kernel, stride, dilation, extra, padding):
    x, w = randn((2, 4, 3)), randn((kernel, 2, 3))
    extra = None if extra is None else min(extra, stride - 1)  # as Keras wants it
    expected = keras.ops.conv_transpose(
        x, w, strides=stride, padding=padding, output_padding=extra, dilation_rate=dilation
    )
    agree(conv.conv_transpose(x, w, None, stride, padding, extra, dilation), expected)


def test_causal_conv():
    layer = keras.layers.Conv1D(2, 3, strides=2, padding="causal")
    x = randn((2, 7, 3))
    y = layer(x)
    agree(conv.conv(x, *map(np.asarray, layer.get_weights()), 2, "causal"), y)


@pytest.mark.parametrize("mask", [None, np.array([[1, 0, 1, 1, 0], [0, 1, 1, 0, 0]], bool)])
@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU", "GRU before"])
def test_recurrent(name, mask):
    options = {"reset_after": False} if name == "GRU before" else {}
    layer = getattr(keras.layers, name.split()[0])(
        3, return_sequences=True, return_state=True, bias_initializer="normal", **options
    )
    x = randn((2, 5, 4))
    states = [randn((2, 3), seed=s) for s in range(2 if name == "LSTM" else 1)]
    expected = layer(x, initial_state=states, mask=mask)
    f = {"SimpleRNN": recurrent.simple_rnn, "LSTM": recurrent.lstm}.get(name, recurrent.gru)
    y = f(x, *layer.get_weights(), *states, mask=mask, **options)
    for y_i, expected_i in zip(y, expected, strict=True):
        agree(y_i, expected_i)


@pytest.mark.parametrize("causal", [False, True])
def test_attention(causal):
    q, k, v = randn((2, 5, 4, 3)), randn((2, 6, 2, 3)), randn((2, 6, 2, 3), seed=1)
    mask = np.random.default_rng(0).random((2, 1, 5, 6)) < 0.7
    mask[..., 0] = True
    expected = keras.ops.dot_product_attention(q, k, v, mask=mask, is_causal=causal)
    agree(attention.dot_product_attention(q, k, v, mask=mask, causal=causal), expected)


def test_norm():
    x, mask = randn((2, 4, 6)), np.array([[1, 1, 0, 1], [1, 0, 0, 0]], bool)
    agree(norm.group_normalization(x, groups=3), keras.layers.GroupNormalization(3)(x))
    agree(norm.rms_normalization(x), keras.layers.RMSNormalization()(x))
    layer = keras.layers.LayerNormalization(axis=(1, 2))
    agree(norm.layer_normalization(x, axis=(1, 2)), layer(x))
    layer = keras.layers.BatchNormalization()
    y = norm.batch_normalization_training(x, mask=mask[..., None])
    agree(y, layer(x, training=True, mask=mask))


def test_crossentropy():
    x, labels = randn((4, 5)), np.array([0, 4, 2, 2])
    expected = keras.ops.sparse_categorical_crossentropy(labels, x, from_logits=True)
    agree(softmax.sparse_softmax_crossentropy(x, labels), expected)
    target = np.asarray(keras.ops.softmax(randn((4, 5), seed=1)))
    expected = keras.ops.categorical_crossentropy(target, x, from_logits=True)
    agree(softmax.softmax_crossentropy(x, target), expected)
    expected = keras.ops.binary_crossentropy(target, x, from_logits=True)
    agree(softmax.sigmoid_crossentropy(x, target), expected)


FTRL = {"beta": 0.3, "l1_regularization_strength": 0.01, "l2_regularization_strength": 0.02}
FTRL |= {"l2_shrinkage_regularization_strength": 0.03, "learning_rate_power": -0.6}
OURS = {"beta": 0.3, "l1": 0.01, "l2": 0.02, "l2_shrinkage": 0.03, "power": -0.6}
OPTIMIZERS = [  # Keras's name and arguments, f, the values its slots start at, its arguments
    ("SGD", {}, optimizer.sgd, [0], {}),
    ("SGD", {"momentum": 0.9}, optimizer.sgd, [0], {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True}, optimizer.sgd, [0], "as Keras"),
    ("Adam", {}, optimizer.adam, [0, 0], {}),
    ("Adam", {"amsgrad": True}, optimizer.amsgrad, [0, 0, 0], {}),
    ("AdamW", {}, optimizer.adamw, [0, 0], {}),
    ("Nadam", {}, optimizer.nadam, [0, 0, 1], {}),
    ("Adamax", {}, optimizer.adamax, [0, 0], {}),
    ("RMSprop", {}, optimizer.rmsprop, [0, 0, 0], {}),
    ("RMSprop", {"momentum": 0.9, "centered": True}, optimizer.rmsprop, [0, 0, 0], "as Keras"),
    ("Adagrad", {}, optimizer.adagrad, [0.1], {}),
    ("Adadelta", {}, optimizer.adadelta, [0, 0], {}),
    ("Ftrl", {}, optimizer.ftrl, [0.1, 0], {}),
    ("Ftrl", FTRL, optimizer.ftrl, [0.1, 0], OURS),
    ("Lion", {}, optimizer.lion, [0], {}),
    ("Lamb", {}, optimizer.lamb, [0, 0], {}),
]


@pytest.mark.parametrize(("name", "options", "f", "slots", "params"), OPTIMIZERS)
def test_optimizer(name, options, f, slots, params):
    theirs = getattr(keras.optimizers, name)(learning_rate=0.05, **options)
    params = options if params == "as Keras" else params
    w = randn(7)
    variable = keras.Variable(w)
    slots = [np.full(7, slot, "float64") for slot in slots]
    counts = "t" in inspect.signature(f).parameters
    for t in range(1, 6):
        dw = randn(7, seed=t)
        theirs.apply([keras.ops.convert_to_tensor(dw)], [variable])
        w, *slots = f(w, dw, *slots, *[t] * counts, lr=0.05, **params)
        agree(w, variable)


def test_clip_by_global_norm():
    dws = [randn(5), randn((2, 3))]
    theirs = keras.optimizers.SGD(1.0, global_clipnorm=0.7)
    variables = [keras.Variable(np.zeros_like(dw)) for dw in dws]
    theirs.apply([keras.ops.convert_to_tensor(dw) for dw in dws], variables)
    for dw, variable in zip(optimizer.clip_by_global_norm(dws, 0.7), variables, strict=True):
        agree(-dw, variable)
