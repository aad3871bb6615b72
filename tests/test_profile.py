"""model.profile: whose calls are whose, what they need, and that the model is left as it was."""

import numpy as np
import pytest

import narae
from narae import Input, Model, Sequential, layers, ops


def quiet(model, x, **arguments):
    rows = model.profile(x, repeats=2, print_fn=lambda text: None, **arguments)
    return {row["name"]: row for row in rows}


def make_mlp():
    return Sequential(
        [Input((20,)), layers.Dense(30, activation="relu", name="a"), layers.Dense(4, name="b")]
    )


X = np.random.default_rng(0).normal(size=(8, 20)).astype("float32")


def test_products_of_dense_layers():
    rows = quiet(make_mlp(), X)
    assert list(rows) == ["a", "b"]
    # Forward and the kernel's gradient; the input's gradient for the second layer only.
    assert rows["a"]["flops"] == 2 * (2 * 8 * 20 * 30)
    assert rows["b"]["flops"] == 3 * (2 * 8 * 30 * 4)
    # x, kernel, bias, y; then dy, kernel, dx; x, dy, dw; dy, db
    floats = (240 + 120 + 4 + 32) + (32 + 120 + 240) + (240 + 32 + 120) + (32 + 4)
    assert rows["b"]["bytes"] == 4 * floats
    for row in rows.values():
        assert row["class_name"] == "Dense" and row["forward"] > 0 and row["backward"] > 0
        assert row["share_of_peak"] > 0


def test_products_of_other_layers():
    inputs = Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Reshape((16, 4))(x)
    x = layers.LSTM(5, return_sequences=True, name="lstm")(x)
    y = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    model = Model(inputs, y)
    rows = quiet(model, np.zeros((2, 8, 8, 3), "float32"))
    assert rows["conv"]["flops"] == 2 * (2 * 2 * 36 * 9 * 3 * 4)
    assert rows["depthwise"]["flops"] == 3 * (2 * 2 * 16 * 9 * 4)
    assert rows["lstm"]["flops"] == 3 * (2 * 2 * 16 * (4 + 5) * 20)
    products = 3 * (2 * 2 * 16 * 4 * (5 * 6))
    assert rows["attention"]["flops"] == products + 2 * (2 * 2 * 16 * 16) * (6 + 15)


def test_layers_inside_layers_and_between_them():
    inputs = Input((20,))
    inner = make_mlp()
    model = Model(inputs, ops.exp(inner(inputs)))
    outer = quiet(model, X)
    nested = quiet(model, X, expand_nested=True)
    assert {"a", "b"} <= set(nested) and not {"a", "b"} & set(outer)
    assert outer[inner.name]["flops"] == nested["a"]["flops"] + nested["b"]["flops"]
    assert nested[inner.name]["flops"] == 0
    between = outer["(between the layers)"]
    assert between["forward"] > 0 and between["backward"] > 0


def test_the_model_is_not_changed():
    model = make_mlp()
    model.add(layers.BatchNormalization(name="norm"))
    model.add(layers.Dropout(0.5, name="drop"))
    before = [v.numpy().copy() for v in model.variables]
    quiet(model, X)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert all("call" not in layer.__dict__ for layer in model.layers)
    np.testing.assert_array_equal(model(X).numpy(), model.predict(X, verbose=0))


def test_a_frozen_model_has_no_backward_pass():
    model = make_mlp()
    model.trainable = False
    rows = quiet(model, X)
    assert all(row["forward"] > 0 and row["backward"] == 0 for row in rows.values())


def test_the_table_and_the_picture(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    model = make_mlp()
    model.profile(X, repeats=1, filename=tmp_path / "profile.png")
    text = capsys.readouterr().out
    assert "a (Dense)" in text and "total" in text and "Backward ms" in text
    assert max(map(len, text.splitlines())) <= 100
    assert (tmp_path / "profile.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_profiled():
    class Reads(layers.Layer):
        def call(self, x):
            return x * float(ops.sum(x))

    with pytest.raises(ValueError, match=r"cannot|can be replayed.*float\(\)"):
        quiet(Sequential([Input((20,)), Reads()]), X)
    with pytest.raises(ValueError, match="repeats=0"):
        make_mlp().profile(X, repeats=0)
    assert not narae.engine.recording.is_recording()
