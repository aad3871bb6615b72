"""Twelve small models, written once for any library with Keras's names: `build(k)`.

Each comes with data that it can learn something from. Nothing in them is random once the weights
are set, so that two libraries can be compared.
"""

import numpy as np

MODELS = {}


def model(build):
    """Registers a function that returns (compiled model, x, y); its name is the model's."""
    MODELS[build.__name__] = build
    return build


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def classes(n, k, seed=0):
    return np.random.default_rng(seed + 1).integers(0, k, size=n).astype("int32")


def images(n, *shape, k=4):
    """Images whose mean brightness tells the class."""
    y = classes(n, k)
    return numbers(n, *shape) + y.reshape(-1, *[1] * len(shape)) * 0.5, y


def tokens(n, t, vocabulary, k=2):
    """Sequences padded with 0 at the end; the first token's parity tells the class."""
    x = np.random.default_rng(3).integers(1, vocabulary, size=(n, t)).astype("int32")
    lengths = np.random.default_rng(4).integers(t // 2, t + 1, size=n)
    x[np.arange(t) >= lengths[:, None]] = 0
    return x, (x[:, 0] % k).astype("int32")


@model
def mlp_classifier(k):
    x, y = images(96, 6, 5)
    m = k.Sequential(
        [
            k.layers.Input((6, 5)),
            k.layers.Flatten(),
            k.layers.Dense(32, activation="relu", kernel_initializer="he_normal"),
            k.layers.Dense(16, activation="elu"),
            k.layers.Dense(4, activation="softmax"),
        ]
    )
    m.compile(
        k.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return m, x, y


@model
def mlp_regressor(k):
    x = numbers(96, 8)
    y = np.sin(x[:, :1]) + x[:, 1:2] * x[:, 2:3]
    m = k.Sequential(
        [
            k.layers.Input((8,)),
            k.layers.Dense(50, activation="tanh", kernel_regularizer="l2"),
            k.layers.Dense(50, activation="gelu"),
            k.layers.Dense(1),
        ]
    )
    m.compile(k.optimizers.Adam(0.01, global_clipnorm=1.0), "mse", metrics=["mae"])
    return m, x, y


@model
def cnn(k):
    x, y = images(64, 12, 12, 1)
    m = k.Sequential(
        [
            k.layers.Input((12, 12, 1)),
            k.layers.Conv2D(8, 3, activation="relu"),
            k.layers.MaxPooling2D(),
            k.layers.Conv2D(16, 3, activation="relu", padding="same"),
            k.layers.MaxPooling2D(),
            k.layers.Flatten(),
            k.layers.Dense(4),
        ]
    )
    loss = k.losses.SparseCategoricalCrossentropy(from_logits=True)
    m.compile(k.optimizers.Adam(0.003), loss, metrics=["accuracy"])
    return m, x, y


@model
def resnet(k):
    """Residual blocks with batch normalization, strides and global average pooling."""
    x, y = images(64, 8, 8, 3)
    inputs = h = k.layers.Input((8, 8, 3))
    for filters, strides in ((8, 1), (16, 2)):
        short = k.layers.Conv2D(filters, 1, strides=strides, use_bias=False)(h)
        h = k.layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(h)
        h = k.layers.BatchNormalization(momentum=0.9)(h)
        h = k.layers.Activation("relu")(h)
        h = k.layers.Add()([h, short])
    h = k.layers.GlobalAveragePooling2D()(h)
    m = k.Model(inputs, k.layers.Dense(4, activation="softmax")(h))
    m.compile(k.optimizers.RMSprop(0.003, momentum=0.5), "sparse_categorical_crossentropy")
    return m, x, y


@model
def separable_cnn(k):
    x, y = images(64, 10, 9, 3)
    m = k.Sequential(
        [
            k.layers.Input((10, 9, 3)),
            k.layers.SeparableConv2D(8, 3, padding="same", activation="silu"),
            k.layers.DepthwiseConv2D(3, depth_multiplier=2),
            k.layers.LayerNormalization(),
            k.layers.AveragePooling2D(2, padding="same"),
            k.layers.GlobalMaxPooling2D(),
            k.layers.Dense(4, activation="softmax"),
        ]
    )
    m.compile(k.optimizers.Nadam(0.005), "sparse_categorical_crossentropy")
    return m, x, y


@model
def lstm(k):
    x = numbers(64, 9, 5)
    y = (x.sum(axis=(1, 2)) > 0).astype("float32")[:, None]
    m = k.Sequential(
        [
            k.layers.Input((9, 5)),
            k.layers.LSTM(12, return_sequences=True),
            k.layers.LSTM(7),
            k.layers.Dense(1, activation="sigmoid"),
        ]
    )
    m.compile(k.optimizers.Adam(0.02, clipnorm=1.0), "binary_crossentropy", metrics=["accuracy"])
    return m, x, y


@model
def gru_with_mask(k):
    x, y = tokens(64, 8, 20)
    m = k.Sequential(
        [
            k.layers.Input((8,), dtype="int32"),
            k.layers.Embedding(20, 6, mask_zero=True),
            k.layers.GRU(9),
            k.layers.Dense(2, activation="softmax"),
        ]
    )
    m.compile(k.optimizers.Adam(0.02, amsgrad=True), "sparse_categorical_crossentropy")
    return m, x, y


@model
def bidirectional_rnn(k):
    x = numbers(64, 7, 4)
    y = np.cumsum(x, axis=1)[..., :2]
    m = k.Sequential(
        [
            k.layers.Input((7, 4)),
            k.layers.Bidirectional(k.layers.SimpleRNN(8, return_sequences=True)),
            k.layers.TimeDistributed(k.layers.Dense(2)),
        ]
    )
    m.compile(k.optimizers.Adamax(0.02), k.losses.Huber())
    return m, x, y


@model
def transformer(k):
    """A causal Transformer block that predicts the next token."""
    text = np.random.default_rng(5).integers(0, 12, size=(64, 11)).astype("int32")
    text[:, 1::2] = (text[:, 0:-1:2] + 1) % 12  # every second token follows from the one before
    inputs = k.layers.Input((10,), dtype="int32")
    h = k.layers.Embedding(12, 16)(inputs)
    attended = k.layers.MultiHeadAttention(2, 8)(h, h, use_causal_mask=True)
    h = k.layers.LayerNormalization()(h + attended)
    dense = k.layers.Dense(16)(k.layers.Dense(32, activation="relu")(h))
    h = k.layers.LayerNormalization()(k.layers.Add()([h, dense]))
    m = k.Model(inputs, k.layers.Dense(12)(h))
    loss = k.losses.SparseCategoricalCrossentropy(from_logits=True)
    m.compile(k.optimizers.AdamW(0.01, weight_decay=0.01), loss, metrics=["accuracy"])
    return m, text[:, :-1], text[:, 1:]


@model
def wide_and_deep(k):
    """Two inputs, two outputs with weights."""
    wide, deep = numbers(96, 3), numbers(96, 6, seed=1)
    a = k.layers.Input((3,), name="wide")
    b = k.layers.Input((6,), name="deep")
    h = k.layers.Dense(16, activation="selu", kernel_initializer="lecun_normal")(b)
    # L1 not on a bias: it starts at 0, where the slope of |w| is 1 in JAX and 0 here
    h = k.layers.Dense(16, activation="leaky_relu", kernel_regularizer="l1")(h)
    main = k.layers.Dense(1, name="main")(k.layers.Concatenate()([a, h]))
    other = k.layers.Dense(1, name="other")(h)
    m = k.Model([a, b], [main, other])
    m.compile(k.optimizers.Adagrad(0.1), loss=["mse", "mae"], loss_weights=[0.9, 0.1])
    return m, [wide, deep], [wide[:, :1] * deep[:, :1], deep.sum(axis=1, keepdims=True)]


@model
def autoencoder(k):
    x = 1 / (1 + np.exp(-images(64, 8, 8, 1)[0]))
    m = k.Sequential(
        [
            k.layers.Input((8, 8, 1)),
            k.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            k.layers.Conv2D(4, 3, dilation_rate=2, padding="same", activation="softplus"),
            k.layers.Conv2DTranspose(8, 3, strides=2, padding="same", activation="relu"),
            k.layers.UpSampling2D(1),
            k.layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
        ]
    )
    m.compile(k.optimizers.Adadelta(1.0), "binary_crossentropy")
    return m, x, x


@model
def text_cnn(k):
    x, y = tokens(64, 12, 30)
    m = k.Sequential(
        [
            k.layers.Input((12,), dtype="int32"),
            k.layers.Embedding(30, 8),
            k.layers.Conv1D(12, 3, activation="relu", padding="causal"),
            k.layers.GroupNormalization(4),
            k.layers.GlobalMaxPooling1D(),
            k.layers.Dense(2, activation="softmax", kernel_constraint=k.constraints.MaxNorm(1.0)),
        ]
    )
    one_hot = np.eye(2, dtype="float32")[y]
    m.compile(k.optimizers.Lion(0.003), "categorical_crossentropy", metrics=["accuracy"])
    return m, x, one_hot
