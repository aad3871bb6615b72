"""Softmax and the cross-entropies against their references, on every instruction set."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
import pytest

import narae
from helpers import assert_close, randn
from narae import _core, ops
from narae.engine.recording import RecordedStep
from reference import softmax as reference

SHAPES = [(1, 1), (3, 7), (3, 8), (3, 16), (5, 17), (2, 65), (2, 3, 1000), (2, 5001)]
FLOATS = ["float32", "float64"]


def gradients_of(function, *inputs, dy):
    tensors = [ops.convert_to_tensor(x) for x in inputs]
    with narae.GradientTape() as tape:
        tape.watch(tensors)
        y = function(*tensors)
    found = tape.gradient(y, tensors, output_gradients=ops.convert_to_tensor(dy))
    return y.numpy(), [g.numpy() for g in found]


def wide(*arrays):
    return [a.astype("float64") for a in arrays]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shift", [0.0, 95.0, -1000.0])  # exp overflows, or all of it underflows
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(isa, name, shape, shift, dtype):
    x = (randn(shape, dtype) * 3 + shift).astype(dtype)
    dy = randn(shape, dtype, seed=1)
    y, (dx,) = gradients_of(getattr(ops, name), x, dy=dy)
    assert_close(y, getattr(reference, name)(*wide(x)), "composite")
    scale = np.abs(dy).sum(-1, keepdims=True)
    assert_close(dx, getattr(reference, name + "_backward")(*wide(dy, x)), "composite", scale)


@pytest.mark.parametrize("axis", [0, 1, 2, (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_any_axis(isa, name, axis):
    x, dy = randn((4, 5, 6), "float64"), randn((4, 5, 6), "float64", seed=1)
    y, (dx,) = gradients_of(lambda x: getattr(ops, name)(x, axis=axis), x, dy=dy)
    assert_close(y, getattr(reference, name)(x, axis), "composite")
    assert_close(dx, getattr(reference, name + "_backward")(dy, x, axis), "composite", 10)


def test_infinities_and_nan(isa):
    x = np.array([[0, -np.inf, 0], [0, np.nan, 1], [-np.inf] * 3], "float32")
    y = ops.softmax(x).numpy()
    np.testing.assert_array_equal(y[0], [0.5, 0, 0.5])
    assert np.isnan(y[1:]).all()


def test_second_derivative_of_softmax():
    x, v, u = (randn(6, "float64", seed=s) for s in (0, 1, 2))
    for f in (ops.softmax, ops.log_softmax):

        def slope(x, f=f):
            first = narae.grad(lambda x: ops.sum(f(x) * ops.convert_to_tensor(v)))(x)
            return ops.sum(first * ops.convert_to_tensor(u))

        exact = narae.grad(slope)(ops.convert_to_tensor(x)).numpy()
        step = 1e-6 * np.eye(6)
        numeric = [(float(slope(x + e)) - float(slope(x - e))) / 2e-6 for e in step]
        np.testing.assert_allclose(exact, numeric, atol=1e-7)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shift", [0.0, 95.0])
def test_crossentropy_of_logits(isa, shape, shift, dtype):
    x = (randn(shape, dtype) * 3 + shift).astype(dtype)
    t, dy = np.abs(randn(shape, dtype, seed=1)), randn(shape[:-1], dtype, seed=2)
    y, (dx, dt) = gradients_of(ops.softmax_crossentropy, x, t, dy=dy)
    assert_close(y, reference.softmax_crossentropy(*wide(x, t)), "composite")
    expected = reference.softmax_crossentropy_backward(*wide(dy, x, t))
    scale = (np.abs(dy)[..., None] * t.sum(-1, keepdims=True), None)
    assert_close((dx, dt), expected, "composite", scale)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("label_dtype", ["int32", "int64", "uint8", "float32"])
@pytest.mark.parametrize("shape", [(3, 7), (5, 17), (2, 3, 100)])
def test_crossentropy_of_labels(isa, shape, label_dtype, dtype):
    x, dy = randn(shape, dtype) * 3, randn(shape[:-1], dtype, seed=2)
    labels = np.random.default_rng(0).integers(0, shape[-1], shape[:-1])
    given = labels.astype(label_dtype)
    y, (dx,) = gradients_of(
        lambda x: ops.sparse_categorical_crossentropy(given, x, from_logits=True), x, dy=dy
    )
    assert_close(y, reference.sparse_softmax_crossentropy(*wide(x), labels), "composite")
    expected = reference.sparse_softmax_crossentropy_backward(*wide(dy, x), labels)
    assert_close(dx, expected, "composite", np.abs(dy).max())
    column = ops.sparse_categorical_crossentropy(given[..., None], x, from_logits=True)
    np.testing.assert_array_equal(column.numpy(), y)


def test_confident_logits_lose_nothing():
    x = np.array([[1e4, 0.0, 0.0]], "float32")
    assert float(ops.softmax_crossentropy(x, [0])[0]) == 0
    assert float(ops.softmax_crossentropy(x, [1])[0]) == 1e4


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(7,), (3, 16), (5, 17), (3000,)])
def test_sigmoid_crossentropy(isa, shape, dtype):
    x, t = randn(shape, dtype) * 20, np.abs(randn(shape, dtype, seed=1))
    dy = randn(shape, dtype, seed=2)
    y, gradients = gradients_of(ops.sigmoid_crossentropy, x, t, dy=dy)
    scale = 1 + np.abs(x * t)
    assert_close(y, reference.sigmoid_crossentropy(*wide(x, t)), "composite", scale)
    expected = reference.sigmoid_crossentropy_backward(*wide(dy, x, t))
    assert_close(gradients, list(expected), "composite", [np.abs(dy) * (1 + t), np.abs(dy * x)])


def test_gradients_of_probabilities(isa):
    """The losses of probabilities have no reference: finite differences of the forward."""
    p = np.random.default_rng(0).dirichlet(np.ones(5), 4) * 1.3
    t, labels = np.abs(randn((4, 5), "float64")), np.array([0, 4, 2, 2])
    dy, dense_dy = randn(4, "float64", seed=1), randn((4, 5), "float64", seed=1)
    cases = [
        (lambda p, t: ops.categorical_crossentropy(t, p), (p, t), dy),
        (lambda p: ops.sparse_categorical_crossentropy(labels, p), (p,), dy),
        (lambda p, t: ops.binary_crossentropy(t, p), (np.clip(p, 0.01, 0.99), t), dense_dy),
    ]
    for function, inputs, dy in cases:
        _, gradients = gradients_of(function, *inputs, dy=dy)
        for i, gradient in enumerate(gradients):
            for at in np.ndindex(inputs[i].shape):
                step = np.zeros_like(inputs[i])
                step[at] = 1e-6
                up, down = (
                    function(*[x + s * step if j == i else x for j, x in enumerate(inputs)])
                    for s in (1, -1)
                )
                numeric = ((up.numpy() - down.numpy()) * dy).sum() / 2e-6
                assert gradient[at] == pytest.approx(numeric, rel=1e-5, abs=1e-6)


def test_clipped_probabilities_have_no_gradient():
    p = np.array([[0.0, 1.0]])
    for function in (
        lambda p: ops.sparse_categorical_crossentropy([0], p),
        lambda p: ops.categorical_crossentropy([[1.0, 0.0]], p),
        lambda p: ops.binary_crossentropy([[1.0, 0.0]], p),
    ):
        y, (dp,) = gradients_of(function, p, dy=np.ones(function(p).shape))
        np.testing.assert_allclose(y, -np.log(1e-7))
        np.testing.assert_array_equal(dp, 0)


@pytest.mark.parametrize("label", [-1, 4, 2**31, 2**63 - 1])
@pytest.mark.parametrize("from_logits", [True, False])
def test_labels_out_of_range(isa, label, from_logits):
    x, labels = np.ones((3, 4), "float32"), np.array([0, label, 1])
    message = rf"expected labels from 0 to 3 \(4 classes\). Received: label {label} at position 1"
    with pytest.raises(ValueError, match=message):
        ops.sparse_categorical_crossentropy(labels, x, from_logits=from_logits)
    if label == -1:
        with pytest.raises(ValueError, match=message):
            ops.sparse_categorical_crossentropy(labels.astype("int32"), x)


def test_labels_out_of_range_in_a_replay():
    def step(labels, x):
        return ops.sum(ops.softmax_crossentropy(x, labels))

    recorded = RecordedStep(step)
    x, labels = randn((3, 4)), np.array([0, 1, 2], "int32")
    first = float(recorded(labels, x))
    assert float(recorded(labels, x)) == first and recorded.recorded
    with pytest.raises(ValueError, match="Received: label 9 at position 0"):
        recorded(np.array([9, 1, 2], "int32"), x)
    assert float(recorded(labels, x)) == first


def test_bad_shapes():
    x = np.ones((3, 4), "float32")
    for call, message in [
        (lambda: ops.categorical_crossentropy([0, 1, 2], x), "go with sparse_categorical"),
        (lambda: ops.sparse_categorical_crossentropy(x, x), "go with categorical_crossentropy"),
        (lambda: ops.sparse_categorical_crossentropy([0, 1], x), "one label for each row"),
        (lambda: ops.binary_crossentropy([0, 1], x), "target and output of the same shape"),
        (lambda: ops.softmax(x, axis=2), "narae.ops.softmax: expected different axes"),
        (lambda: ops.softmax_crossentropy(x[:, :0], [0, 0, 0]), "at least one class"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_any_number_of_threads_gives_the_same_bits(isa):
    x, labels = ops.convert_to_tensor(randn((3000, 70))), np.arange(3000, dtype="int32") % 70
    before = _core.num_threads()
    results = []
    for threads in (1, 2, 3):
        _core.set_num_threads(threads)
        y, (dx,) = gradients_of(lambda x: ops.softmax_crossentropy(x, labels), x, dy=x[:, 0])
        results.append(y.tobytes() + dx.tobytes() + ops.softmax(x).numpy().tobytes())
    _core.set_num_threads(before)
    assert results[0] == results[1] == results[2]


@pytest.mark.keras
@pytest.mark.parametrize("from_logits", [True, False])
def test_as_keras(from_logits):
    import keras

    x = randn((4, 5)) if from_logits else np.abs(randn((4, 5)))
    x[0, 1] = 0
    labels = np.array([1, 0, 4, 2])
    dense = np.abs(randn((4, 5), seed=1))
    for name, target, output in [
        ("sparse_categorical_crossentropy", labels, x),
        ("categorical_crossentropy", dense, x),
        ("binary_crossentropy", dense, x if from_logits else np.minimum(x, 1)),
    ]:
        ours = getattr(ops, name)(target, output, from_logits=from_logits).numpy()
        theirs = getattr(keras.ops, name)(target, output, from_logits=from_logits)
        np.testing.assert_allclose(ours, np.asarray(theirs), rtol=3e-6, atol=1e-6)


def test_large_outputs_are_streamed(isa):
    """More than 16 MB: the bits of some rows that are computed alone, which are not streamed."""
    x, dy = randn((4100, 1040)), randn((4100, 1040), seed=1)
    y, log_y = _core.softmax_forward(x), _core.log_softmax_forward(x)
    loss_dy, target = randn(4100, seed=2), np.arange(4100) % 1040
    ms = _core.sparse_crossentropy_forward(x, target)[1]
    for f, arrays in (
        (_core.log_softmax_forward, (x,)),
        (_core.softmax_backward, (dy, y)),
        (_core.log_softmax_backward, (dy, log_y)),
    ):
        np.testing.assert_array_equal(f(*arrays)[-9:], f(*(a[-9:] for a in arrays)))
    dx = _core.sparse_crossentropy_backward(loss_dy, x, target, ms)[-9:]
    part = _core.sparse_crossentropy_backward(loss_dy[-9:], x[-9:], target[-9:], ms[:, -9:].copy())
    np.testing.assert_array_equal(dx, part)
