"""The twelve models whose training steps are compared, and their data.

Each is written once as a function of a Keras-like module `k` (narae and Keras share names) and once
in PyTorch, as people write it there. Both return what is trained, the name of its loss
(`"mse"`, `"binary"`: from logits; `"classes"`: sparse, from logits) and its optimizer. `DATA` gives
(x, y) in Keras's layout.
"""

import numpy as np

# Keras and narae


def sequential(k, shape, *layers, dtype="float32"):
    return k.Sequential([k.layers.Input(shape, dtype=dtype), *layers])


def mlp(k):
    D = k.layers.Dense
    model = sequential(k, (784,), D(300, activation="relu"), D(100, activation="relu"), D(10))
    return model, "classes", k.optimizers.SGD(0.01)


def mlp_tabular(k):
    D = k.layers.Dense
    model = sequential(k, (8,), *[D(50, activation="relu") for _ in range(3)], D(1))
    return model, "mse", k.optimizers.Adam(1e-3)


def autoencoder(k):
    D = k.layers.Dense
    hidden = [D(size, activation="relu") for size in (256, 32, 256)]
    return sequential(k, (784,), *hidden, D(784)), "mse", k.optimizers.Adam(1e-3)


def cnn(k):
    L = k.layers
    model = sequential(
        k,
        (28, 28, 1),
        L.Conv2D(32, 3, activation="relu"),
        L.MaxPooling2D(),
        L.Conv2D(64, 3, activation="relu"),
        L.MaxPooling2D(),
        L.Flatten(),
        L.Dense(128, activation="relu"),
        L.Dense(10),
    )
    return model, "classes", k.optimizers.Adam(1e-3)


def resnet18(k):
    L = k.layers

    def convolve(x, filters, size, strides):
        x = L.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)
        return L.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)

    def block(x, filters, strides):
        y = L.ReLU()(convolve(x, filters, 3, strides))
        y = convolve(y, filters, 3, 1)
        if strides > 1:
            x = convolve(x, filters, 1, strides)
        return L.ReLU()(L.Add()([x, y]))

    inputs = k.Input((32, 32, 3))
    x = L.ReLU()(convolve(inputs, 64, 3, 1))
    for filters in (64, 128, 256, 512):
        x = block(x, filters, 1 if filters == 64 else 2)
        x = block(x, filters, 1)
    outputs = L.Dense(10)(L.GlobalAveragePooling2D()(x))
    return k.Model(inputs, outputs), "classes", k.optimizers.SGD(0.01, momentum=0.9)


SEPARABLE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1))  # filters, strides


def mobilenet(k):
    L = k.layers

    def norm_relu(x):
        return L.ReLU()(L.BatchNormalization(momentum=0.9, epsilon=1e-5)(x))

    inputs = k.Input((32, 32, 3))
    x = norm_relu(L.Conv2D(32, 3, padding="same", use_bias=False)(inputs))
    for filters, strides in SEPARABLE:
        x = norm_relu(L.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(x))
        x = norm_relu(L.Conv2D(filters, 1, use_bias=False)(x))
    outputs = L.Dense(10)(L.GlobalAveragePooling2D()(x))
    return k.Model(inputs, outputs), "classes", k.optimizers.SGD(0.01, momentum=0.9)


def unet(k):
    L = k.layers

    def twice(x, filters):
        for _ in range(2):
            x = L.Conv2D(filters, 3, padding="same", activation="relu")(x)
        return x

    inputs = k.Input((64, 64, 3))
    x, skips = inputs, []
    for filters in (16, 32, 64):
        x = twice(x, filters)
        skips.append((filters, x))
        x = L.MaxPooling2D()(x)
    x = twice(x, 128)
    for filters, skip in reversed(skips):
        x = L.Conv2DTranspose(filters, 2, 2)(x)
        x = twice(L.Concatenate()([skip, x]), filters)
    return k.Model(inputs, L.Conv2D(1, 1)(x)), "binary", k.optimizers.Adam(1e-3)


def positions(k):
    """A layer that adds a trained vector to each position (T, D)."""

    class Positions(k.layers.Layer):
        def build(self, input_shape):
            self.table = self.add_weight(shape=input_shape[1:], initializer="uniform")

        def call(self, x):
            return x + self.table

    return Positions()


