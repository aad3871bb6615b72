"""Initializers: shapes, moments, fans and limits as Keras has them; seeds; configs."""

import os

import numpy as np
import pytest
from scipy import stats

from narae import initializers, ops, random
from narae.engine.random import set_random_seed

os.environ.setdefault("KERAS_BACKEND", "jax")

SCALED = {
    "GlorotUniform": (1.0, "fan_avg"),
    "GlorotNormal": (1.0, "fan_avg"),
    "LecunUniform": (1.0, "fan_in"),
    "LecunNormal": (1.0, "fan_in"),
    "HeUniform": (2.0, "fan_in"),
    "HeNormal": (2.0, "fan_in"),
}


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


@pytest.mark.parametrize("shape", [(200, 300), (5, 5, 20, 100)])
@pytest.mark.parametrize("name", SCALED)
def test_variance(name, shape):
    scale, mode = SCALED[name]
    field = np.prod(shape[:-2])
    fans = {"fan_in": shape[-2] * field, "fan_avg": (shape[-2] + shape[-1]) * field / 2}
    values = getattr(initializers, name)(seed=1)(shape).numpy().ravel()
    assert values.dtype == "float32" and abs(values.mean()) < 4 * values.std() / values.size**0.5
    variance = scale / fans[mode]
    assert values.var() == pytest.approx(variance, rel=0.03)
    if name.endswith("Uniform"):
        limit = np.sqrt(3 * variance)
        assert np.abs(values).max() <= limit and np.abs(values).max() > 0.99 * limit
        assert stats.kstest(values, stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-3
    else:
        stddev = np.sqrt(variance) / 0.87962566103423978
        assert np.abs(values).max() <= 2 * stddev * (1 + 1e-6)
        assert stats.kstest(values / stddev, stats.truncnorm(-2, 2).cdf).pvalue > 1e-3


def test_plain_distributions():
    shape = (300, 300)
    values = initializers.RandomNormal(mean=1.0, stddev=2.0, seed=1)(shape).numpy().ravel()
    assert stats.kstest(values, stats.norm(1, 2).cdf).pvalue > 1e-3
    values = initializers.TruncatedNormal(mean=1.0, stddev=2.0, seed=1)(shape).numpy().ravel()
    assert stats.kstest((values - 1) / 2, stats.truncnorm(-2, 2).cdf).pvalue > 1e-3
    values = initializers.RandomUniform(-1.0, 3.0, seed=1)(shape).numpy().ravel()
    assert stats.kstest(values, stats.uniform(-1, 4).cdf).pvalue > 1e-3
    scaled = initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal", seed=1)(shape)
    assert stats.kstest(scaled.numpy().ravel(), stats.norm(0, (2 / 300) ** 0.5).cdf).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(6, 6), (10, 4), (4, 10), (3, 3, 2, 8)])
def test_orthogonal(shape):
    values = initializers.Orthogonal(gain=2.0, seed=1)(shape).numpy().reshape(-1, shape[-1])
    values = values if values.shape[0] >= values.shape[1] else values.T
    np.testing.assert_allclose(values.T @ values, 4 * np.eye(values.shape[1]), atol=1e-5)


def test_constants():
    np.testing.assert_array_equal(initializers.Zeros()((2, 3)).numpy(), np.zeros((2, 3)))
    np.testing.assert_array_equal(initializers.Ones()((2,), "int32").numpy(), [1, 1])
    np.testing.assert_array_equal(initializers.Constant(2.5)((2,)).numpy(), [2.5, 2.5])
    rows = initializers.Constant([1.0, 2.0])((3, 2)).numpy()
    np.testing.assert_array_equal(rows, [[1, 2]] * 3)
    np.testing.assert_array_equal(initializers.Identity(3.0)((2, 3)).numpy(), 3 * np.eye(2, 3))


