"""Recurrent networks against their references, on every instruction set."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
import pytest

import narae
from helpers import assert_close, randn
from narae import _core, ops
from reference import recurrent as reference

# B, T, F, U: rows and units below, at and above tiles and registers.
SIZES = [
    (1, 1, 1, 1),
    (3, 4, 5, 7),
    (6, 3, 2, 16),
    (15, 2, 4, 33),
    (29, 5, 3, 8),
    (32, 3, 4, 9),
    (130, 2, 3, 5),
]
GATES = {"simple_rnn": 1, "lstm": 4, "gru": 3}


def inputs_of(name, sizes, dtype, with_bias=True):
    B, T, F, U = sizes
    G = GATES[name]
    shapes = {"x": (B, T, F), "w": (F, G * U), "u": (U, G * U), "b": (G * U,), "h0": (B, U)}
    if name == "lstm":
        shapes["c0"] = (B, U)
    if name == "gru":
        shapes["b"] = (2, G * U)
    values = {k: randn(s, dtype, seed=i) / 2 for i, (k, s) in enumerate(shapes.items())}
    if not with_bias:
        values["b"] = None
    return values


def run(name, x, w, u, b, h0, c0=None, **options):
    states = (h0,) if name != "lstm" else (h0, c0)
    return getattr(ops, name)(x, *states, w, u, b, **options)


def check(name, values, mask=None, reverse=False, **options):
    """Compares outputs and all gradients with the reference's."""
    tensors = {k: None if v is None else ops.convert_to_tensor(v) for k, v in values.items()}
    watched = [t for t in tensors.values() if t is not None]
    with narae.GradientTape() as tape:
        tape.watch(watched)
        outputs = run(name, **tensors, mask=mask, reverse=reverse, **options)
    dtype = values["x"].dtype.name
    dy = [randn(y.shape, dtype, seed=20 + i) for i, y in enumerate(outputs)]
    gradients = tape.gradient(
        list(outputs), watched, output_gradients=[ops.convert_to_tensor(d) for d in dy]
    )

    def turned(a):
        return np.flip(a, 1) if reverse else a

    wide = {k: None if v is None else v.astype("float64") for k, v in values.items()}
    wide["x"] = turned(wide["x"])
    if mask is not None:
        options["mask"] = turned(mask)
    expected = getattr(reference, name)(**wide, **options)
    expected = (turned(expected[0]), *expected[1:])
    for y, e in zip(outputs, expected, strict=True):
        assert_close(y.numpy(), e, "composite", 1.0)
    dy = [d.astype("float64") for d in dy]
    backward = getattr(reference, name + "_backward")
    dx, dw, du, db, *dstates = backward((turned(dy[0]), *dy[1:]), **wide, **options)
    wanted = [turned(dx), dw, du, *([] if db is None else [db]), *dstates]
    for gradient, e in zip(gradients, wanted, strict=True):
        assert_close(gradient.numpy(), e, "composite", 4 * (1 + np.abs(e).max()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", GATES)
def test_against_reference(isa, name, sizes, dtype):
    check(name, inputs_of(name, sizes, dtype))


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("reverse", [False, True])
def test_masks_and_reverse(isa, name, reverse):
    values = inputs_of(name, (5, 6, 3, 9), "float64")
    mask = randn((5, 6)) > -0.3
    mask[0] = False
    mask[1] = True
    mask[2, 0] = False
    check(name, values, mask=mask, reverse=reverse)
    check(name, values, reverse=reverse)


@pytest.mark.parametrize("name", GATES)
def test_without_bias_and_states(name):
    check(name, inputs_of(name, (3, 4, 5, 7), "float64", with_bias=False))
    values = inputs_of(name, (3, 4, 5, 7), "float64")
    zeros = run(name, **{**values, "h0": np.zeros((3, 7)), "c0": np.zeros((3, 7))})
    none = run(name, **{**values, "h0": None, "c0": None})
    np.testing.assert_array_equal(none[0].numpy(), zeros[0].numpy())


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
def test_activations_of_simple_rnn(isa, activation):
    check("simple_rnn", inputs_of("simple_rnn", (4, 3, 2, 17), "float64"), activation=activation)


@pytest.mark.parametrize("reverse", [False, True])
def test_gru_with_reset_before(isa, reverse):
    values = inputs_of("gru", (3, 4, 5, 7), "float64")
    values["b"] = values["b"][0]
    check("gru", values, reset_after=False, reverse=reverse)
    check("gru", values, reset_after=False, reverse=reverse, mask=randn((3, 4)) > 0)


@pytest.mark.parametrize("name", GATES)
def test_any_number_of_threads_gives_the_same_bits(isa, name):
    values = {
        k: ops.convert_to_tensor(v) for k, v in inputs_of(name, (70, 3, 4, 24), "float32").items()
    }
    before = _core.num_threads()
    results = []
    for threads in (1, 2, 3):
        _core.set_num_threads(threads)
        with narae.GradientTape() as tape:
            tape.watch(list(values.values()))
            y = run(name, **values)[0]
        parts = [y, *tape.gradient(y, list(values.values()))]
        results.append([p.numpy().tobytes() for p in parts])
    _core.set_num_threads(before)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("name", GATES)
def test_only_wanted_gradients_are_computed(name, monkeypatch):
    """Each input alone gives the bits that it gives among all, with the products that it needs."""
    values = {
        k: ops.convert_to_tensor(v) for k, v in inputs_of(name, (3, 4, 5, 7), "float32").items()
    }

    def gradients_of(watched):
        with narae.GradientTape() as tape:
            tape.watch(watched)
            y = run(name, **values)[0]
        products = []
        matmul = _core.matmul
        with monkeypatch.context() as patch:
            patch.setattr(_core, "matmul", lambda *a, **k: products.append(a) or matmul(*a, **k))
            return [g.numpy().tobytes() for g in tape.gradient(y, watched)], len(products)

    together, products = gradients_of(list(values.values()))
    assert products == 3
    for (key, value), expected in zip(values.items(), together, strict=True):
        assert gradients_of([value]) == ([expected], int(key in "xwu")), key


@pytest.mark.parametrize("name", GATES)
def test_no_steps_and_no_rows(name):
    values = inputs_of(name, (2, 0, 3, 4), "float32")
    y, h = run(name, **values)[:2]
    assert y.shape == (2, 0, 4)
    np.testing.assert_array_equal(h.numpy(), values["h0"])
    assert run(name, **inputs_of(name, (0, 2, 3, 4), "float32"))[0].shape == (0, 2, 4)


def test_bad_input():
    good = inputs_of("lstm", (2, 3, 4, 5), "float32")
    for key, value, message in [
        ("x", np.zeros((2, 4), "float32"), r"lstm: expected x of shape \(batch, steps, features\)"),
        ("w", np.zeros((3, 20), "float32"), r"lstm: expected kernel of shape \(4, 20\)"),
        ("u", np.zeros((5, 15), "float32"), r"lstm: expected recurrent_kernel of shape \(5, 20\)"),
        ("b", np.zeros(5, "float32"), r"lstm: expected bias of shape \(20,\)"),
        ("h0", np.zeros((1, 5), "float32"), r"lstm: expected initial states of shape \(2, 5\)"),
        ("mask", np.ones((2, 2), bool), r"lstm: expected mask of shape \(2, 3\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            run("lstm", **{**good, key: value})
    with pytest.raises(ValueError, match="simple_rnn: expected activation"):
        run("simple_rnn", **inputs_of("simple_rnn", (1, 1, 1, 1), "float32"), activation="elu")


@pytest.mark.keras
@pytest.mark.parametrize(
    "name, layer", [("simple_rnn", "SimpleRNN"), ("lstm", "LSTM"), ("gru", "GRU")]
)
def test_as_keras(name, layer):
    import keras

    values = inputs_of(name, (3, 5, 4, 6), "float32")
    mask = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [1, 1, 1, 1, 1]], bool)
    theirs = getattr(keras.layers, layer)(6, return_sequences=True, return_state=True)
    theirs.build((3, 5, 4))
    theirs.set_weights([values["w"], values["u"], values["b"]])
    states = [values["h0"], values["c0"]] if name == "lstm" else [values["h0"]]
    for m in (None, mask):
        expected = theirs(values["x"], initial_state=states, mask=m)
        ours = run(name, **values, mask=m)
        for a, b in zip(ours, expected, strict=True):
            np.testing.assert_allclose(a.numpy(), np.asarray(b), atol=3e-6)
