"""Normalizations against their references, on every instruction set."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
import pytest

import narae
from helpers import assert_close, randn
from narae import _core, ops
from reference import norm as reference

FLOATS = ["float32", "float64"]


def check(function, forward, backward, x, parameters, scale=8.0, **kwargs):
    """Compares values and gradients with the reference's; all inputs are watched."""
    tensors = [None if a is None else ops.convert_to_tensor(a) for a in (x, *parameters)]
    watched = [t for t in tensors if t is not None]
    with narae.GradientTape() as tape:
        tape.watch(watched)
        y = function(*tensors, **kwargs)
        y = y[0] if isinstance(y, tuple) else y
    dy = randn(x.shape, x.dtype.name, seed=9)
    wide = [None if a is None else a.astype("float64") for a in (x, *parameters)]
    assert_close(y.numpy(), forward(*wide, **kwargs), "composite", scale)
    gradients = tape.gradient(y, watched, output_gradients=ops.convert_to_tensor(dy))
    expected = backward(dy.astype("float64"), *wide, **kwargs)
    expected = [e for e in expected if e is not None]
    for gradient, value in zip(gradients, expected, strict=True):
        bound = scale * (np.abs(value).max(initial=1.0) + 1)
        assert_close(gradient.numpy(), value, "composite", bound)


def parameters_of(shape, dtype, which="both"):
    gamma, beta = randn(shape, dtype, seed=2), randn(shape, dtype, seed=3)
    return (gamma if which != "none" else None, beta if which == "both" else None)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("which", ["both", "none", "gamma"])
@pytest.mark.parametrize(
    "shape, axis",
    [((3, 7), -1), ((5, 16), -1), ((2, 3, 65), 2), ((700, 33), -1), ((4, 3, 5), (1, 2))]
    + [((2, 5, 3), 1), ((2, 3, 4, 5), (1, 3)), ((2, 3000), 1)],
)
def test_layer_normalization(isa, shape, axis, which, dtype):
    size = [shape[a] for a in np.atleast_1d(axis)]
    check(
        ops.layer_normalization,
        reference.layer_normalization,
        reference.layer_normalization_backward,
        randn(shape, dtype),
        parameters_of(size, dtype, which),
        axis=axis,
        epsilon=1e-3,
    )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape, axis", [((3, 7), -1), ((5, 65), -1), ((2, 5, 3), 1)])
@pytest.mark.parametrize("scaled", [True, False])
def test_rms_normalization(isa, shape, axis, scaled, dtype):
    check(
        ops.rms_normalization,
        reference.rms_normalization,
        reference.rms_normalization_backward,
        randn(shape, dtype),
        (randn(shape[axis], dtype, seed=2) if scaled else None,),
        axis=axis,
        epsilon=1e-6,
    )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("which", ["both", "none", "gamma"])
@pytest.mark.parametrize(
    "shape, axis",
    [((30, 7), -1), ((4, 5, 6, 16), -1), ((3, 5, 6), 1), ((9000, 3), -1)]
    + [((1100, 40), -1), ((70, 2500), -1)],  # blocks of rows, of columns
)
def test_batch_normalization_training(isa, shape, axis, which, dtype):
    check(
        ops.batch_normalization_training,
        reference.batch_normalization_training,
        reference.batch_normalization_training_backward,
        randn(shape, dtype),
        parameters_of(shape[axis], dtype, which),
        axis=axis,
    )


def test_batch_moments(isa):
    x = (1000 + randn((5000, 3), "float64")).astype("float32")
    _, mean, variance = ops.batch_normalization_training(x)
    wide = x.astype("float64")
    np.testing.assert_allclose(mean.numpy(), wide.mean(0), rtol=1e-6)
    np.testing.assert_allclose(variance.numpy(), wide.var(0), rtol=1e-5)


@pytest.mark.parametrize("shape, axis", [((9, 17), -1), ((3, 5, 6), 1)])
def test_batch_normalization(isa, shape, axis):
    size = shape[axis]
    vectors = [randn(size, "float64", seed=s) for s in (2, 3, 4, 5)]
    vectors[1] = np.abs(vectors[1]) + 0.1

    def function(x, mean, variance, scale, offset, axis):
        return ops.batch_normalization(x, mean, variance, axis, offset=offset, scale=scale)

    check(
        function,
        reference.batch_normalization,
        reference.batch_normalization_backward,
        randn(shape, "float64"),
        vectors,
        axis=axis,
    )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "shape, groups", [((2, 5, 6), 3), ((3, 9, 32), 8), ((1, 4, 4, 6), 1), ((2, 1500, 30), 5)]
)
@pytest.mark.parametrize("which", ["both", "none", "gamma"])
def test_group_normalization(isa, shape, groups, which, dtype):
    for n in {groups, shape[-1]}:  # as many groups as channels: instance normalization
        check(
            ops.group_normalization,
            reference.group_normalization,
            reference.group_normalization_backward,
            randn(shape, dtype),
            parameters_of(shape[-1], dtype, which),
            groups=n,
            epsilon=1e-3,
        )


