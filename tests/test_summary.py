"""The table of `model.summary()`, character by character."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from narae import layers, models
from narae.utils.summary import _column_widths, _count

NARAE = SimpleNamespace(
    layers=layers, Input=layers.Input, Model=models.Model, Sequential=models.Sequential
)


def sequential(k):
    return k.Sequential(
        [
            k.Input((28, 28)),
            k.layers.Flatten(name="flatten"),
            k.layers.Dense(300, name="dense"),
            k.layers.BatchNormalization(name="batch_normalization"),
            k.layers.Dense(10, name="dense_1"),
        ],
        name="sequential",
    )


def unbuilt(k):
    name = "a_very_long_layer_name_that_does_not_fit_in_the_column"
    return k.Sequential([k.layers.Dropout(0.1, name="d"), k.layers.Dense(3, name=name)], name="u")


def branches(k):
    a, b = k.Input((5,), name="a"), k.Input((3,), name="b")
    x = k.layers.Dense(4, name="d")(a)
    y = k.layers.Dense(4, name="e")(b)
    z = k.layers.Dense(1, name="out")(k.layers.Concatenate(name="cat")([x, y]))
    return k.Model([a, b], [z, k.layers.Dense(2, name="out2")(x)], name="branches")


def shared(k):
    layer = k.layers.Dense(4, name="layer")
    p, q = k.Input((4,), name="p"), k.Input((4,), name="q")
    return k.Model([p, q], k.layers.Add(name="sum")([layer(p), layer(q)]), name="shared")


def nested(k):
    i0 = k.Input((4,), name="i0")
    deep = k.Model(i0, k.layers.Dense(4, name="q0")(i0), name="deep")
    i1 = k.Input((4,), name="i1")
    inner = k.Model(i1, k.layers.Add(name="sum")([deep(i1), i1]), name="inner")
    chain = k.Sequential(
        [k.Input((4,)), k.layers.Dense(2, name="s1"), k.layers.Dense(3, name="s2")], name="chain"
    )
    chain.layers[0].trainable = False
    return k.Sequential([k.Input((4,)), inner, chain], name="nested")


def several_outputs(k):
    x = k.Input((5, 4), name="x")
    return k.Model(x, k.layers.LSTM(3, return_state=True, name="lstm")(x), name="several")


def subclassed(k):
    class Mine(k.Model):
        def __init__(self):
            super().__init__(name="mine")
            self.d1 = k.layers.Dense(3, name="d1")
            self.d2 = k.layers.Dense(1, name="d2")

        def call(self, x):
            return self.d2(self.d1(x))

    model = Mine()
    model(np.ones((2, 2), "float32"))
    return model


def text_of(model, **kwargs):
    texts = []
    model.summary(print_fn=lambda text, **_: texts.append(text), **kwargs)
    [text] = texts  # the whole of it in one call
    return text


@pytest.mark.keras
@pytest.mark.parametrize(
    "make", [sequential, unbuilt, branches, shared, nested, several_outputs, subclassed]
)
@pytest.mark.parametrize(
    "kwargs", [{}, {"show_trainable": True}, {"expand_nested": True}, {"line_length": 60}]
)
def test_same_text_as_keras(make, kwargs, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    import keras

    assert text_of(make(NARAE), **kwargs) == text_of(make(keras), **kwargs)


@pytest.mark.keras
def test_same_text_as_keras_after_training(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    import keras

    def trained(k):
        model = k.Sequential([k.Input((3,)), k.layers.Dense(2, name="d")], name="s")
        model.compile("adam", "mse")
        model.fit(np.ones((4, 3), "float32"), np.ones((4, 2), "float32"), verbose=0)
        return text_of(model)

    # narae counts the steps in 64 bits.
    expected = trained(keras).replace("104.00 B", "108.00 B").replace("72.00 B", "76.00 B")
    assert trained(NARAE) == expected


def test_a_chain(capsys):
    sequential(NARAE).summary()
    assert (
        capsys.readouterr().out
        == """\
Model: "sequential"
┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━┓
┃ Layer (type)                    ┃ Output Shape           ┃       Param # ┃
┡━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━┩
│ flatten (Flatten)               │ (None, 784)            │             0 │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ dense (Dense)                   │ (None, 300)            │       235,500 │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ batch_normalization             │ (None, 300)            │         1,200 │
│ (BatchNormalization)            │                        │               │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ dense_1 (Dense)                 │ (None, 10)             │         3,010 │
└─────────────────────────────────┴────────────────────────┴───────────────┘
 Total params: 239,710 (936.37 KB)
 Trainable params: 239,110 (934.02 KB)
 Non-trainable params: 600 (2.34 KB)
"""
    )


def test_connections():
    text = text_of(branches(NARAE), layer_range=["d", "cat"], line_length=90)
    rows = [re.sub(" +", " ", line) for line in text.splitlines() if line.startswith("│")]
    assert rows == [
        "│ d (Dense) │ (None, 4) │ 24 │ a[0][0] │",
        "│ e (Dense) │ (None, 4) │ 16 │ b[0][0] │",
        "│ cat (Concatenate) │ (None, 8) │ 0 │ d[0][0], e[0][0] │",
    ]


def test_long_lines_are_not_cut():
    lines = text_of(sequential(NARAE), line_length=120, positions=[40, 80, 120]).splitlines()
    assert {len(line) for line in lines[1:-3]} == {120}


@pytest.mark.parametrize(
    "kwargs, message",
    [({"layer_range": ["x", "dense"]}, "layer_range to name layers of the model"),
     ({"layer_range": ["dense"]}, "layer_range to be two names"),
     ({"positions": [0.5]}, "positions of 3 columns"), ({"line_length": 12}, "4 characters")],
)  # fmt: skip
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        sequential(NARAE).summary(**kwargs)


def test_columns_in_characters_or_shares():
    assert _column_widths([0.5, 1.0], 80, 2) == _column_widths([40, 80], 80, 2) == [40, 40]


@pytest.mark.parametrize(
    "size, dtype, text",
    [(3, "float32", "3 (12.00 B)"), (1000, "float64", "1,000 (7.81 KB)"),
     (160_040_000, "float32", "160,040,000 (610.50 MB)"),
     (10**10, "uint8", "10,000,000,000 (9.31 GB)")],
)  # fmt: skip
def test_counts(size, dtype, text):
    assert _count([SimpleNamespace(size=size, dtype=dtype)]) == text