def gpt(k, layers, size, heads, T):
    L = k.layers
    inputs = k.Input((T,), dtype="int32")
    x = positions(k)(L.Embedding(65, size)(inputs))
    for _ in range(layers):
        y = L.LayerNormalization(epsilon=1e-5)(x)
        x = x + L.MultiHeadAttention(heads, size // heads)(y, y, use_causal_mask=True)
        y = L.LayerNormalization(epsilon=1e-5)(x)
        x = x + L.Dense(size)(L.Activation("gelu")(L.Dense(4 * size)(y)))
    outputs = L.Dense(65)(L.LayerNormalization(epsilon=1e-5)(x))
    return k.Model(inputs, outputs), "classes", k.optimizers.AdamW(1e-3, weight_decay=0.1)


def gpt_small(k):
    return gpt(k, layers=4, size=128, heads=4, T=64)


def gpt_large(k):
    return gpt(k, layers=6, size=384, heads=6, T=256)


def lstm(k):
    model = sequential(k, (50, 64), k.layers.LSTM(128), k.layers.Dense(10))
    return model, "classes", k.optimizers.Adam(1e-3)


def gru(k):
    model = sequential(k, (64, 128), k.layers.GRU(256), k.layers.Dense(10))
    return model, "classes", k.optimizers.Adam(1e-3)


def text_cnn(k):
    L = k.layers
    model = sequential(
        k,
        (100,),
        L.Embedding(10000, 64),
        L.Conv1D(128, 5, activation="relu"),
        L.GlobalMaxPooling1D(),
        L.Dense(64, activation="relu"),
        L.Dense(1),
        dtype="int32",
    )
    return model, "binary", k.optimizers.Adam(1e-3)


KERAS = {
    f.__name__: f
    for f in (mlp, mlp_tabular, autoencoder, cnn, resnet18, mobilenet, unet, gpt_small, gpt_large)
    + (lstm, gru, text_cnn)
}


# PyTorch


def torch_models(name):
    """Returns (module, loss, optimizer class, its arguments); imports torch."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Residual(nn.Module):
        def __init__(self, into, filters, strides):
            super().__init__()
            self.conv1 = nn.Conv2d(into, filters, 3, strides, 1, bias=False)
            self.norm1 = nn.BatchNorm2d(filters)
            self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(filters)
            self.short = nn.Identity()
            if strides > 1:
                conv = nn.Conv2d(into, filters, 1, strides, bias=False)
                self.short = nn.Sequential(conv, nn.BatchNorm2d(filters))

        def forward(self, x):
            y = F.relu(self.norm1(self.conv1(x)))
            return F.relu(self.norm2(self.conv2(y)) + self.short(x))

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()

            def twice(into, filters):
                return nn.Sequential(
                    nn.Conv2d(into, filters, 3, padding=1),
                    nn.ReLU(),
                    nn.Conv2d(filters, filters, 3, padding=1),
                    nn.ReLU(),
                )

            sizes = (3, 16, 32, 64)
            self.down = nn.ModuleList(twice(a, b) for a, b in zip(sizes, sizes[1:]))
            self.middle = twice(64, 128)
            self.up = nn.ModuleList(nn.ConvTranspose2d(2 * f, f, 2, 2) for f in (64, 32, 16))
            self.merge = nn.ModuleList(twice(2 * f, f) for f in (64, 32, 16))
            self.head = nn.Conv2d(16, 1, 1)

        def forward(self, x):
            skips = []
            for part in self.down:
                x = part(x)
                skips.append(x)
                x = F.max_pool2d(x, 2)
            x = self.middle(x)
            for up, merge in zip(self.up, self.merge):
                x = merge(torch.cat([skips.pop(), up(x)], 1))
            return self.head(x)

    class Block(nn.Module):
        def __init__(self, size, heads):
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
            self.qkv, self.project = nn.Linear(size, 3 * size), nn.Linear(size, size)
            self.up, self.down = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)

        def forward(self, x):
            N, T, D = x.shape
            parts = self.qkv(self.norm1(x)).view(N, T, 3, self.heads, D // self.heads)
            q, k, v = parts.permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.project(y.transpose(1, 2).reshape(N, T, D))
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    class GPT(nn.Module):
        def __init__(self, layers, size, heads, T):
            super().__init__()
            self.tokens, self.places = nn.Embedding(65, size), nn.Embedding(T, size)
            self.blocks = nn.Sequential(*[Block(size, heads) for _ in range(layers)])
            self.norm, self.head = nn.LayerNorm(size), nn.Linear(size, 65)

        def forward(self, x):
            x = self.blocks(self.tokens(x) + self.places.weight)
            return self.head(self.norm(x))

    class Recurrent(nn.Module):
        def __init__(self, kind, into, size):
            super().__init__()
            self.cell = kind(into, size, batch_first=True)
            if kind is nn.LSTM:  # PyTorch's second bias, which the model does not need
                self.cell.bias_hh_l0.requires_grad_(False)
            self.head = nn.Linear(size, 10)

        def forward(self, x):
            return self.head(self.cell(x)[0][:, -1])

    class TextCNN(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.conv = nn.Embedding(10000, 64), nn.Conv1d(64, 128, 5)
            self.hidden, self.head = nn.Linear(128, 64), nn.Linear(64, 1)

        def forward(self, x):
            x = F.relu(self.conv(self.table(x).transpose(1, 2))).amax(2)
            return self.head(F.relu(self.hidden(x)))

    def dense(*sizes):
        parts = [p for a, b in zip(sizes, sizes[1:]) for p in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*parts[:-1])

    def cnn():
        return nn.Sequential(
            *[nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)],
            *[nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)],
            *[nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10)],
        )

    def resnet18():
        sizes = (64, 64, 64, 128, 128, 256, 256, 512, 512)
        blocks = [Residual(a, b, 1 if a == b else 2) for a, b in zip(sizes, sizes[1:])]
        return nn.Sequential(
            *[nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), *blocks],
            *[nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)],
        )

    def mobilenet():
        parts = [nn.Conv2d(3, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
        into = 32
        for filters, strides in SEPARABLE:
            parts += [nn.Conv2d(into, into, 3, strides, 1, groups=into, bias=False)]
            parts += [nn.BatchNorm2d(into), nn.ReLU(), nn.Conv2d(into, filters, 1, bias=False)]
            parts += [nn.BatchNorm2d(filters), nn.ReLU()]
            into = filters
        return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(into, 10))

    adam, sgd = torch.optim.Adam, torch.optim.SGD
    momentum, decay = {"lr": 0.01, "momentum": 0.9}, {"lr": 1e-3, "weight_decay": 0.1}
    forms = {
        "mlp": lambda: (dense(784, 300, 100, 10), "classes", sgd, {"lr": 0.01}),
        "mlp_tabular": lambda: (dense(8, 50, 50, 50, 1), "mse", adam, {}),
        "autoencoder": lambda: (dense(784, 256, 32, 256, 784), "mse", adam, {}),
        "cnn": lambda: (cnn(), "classes", adam, {}),
        "resnet18": lambda: (resnet18(), "classes", sgd, momentum),
        "mobilenet": lambda: (mobilenet(), "classes", sgd, momentum),
        "unet": lambda: (UNet(), "binary", adam, {}),
        "gpt_small": lambda: (GPT(4, 128, 4, 64), "classes", torch.optim.AdamW, decay),
        "gpt_large": lambda: (GPT(6, 384, 6, 256), "classes", torch.optim.AdamW, decay),
        "lstm": lambda: (Recurrent(nn.LSTM, 64, 128), "classes", adam, {}),
        "gru": lambda: (Recurrent(nn.GRU, 128, 256), "classes", adam, {}),
        "text_cnn": lambda: (TextCNN(), "binary", adam, {}),
    }
    return forms[name]()


# Data


def _normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def _classes(count, *shape):
    return np.random.default_rng(1).integers(0, count, shape).astype("int32")


def _labels(*shape):
    return _classes(2, *shape).astype("float32")


DATA = {
    "mlp": lambda: (_normal(32, 784), _classes(10, 32)),
    "mlp_tabular": lambda: (_normal(32, 8), _normal(32, 1)),
    "autoencoder": lambda: (_normal(128, 784), _normal(128, 784)),
    "cnn": lambda: (_normal(64, 28, 28, 1), _classes(10, 64)),
    "resnet18": lambda: (_normal(32, 32, 32, 3), _classes(10, 32)),
    "mobilenet": lambda: (_normal(32, 32, 32, 3), _classes(10, 32)),
    "unet": lambda: (_normal(8, 64, 64, 3), _labels(8, 64, 64, 1)),
    "gpt_small": lambda: (_classes(65, 12, 64), _classes(65, 12, 64)),
    "gpt_large": lambda: (_classes(65, 4, 256), _classes(65, 4, 256)),
    "lstm": lambda: (_normal(32, 50, 64), _classes(10, 32)),
    "gru": lambda: (_normal(32, 64, 128), _classes(10, 32)),
    "text_cnn": lambda: (_classes(10000, 32, 100), _labels(32, 1)),
}