def test_seeds():
    first = initializers.GlorotUniform(seed=3)
    np.testing.assert_array_equal(first((4, 5)).numpy(), first((4, 5)).numpy())
    same = initializers.GlorotUniform(seed=3)((4, 5)).numpy()
    np.testing.assert_array_equal(first((4, 5)).numpy(), same)
    assert (initializers.GlorotUniform(seed=4)((4, 5)).numpy() != same).all()
    assert (initializers.GlorotUniform()((4, 5)).numpy() != same).all()
    generator = random.SeedGenerator(3)
    drawn = initializers.GlorotUniform(seed=generator)
    assert (drawn((4, 5)).numpy() != drawn((4, 5)).numpy()).all()


def test_set_random_seed():
    values = []
    for _ in range(2):
        set_random_seed(7)
        values.append(initializers.get("he_normal")((3, 4)).numpy())
    np.testing.assert_array_equal(*values)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "name", [*SCALED, "RandomNormal", "TruncatedNormal", "Orthogonal", "Zeros"]
)
def test_dtype(name, dtype):
    assert getattr(initializers, name)()((3, 4), dtype=dtype).dtype == dtype


def test_compute_fans():
    assert initializers.compute_fans(()) == (1, 1)
    assert initializers.compute_fans((5,)) == (5, 5)
    assert initializers.compute_fans((5, 7)) == (5, 7)
    assert initializers.compute_fans((3, 3, 5, 7)) == (45, 63)
    assert initializers.compute_fans((2, 3, 4), input_axes=(0,), output_axes=(1, 2)) == (2, 12)


def test_get():
    assert isinstance(initializers.get("he_normal"), initializers.HeNormal)
    assert isinstance(initializers.get("HeNormal"), initializers.HeNormal)
    assert isinstance(initializers.get("uniform"), initializers.RandomUniform)
    assert isinstance(initializers.get(initializers.Ones), initializers.Ones)
    assert initializers.get(None) is None
    function = initializers.get(lambda shape, dtype=None: ops.ones(shape, dtype=dtype))
    assert function((2,)).numpy().tolist() == [1, 1]
    array = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(initializers.get(array)((2, 3)).numpy(), array)
    with pytest.raises(ValueError, match="expected the shape of the array"):
        initializers.get(array)((3, 2))
    assert initializers.glorot_uniform is initializers.GlorotUniform


@pytest.mark.keras
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *((name, {"seed": 3}) for name in SCALED),
        ("VarianceScaling", {"scale": 3.0, "mode": "fan_out", "distribution": "normal"}),
        ("RandomNormal", {"mean": 1.0, "seed": 5}),
        ("TruncatedNormal", {"stddev": 2.0}),
        ("RandomUniform", {"minval": 0.0}),
        ("Orthogonal", {"gain": 2.0}),
        ("Constant", {"value": 3.0}),
        ("Identity", {"gain": 2.0}),
        ("Zeros", {}),
        ("Ones", {}),
    ],
)
def test_config(keras, name, arguments):
    ours = getattr(initializers, name)(**arguments)
    theirs = getattr(keras.initializers, name)(**arguments)
    config = keras.initializers.serialize(theirs)
    received = initializers.serialize(ours)
    if name == "Identity":  # Keras forgets the gain
        config["config"] = {"gain": 2.0}
    assert received == config
    again = initializers.deserialize(config)
    assert type(again) is type(ours) and again.get_config() == ours.get_config()
    assert ours.clone().get_config() == ours.get_config()


@pytest.mark.keras
def test_the_names_that_keras_knows(keras):
    names = {name for name in dir(keras.initializers) if not name.startswith("_")}
    assert names - set(dir(initializers)) <= {"STFT", "STFTInitializer", "stft"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: initializers.get("glorot_unifrm"), "Did you mean 'glorot_uniform'"),
        (lambda: initializers.get(3), "Received: 3"),
        (lambda: initializers.HeNormal(seed="a"), "HeNormal: expected seed"),
        (lambda: initializers.VarianceScaling(scale=0.0), "expected scale"),
        (lambda: initializers.VarianceScaling(mode="fan"), "expected mode"),
        (lambda: initializers.VarianceScaling(distribution="x"), "expected distribution"),
        (lambda: initializers.Orthogonal()((3,)), "two axes or more"),
        (lambda: initializers.Identity()((3,)), "shape of a matrix"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
