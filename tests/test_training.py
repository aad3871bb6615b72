"""Real data, the whole way: models of the course notes reach stated scores."""

import os
import pathlib

import numpy as np
import pytest

import narae
from narae import layers, ops

pytestmark = [pytest.mark.data, pytest.mark.slow]


@pytest.fixture(autouse=True)
def ordinary_memory(poisoned_memory):
    """Poisoning costs time and is tested elsewhere."""
    narae._core.set_poison(False)


@pytest.fixture(scope="module")
def mnist():
    (x_train, y_train), (x_test, y_test) = narae.datasets.mnist.load_data()
    return (x_train / np.float32(255), y_train), (x_test / np.float32(255), y_test)


def test_mnist_mlp(mnist):
    """The notes' network: 300, 100, 10, plain SGD, 30 epochs, the last 5000 for validation."""
    (x, y), _ = mnist
    model = narae.Sequential(
        [
            layers.Input((28, 28)),
            layers.Flatten(),
            layers.Dense(300, activation="relu"),
            layers.Dense(100, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(
        x[:-5000], y[:-5000], epochs=30, batch_size=32, verbose=2,
        validation_data=(x[-5000:], y[-5000:]),
    ).history  # fmt: skip
    assert history["val_accuracy"][-1] >= 0.975


def test_mnist_cnn(mnist):
    (x, y), (x_test, y_test) = mnist
    model = narae.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    rate = narae.optimizers.schedules.CosineDecay(2e-3, decay_steps=5 * (60000 // 64 + 1))
    model.compile(
        narae.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(x[..., None], y, epochs=5, batch_size=64, verbose=2)
    _, accuracy = model.evaluate(x_test[..., None], y_test, verbose=0)
    print(f"test accuracy {accuracy:.4f}")
    assert accuracy >= 0.99


@pytest.fixture(scope="module")
def housing():
    """Eight numbers of a district and its median house value in units of 100 000 dollars."""
    (x, y), (x_test, y_test) = narae.datasets.california_housing.load_data()
    return (x, y / 1e5), (x_test, y_test / 1e5)


def test_housing_regression(housing):
    (x, y), (x_test, y_test) = housing
    normalize = layers.Normalization()
    normalize.adapt(x)
    model = narae.Sequential(
        [
            layers.Input(x.shape[1:]),
            normalize,
            *[layers.Dense(50, activation="relu") for _ in range(3)],
            layers.Dense(1),
        ]
    )
    model.compile(
        narae.optimizers.Adam(learning_rate=1e-3), "mse", metrics=["RootMeanSquaredError"]
    )
    model.fit(x, y, epochs=20, validation_split=0.1, verbose=2)
    mse, rmse = model.evaluate(x_test, y_test, verbose=0)
    spread = float(np.std(y_test))
    print(f"rmse {rmse:.4f}, standard deviation of the target {spread:.4f}")
    assert abs(rmse - mse**0.5) < 1e-4
    assert rmse < 0.6 * spread


def test_wide_and_deep(housing):
    """The notes' functional model with two inputs: 5 features go the short way, 6 the long one."""
    (x, y), (x_test, y_test) = housing
    a, b = layers.Input((5,), name="wide"), layers.Input((6,), name="deep")
    norm_a, norm_b = layers.Normalization(), layers.Normalization()
    norm_a.adapt(x[:, :5])
    norm_b.adapt(x[:, 2:])
    h = layers.Dense(30, activation="relu")(norm_b(b))
    h = layers.Dense(30, activation="relu")(h)
    model = narae.Model([a, b], layers.Dense(1)(layers.Concatenate()([norm_a(a), h])))
    model.compile("adam", "mse", metrics=["RootMeanSquaredError"])
    model.fit([x[:, :5], x[:, 2:]], y, epochs=10, verbose=2)
    _, rmse = model.evaluate([x_test[:, :5], x_test[:, 2:]], y_test, verbose=0)
    by_name = {"deep": x_test[:, 2:], "wide": x_test[:, :5]}
    assert model.evaluate(by_name, y_test, verbose=0)[1] == rmse
    assert rmse < 0.65 * np.std(y_test)


@pytest.fixture(scope="module")
def shakespeare():
    """Ids of windows of 64 characters, of the characters after each, and how many ids there are."""
    text = (pathlib.Path(os.environ["NARAE_DATA"]) / "tinyshakespeare.txt").read_text()
    letters = sorted(set(text))
    ids = np.array([letters.index(c) for c in text[:400_000]], "int32")
    windows = np.lib.stride_tricks.sliding_window_view(ids, 65)[::64]
    return windows[:, :-1].copy(), windows[:, 1:].copy(), len(letters)


# The entropy of single characters is about 3.3 nats: below it, a model has learned context.
def test_lstm_learns_shakespeare(shakespeare):
    x, y, letters = shakespeare
    model = narae.Sequential(
        [
            layers.Input((64,), dtype="int32"),
            layers.Embedding(letters, 32),
            layers.LSTM(128, return_sequences=True),
            layers.Dense(letters),
        ]
    )
    loss = narae.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(narae.optimizers.Adam(5e-3), loss)
    losses = model.fit(x, y, epochs=3, batch_size=32, verbose=2).history["loss"]
    assert losses[-1] < 2.0


class PositionalEmbedding(layers.Layer):
    """Adds a learned vector for each position."""

    def build(self, shape):
        self.positions = self.add_weight(shape=shape[1:], initializer="uniform", name="positions")

    def call(self, x):
        return x + self.positions


def transformer(letters, steps=64, width=64, heads=4, blocks=2):
    inputs = layers.Input((steps,), dtype="int32")
    h = PositionalEmbedding()(layers.Embedding(letters, width)(inputs))
    for _ in range(blocks):
        a = layers.LayerNormalization()(h)
        a = layers.MultiHeadAttention(heads, width // heads)(a, a, use_causal_mask=True)
        h = layers.Add()([h, a])
        d = layers.LayerNormalization()(h)
        d = layers.Dense(width)(layers.Dense(4 * width, activation="gelu")(d))
        h = layers.Add()([h, d])
    return narae.Model(inputs, layers.Dense(letters)(layers.LayerNormalization()(h)))


def test_transformer_learns_shakespeare(shakespeare):
    x, y, letters = shakespeare
    model = transformer(letters)
    loss = narae.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(narae.optimizers.AdamW(3e-3), loss, jit_compile=True)
    losses = model.fit(x, y, epochs=4, batch_size=32, verbose=2).history["loss"]
    assert "replay" in model.recording_status  # jit_compile: a layer of one's own is recorded too
    assert losses[-1] < 2.2
    changed = x[:1].copy()
    changed[0, 40:] = 0
    before, after = model.predict(x[:1], verbose=0), model.predict(changed, verbose=0)
    assert np.array_equal(before[:, :40], after[:, :40])  # causal: no look into the future
    assert ops.shape(after) == (1, 64, letters)
