"""Recurrent layers: states, cells of one's own, names and copies."""

import numpy as np
import pytest

from narae import layers, ops
from narae.engine import GradientTape

X = np.random.default_rng(0).standard_normal((2, 6, 3)).astype("float32")


@pytest.mark.parametrize("make", [layers.SimpleRNN, layers.LSTM, layers.GRU])
@pytest.mark.parametrize("fused", [True, False])
def test_stateful_layers_go_on_where_they_stopped(make, fused):
    other = {} if fused else {"activation": "sigmoid"}
    whole = make(4, **other)
    expected = whole(X).numpy()
    layer = make(4, stateful=True, **other)
    layer.build((2, 3, 3))
    layer.set_weights(whole.get_weights())
    for _ in range(2):
        layer(X[:, :3])
        np.testing.assert_allclose(layer(X[:, 3:]).numpy(), expected, rtol=1e-5, atol=1e-6)
        layer.reset_state()
    assert len(layer.weights) == 3  # states are not weights
    with pytest.raises(ValueError, match="batches of 2"):
        layer(X[:1])


@pytest.mark.parametrize("make", [layers.SimpleRNN, layers.LSTM, layers.GRU])
@pytest.mark.parametrize("fused", [True, False])
def test_gradients_of_a_stateful_layer_are_those_from_its_first_states(make, fused):
    other = {"return_sequences": True} | ({} if fused else {"activation": "sigmoid"})
    layer, plain = make(4, stateful=True, **other), make(4, **other)
    for x in (layer, plain):
        x.build((2, 6, 3))
    plain.set_weights(layer.get_weights())
    layer(X)
    before = [ops.copy(state) for state in layer.states]

    def gradients(run, variables):
        with GradientTape() as tape:
            y = ops.sum(ops.square(run()))
        return [g.numpy() for g in tape.gradient(y, variables)]

    got = gradients(lambda: layer(X), layer.trainable_variables)
    expected = gradients(lambda: plain(X, initial_state=before), plain.trainable_variables)
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_array_equal(g, e)


def test_stateful_needs_a_batch_size():
    with pytest.raises(ValueError, match="batch size"):
        layers.LSTM(3, stateful=True).build((None, 4, 3))


@pytest.mark.parametrize("make, states", [
    (layers.SimpleRNN, 1), (layers.GRU, 1), (layers.LSTM, 2)])  # fmt: skip
def test_final_state_continues_the_sequence(make, states):
    layer = make(4, return_state=True)
    expected, *_ = layer(X)
    _, *middle = layer(X[:, :2])
    assert len(middle) == states
    y, *_ = layer(X[:, 2:], initial_state=middle)
    np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_bidirectional_is_two_layers():
    layer = layers.Bidirectional(layers.GRU(4, return_sequences=True), merge_mode=None)
    y, z = layer(X)
    np.testing.assert_allclose(layer.forward_layer(X).numpy(), y.numpy(), rtol=1e-6)
    backwards = layer.backward_layer(X).numpy()[:, ::-1]
    np.testing.assert_allclose(backwards, z.numpy(), rtol=1e-6)
    a, b = layer.forward_layer.get_weights(), layer.backward_layer.get_weights()
    assert all(v.shape == w.shape for v, w in zip(a, b))
    assert (a[0] != b[0]).any()  # each draws its own


def test_bidirectional_takes_initial_states():
    layer = layers.Bidirectional(layers.LSTM(4, return_state=True))
    y, *states = layer(X)
    assert y.shape == (2, 8) and len(states) == 4
    z, *_ = layer(X, initial_state=states)
    assert (y.numpy() != z.numpy()).any()


def test_forget_gate_starts_open():
    layer = layers.LSTM(3)
    layer.build((None, None, 2))
    np.testing.assert_array_equal(layer.cell.bias.numpy(), [0] * 3 + [1] * 3 + [0] * 6)
    layer = layers.LSTM(3, unit_forget_bias=False)
    layer.build((None, None, 2))
    np.testing.assert_array_equal(layer.cell.bias.numpy(), [0] * 12)


def test_paths_and_forwarded_arguments():
    layer = layers.Bidirectional(layers.LSTM(3, name="memory"), name="both")
    layer.build((None, 4, 2))
    assert [w.path for w in layer.weights] == [
        f"both/{way}_memory/lstm_cell/{name}"
        for way in ("forward", "backward")
        for name in ("kernel", "recurrent_kernel", "bias")
    ]
    assert layer.forward_layer.units == 3
    assert layer.forward_layer.use_bias is True
    with pytest.raises(AttributeError, match="nothing"):
        layer.forward_layer.nothing  # noqa: B018


class Sum:
    """A cell that is no layer: adds up what it sees."""

    state_size = 3

    def call(self, inputs, states):
        total = inputs + states[0]
        return total, [total]

    __call__ = call


def test_cells_of_ones_own():
    y = layers.RNN(Sum(), return_sequences=True)(X)
    np.testing.assert_allclose(y.numpy(), np.cumsum(X, axis=1), rtol=1e-5, atol=1e-6)
    y, state = layers.RNN(Sum(), go_backwards=True, return_state=True)(X)
    np.testing.assert_allclose(y.numpy(), X.sum(axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(y.numpy(), state.numpy())


def test_stacked_cells_equal_stacked_layers():
    cells = layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)])
    cells(X)
    one, two = layers.LSTM(4, return_sequences=True), layers.GRU(3)
    two(one(X))
    weights = cells.get_weights()
    one.set_weights(weights[:3])
    two.set_weights(weights[3:])
    np.testing.assert_allclose(cells(X).numpy(), two(one(X)).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell])
def test_cells_step_by_step(make):
    cell = make(4)
    layer = layers.RNN(cell, return_sequences=True)
    expected = layer(X).numpy()
    states = cell.get_initial_state(batch_size=2)
    for t in range(6):
        output, states = cell(ops.convert_to_tensor(X[:, t]), states)
        np.testing.assert_allclose(output.numpy(), expected[:, t], rtol=1e-5, atol=1e-6)