def test_group_normalization_of_channels_first():
    x = randn((2, 6, 5))
    first = ops.group_normalization(x, groups=3, axis=1).numpy()
    last = ops.group_normalization(np.moveaxis(x, 1, -1), groups=3).numpy()
    np.testing.assert_array_equal(first, np.moveaxis(last, -1, 1))


def test_normalize(isa):
    x = randn((3, 17), "float64")
    for order in (1, 2, 3):
        y = ops.normalize(x, order=order).numpy()
        expected = x / np.linalg.norm(x, order, axis=1, keepdims=True)
        assert_close(y, expected, "composite")
    gradient = narae.grad(lambda x: ops.sum(ops.normalize(x)))(np.zeros((2, 3), "float32"))
    assert np.isfinite(gradient.numpy()).all()


def test_a_large_mean_does_no_harm(isa):
    x = (1000 + randn((64, 256), "float64")).astype("float32")
    wide = x.astype("float64")
    expected = reference.layer_normalization(wide)
    assert np.abs(ops.layer_normalization(x, epsilon=1e-3).numpy() - expected).max() < 3e-4
    expected = reference.batch_normalization_training(wide)
    assert np.abs(ops.batch_normalization_training(x)[0].numpy() - expected).max() < 3e-4


def test_any_number_of_threads_gives_the_same_bits(isa):
    x, gamma = ops.convert_to_tensor(randn((5000, 70))), ops.convert_to_tensor(randn(70))
    before = _core.num_threads()
    results = []
    for threads in (1, 2, 3):
        _core.set_num_threads(threads)
        with narae.GradientTape(persistent=True) as tape:
            tape.watch([x, gamma])
            ys = [ops.layer_normalization(x, gamma), ops.batch_normalization_training(x, gamma)[0]]
        parts = [*ys, *(g for y in ys for g in tape.gradient(y, [x, gamma], output_gradients=x))]
        results.append([p.numpy().tobytes() for p in parts])
    _core.set_num_threads(before)
    assert results[0] == results[1] == results[2]


def test_bad_input():
    x = np.zeros((2, 3), "float32")
    with pytest.raises(ValueError, match="layer_normalization: expected gamma with 3 values"):
        ops.layer_normalization(x, np.ones(2, "float32"))
    with pytest.raises(ValueError, match="group_normalization: expected groups that divide"):
        ops.group_normalization(x, groups=2)
    with pytest.raises(ValueError, match="normalize: expected order to be a positive integer"):
        ops.normalize(x, order=0)
    with pytest.raises(ValueError, match="batch_normalization: expected different axes"):
        ops.batch_normalization(x, np.zeros(3), np.ones(3), 2)


@pytest.mark.keras
def test_as_keras():
    import keras

    x, scale = randn((4, 5, 6)), randn(6)
    pairs = [
        (f.layer_normalization(x, scale, scale), f.rms_normalization(x, scale), f.normalize(x, 1))
        for f in (ops, keras.ops)
    ]
    for ours, theirs in zip(*pairs):
        np.testing.assert_allclose(ours.numpy(), np.asarray(theirs), atol=2e-6)
    moments = keras.ops.moments(x, (0, 1))
    theirs = keras.ops.batch_normalization(x, *moments, -1, scale, scale)
    ours = ops.batch_normalization(x, *map(np.asarray, moments), -1, scale, scale)
    np.testing.assert_allclose(ours.numpy(), np.asarray(theirs), atol=2e-6)


def test_large_outputs_are_streamed(isa):
    """More than 16 MB: the bits of one sample of two, which alone is less and is not streamed."""
    x, dy = randn((2, 35_000, 64)), randn((2, 35_000, 64), seed=1)
    mean, variance, dgamma, dbeta = (np.abs(randn((2, 64), seed=s)) + 0.1 for s in range(2, 6))
    gamma, beta = randn(64, seed=6), randn(64, seed=7)

    def forward(x, mean, variance):
        return _core.channel_norm_forward(x, mean, variance, gamma, beta, 1e-3)

    def backward(dy, x, mean, variance, dgamma, dbeta):
        return _core.channel_norm_backward(
            dy, x, mean, variance, gamma, dgamma, dbeta, 64, 1e-3
        )  # fmt: skip

    for f, arrays in (
        (forward, (x, mean, variance)),
        (backward, (dy, x, mean, variance, dgamma, dbeta)),
    ):
        np.testing.assert_array_equal(f(*arrays)[1:], f(*(a[1:] for a in arrays)))
