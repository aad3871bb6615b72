"""Losses against their formulas in float64 NumPy, and against the real Keras."""

import os

import numpy as np
import pytest

from helpers import assert_close, randn
from narae import losses, ops

os.environ.setdefault("KERAS_BACKEND", "jax")

RNG = np.random.default_rng(0)
N, C = 7, 5
REAL = randn((N, C)), randn((N, C), seed=1)
PROBABILITIES = RNG.dirichlet(np.ones(C), N).astype("float32")
ONE_HOT = np.eye(C, dtype="float32")[RNG.integers(0, C, N)]
CLASSES = ONE_HOT.argmax(-1).astype("int32")
BITS = RNG.integers(0, 2, (N, C)).astype("float32")
CHANCES = RNG.uniform(0, 1, (N, C)).astype("float32")
EPSILON = 1e-7


def clipped(p):
    return np.clip(p, EPSILON, 1 - EPSILON)


def softplus(x):
    return np.logaddexp(0, x)


def bce(t, p):
    p = clipped(p)
    return np.mean(-t * np.log(p) - (1 - t) * np.log(1 - p), -1)


def cce(t, p):
    return -np.sum(t * np.log(clipped(p / p.sum(-1, keepdims=True))), -1)


def unit(x):
    return x / np.sqrt((x * x).sum(-1, keepdims=True))


def log_1p(x):
    return np.log(1 + np.maximum(x, EPSILON))


def at_least(x):
    return np.clip(x, EPSILON, 1)


def log_softmax(x):
    return x - np.logaddexp.reduce(x, -1, keepdims=True)


# name -> (class, y_true, y_pred, formula, arguments)
CASES = {
    "mean_squared_error": ("MeanSquaredError", *REAL, lambda t, p: np.mean((t - p) ** 2, -1), {}),
    "mean_absolute_error": (
        "MeanAbsoluteError", *REAL, lambda t, p: np.mean(np.abs(t - p), -1), {}
    ),
    "mean_absolute_percentage_error": (
        "MeanAbsolutePercentageError", *REAL,
        lambda t, p: 100 * np.mean(np.abs((t - p) / np.maximum(np.abs(t), EPSILON)), -1), {},
    ),
    "mean_squared_logarithmic_error": (
        "MeanSquaredLogarithmicError", *REAL,
        lambda t, p: np.mean((log_1p(t) - log_1p(p)) ** 2, -1), {},
    ),
    "huber": (
        "Huber", *REAL,
        lambda t, p: np.mean(
            np.where(np.abs(t - p) <= 0.7, (t - p) ** 2 / 2, 0.7 * np.abs(t - p) - 0.7**2 / 2), -1
        ),
        {"delta": 0.7},
    ),
    "log_cosh": ("LogCosh", *REAL, lambda t, p: np.mean(np.log(np.cosh(p - t)), -1), {}),
    "cosine_similarity": (
        "CosineSimilarity", *REAL, lambda t, p: -np.sum(unit(t) * unit(p), -1), {}
    ),
    "poisson": (
        "Poisson", BITS, CHANCES, lambda t, p: np.mean(p - t * np.log(p + EPSILON), -1), {}
    ),
    "kl_divergence": (
        "KLDivergence", PROBABILITIES, PROBABILITIES[::-1].copy(),
        lambda t, p: np.sum(at_least(t) * np.log(at_least(t) / at_least(p)), -1), {},
    ),
    "hinge": (
        "Hinge", BITS, REAL[0],
        lambda t, p: np.mean(np.maximum(1 - (2 * t - 1) * p, 0), -1), {},
    ),
    "squared_hinge": (
        "SquaredHinge", 2 * BITS - 1, REAL[0],
        lambda t, p: np.mean(np.maximum(1 - t * p, 0) ** 2, -1), {},
    ),
    "categorical_hinge": (
        "CategoricalHinge", ONE_HOT, REAL[0],
        lambda t, p: np.maximum(np.max((1 - t) * p, -1) - np.sum(t * p, -1) + 1, 0), {},
    ),
    "binary_crossentropy": ("BinaryCrossentropy", BITS, CHANCES, bce, {}),
    "binary_focal_crossentropy": (
        "BinaryFocalCrossentropy", BITS, CHANCES,
        lambda t, p: np.mean(
            (t * 0.3 + (1 - t) * 0.7)
            * (1 - (t * p + (1 - t) * (1 - p))) ** 1.5
            * (-t * np.log(clipped(p)) - (1 - t) * np.log(1 - clipped(p))),
            -1,
        ),
        {"apply_class_balancing": True, "alpha": 0.3, "gamma": 1.5},
    ),
    "categorical_crossentropy": ("CategoricalCrossentropy", ONE_HOT, PROBABILITIES, cce, {}),
    "categorical_focal_crossentropy": (
        "CategoricalFocalCrossentropy", ONE_HOT, PROBABILITIES,
        lambda t, p: np.sum(0.3 * (1 - clipped(p)) ** 1.5 * -t * np.log(clipped(p)), -1),
        {"alpha": 0.3, "gamma": 1.5},
    ),
    "sparse_categorical_crossentropy": (
        "SparseCategoricalCrossentropy", CLASSES, PROBABILITIES,
        lambda t, p: -np.log(clipped(p[np.arange(N), t])), {},
    ),
    "categorical_generalized_cross_entropy": (
        "CategoricalGeneralizedCrossEntropy", CLASSES, PROBABILITIES,
        lambda t, p: (1 - p[np.arange(N), t] ** 0.3) / 0.3, {"q": 0.3},
    ),
    "dice": (
        "Dice", BITS, CHANCES,
        lambda t, p: 1 - 2 * np.sum(t * p, 1) / (t.sum(1) + p.sum(1) + EPSILON), {"axis": 1},
    ),
    "tversky": (
        "Tversky", BITS, CHANCES,
        lambda t, p: 1
        - np.sum(t * p)
        / (np.sum(t * p) + 0.2 * np.sum((1 - p) * t) + 0.8 * np.sum(p * (1 - t)) + EPSILON),
        {"alpha": 0.2, "beta": 0.8},
    ),
}  # fmt: skip
LOGITS = {
    "binary_crossentropy": (BITS, lambda t, x: np.mean(softplus(x) - t * x, -1)),
    "categorical_crossentropy": (ONE_HOT, lambda t, x: -np.sum(t * log_softmax(x), -1)),
    "sparse_categorical_crossentropy": (
        CLASSES, lambda t, x: -log_softmax(x)[np.arange(N), t]
    ),
}  # fmt: skip
every = pytest.mark.parametrize("name", CASES)


def make(name, **arguments):
    return getattr(losses, CASES[name][0])(**{**CASES[name][4], **arguments})


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


@every
def test_function(name):
    _, t, p, formula, arguments = CASES[name]
    actual = getattr(losses, name)(t, p, **arguments)
    wide = t if t.dtype.kind == "i" else t.astype("float64")
    expected = formula(wide, p.astype("float64"))
    assert actual.dtype == "float32"
    # The terms of a mean may cancel and 1 - p is rounded: a scale of the largest of them.
    assert_close(actual.numpy(), expected, "composite", scale=max(1.0, np.abs(expected).max()))


@every
def test_class_is_the_mean_of_the_function(name):
    _, t, p, _, arguments = CASES[name]
    values = getattr(losses, name)(t, p, **arguments).numpy()
    np.testing.assert_allclose(float(make(name)(t, p)), values.mean(), rtol=1e-6)
    np.testing.assert_allclose(float(make(name, reduction="sum")(t, p)), values.sum(), rtol=1e-6)
    np.testing.assert_allclose(make(name, reduction=None)(t, p).numpy(), values, rtol=1e-6)


@every
def test_gradient(name):
    """Along a random direction, the gradient is the slope of the float64 loss."""
    _, t, p, formula, arguments = CASES[name]
    loss = getattr(losses, name)
    p = p.astype("float64")
    direction = randn(p.shape, "float64", seed=9)

    def value(step):
        return float(ops.sum(loss(t, p + step * direction, **arguments)))

    from narae.engine.tape import grad

    dp = grad(lambda x: ops.sum(loss(t, x, **arguments)))(p).numpy()
    slope = (value(1e-7) - value(-1e-7)) / 2e-7
    np.testing.assert_allclose((dp * direction).sum(), slope, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", LOGITS)
def test_from_logits(name):
    t, formula = LOGITS[name]
    x = 10 * REAL[0]
    actual = getattr(losses, name)(t, x, from_logits=True)
    wide = t if t.dtype.kind == "i" else t.astype("float64")
    expected = formula(wide, x.astype("float64"))
    assert_close(actual.numpy(), expected, "composite", scale=np.abs(x).max())
    class_value = make(name, from_logits=True)(t, x)
    np.testing.assert_allclose(float(class_value), expected.mean(), rtol=1e-5)


def test_from_logits_stays_finite():
    x = np.array([[1000.0, -1000.0]], "float32")
    assert float(losses.CategoricalCrossentropy(from_logits=True)([[0.0, 1.0]], x)) == 2000.0
    assert float(losses.SparseCategoricalCrossentropy(from_logits=True)([1], x)) == 2000.0
    assert float(losses.BinaryCrossentropy(from_logits=True)([[0.0, 1.0]], x)) == 1000.0


@every
@pytest.mark.keras
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "reduction", ["sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none"]
)
def test_keras(keras, name, weighted, reduction):
    cls, t, p, _, arguments = CASES[name]
    values = getattr(losses, name)(t, p, **arguments)
    weight = RNG.uniform(0, 2, N).astype("float32") if weighted else None
    if weighted and values.ndim == 0:
        weight = np.float32(1.5)
    theirs = getattr(keras.losses, cls)(**arguments, reduction=reduction)
    ours = make(name, reduction=reduction)
    expected = np.asarray(theirs(t, p, sample_weight=weight))
    actual = ours(t, p, sample_weight=weight).numpy()
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=1e-6)
    for key, value in theirs.get_config().items():
        assert ours.get_config()[key] == value
    assert type(ours).from_config(ours.get_config()).get_config() == ours.get_config()
    # Keras reads our config as well.
    assert type(theirs).from_config(ours.get_config()).get_config() == theirs.get_config()


@pytest.mark.keras
@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "binary_crossentropy",
        "binary_focal_crossentropy",
        "categorical_crossentropy",
        "categorical_focal_crossentropy",
    ],
)
def test_label_smoothing(keras, name, from_logits):
    t = CASES[name][1]
    p = REAL[0] if from_logits else CASES[name][2]
    settings = {"from_logits": from_logits, "label_smoothing": 0.2}
    expected = getattr(keras.losses, name)(t, p, **settings)
    actual = getattr(losses, name)(t, p, **settings)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=2e-5)


@pytest.mark.parametrize(
    "name", ["CategoricalGeneralizedCrossEntropy", "SparseCategoricalCrossentropy"]
)
def test_classes_may_be_a_column(name):
    loss, t = getattr(losses, name)(), np.array([0, 2])
    p = np.array([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8]], "float32")
    assert float(loss(t[:, None], p)) == float(loss(t, p))
    one = p[:, :1], np.zeros(2, "int32")
    assert float(loss(one[1], one[0])) == float(loss(one[1][:, None], one[0]))


@pytest.mark.keras
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_ignore_class(keras, reduction, weighted):
    t = np.array([[0, 1, -1], [2, -1, -1]])
    p = RNG.dirichlet(np.ones(3), (2, 3)).astype("float32")
    weight = np.array([[1, 2, 3], [4, 5, 6]], "float32") if weighted else None
    settings = {"ignore_class": -1, "reduction": reduction}
    expected = keras.losses.SparseCategoricalCrossentropy(**settings)(t, p, weight)
    actual = losses.SparseCategoricalCrossentropy(**settings)(t, p, weight)
    np.testing.assert_allclose(float(actual), float(expected), rtol=1e-5)


def test_ignore_class_hides_nan():
    p = ops.convert_to_tensor([[0.5, 0.5], [np.nan, np.nan]])
    loss = losses.SparseCategoricalCrossentropy(ignore_class=9)
    assert float(loss([0, 9], p)) == pytest.approx(np.log(2))


def test_mask_of_predictions():
    p = ops.convert_to_tensor([[[1.0], [9.0]], [[2.0], [3.0]]])
    p.mask = ops.convert_to_tensor([[True, False], [True, True]])
    t = np.zeros((2, 2, 1), "float32")
    assert float(losses.MeanSquaredError()(t, p)) == pytest.approx((1 + 4 + 9) / 3)
    assert float(losses.MeanSquaredError(reduction="sum")(t, p)) == 14.0
    weights = np.array([[1.0, 1.0], [0.5, 1.0]], "float32")
    assert float(losses.MeanSquaredError()(t, p, weights)) == pytest.approx((1 + 2 + 9) / 3)
    p.mask = ops.convert_to_tensor([[False, False], [False, False]])
    assert float(losses.MeanSquaredError()(t, p)) == 0.0


def test_one_weight_per_sample_of_a_sequence():
    t, p = np.zeros((2, 2, 1), "float32"), np.array([[[1], [2]], [[3], [4]]], "float32")
    actual = losses.MeanSquaredError(reduction=None)(t, p, sample_weight=[1.0, 10.0])
    np.testing.assert_array_equal(actual.numpy(), [[1, 4], [90, 160]])


@pytest.mark.parametrize("shapes", [((4,), (4, 1)), ((4, 1), (4,)), ((4, 3), (4, 3, 1))])
def test_ranks_are_matched(shapes):
    t, p = np.zeros(shapes[0], "float32"), np.arange(np.prod(shapes[1])).reshape(shapes[1])
    expected = np.mean(np.square(np.arange(p.size)))
    assert float(losses.MeanSquaredError()(t, p)) == pytest.approx(expected)


def test_labels_in_many_forms():
    """(n,) and (n, 1), any integer dtype, floats that are whole."""
    loss = losses.SparseCategoricalCrossentropy()
    expected = float(loss(CLASSES, PROBABILITIES))
    for dtype in ("int32", "int64", "uint8", "float32"):
        assert float(loss(CLASSES.astype(dtype), PROBABILITIES)) == expected
        assert float(loss(CLASSES.astype(dtype)[:, None], PROBABILITIES)) == expected


def test_empty_batch():
    assert losses.MeanSquaredError()(np.zeros((0, 3)), np.zeros((0, 3))).size == 0
    assert float(losses.MeanSquaredError()(np.zeros((0, 2, 3)), np.zeros((0, 2, 3)))) == 0.0


def test_own_loss():
    class Distance(losses.Loss):
        def call(self, y_true, y_pred):
            return ops.sum(ops.abs(y_true - y_pred), axis=-1)

    loss = Distance()
    assert loss.name == "distance"
    assert float(loss([[1, 2]], [[2.0, 4.0]])) == 3.0
    with pytest.raises(NotImplementedError):
        losses.Loss()([1.0], [1.0])


def test_dtype():
    loss = losses.MeanSquaredError(dtype="float64")
    assert loss([[1.0]], [[2.0]]).dtype == "float64"


def test_get():
    assert losses.get("mse") is losses.get("MSE") is losses.mean_squared_error
    assert losses.get("kld") is losses.kl_divergence
    assert isinstance(losses.get("MeanSquaredError"), losses.MeanSquaredError)
    assert isinstance(losses.get(losses.Huber), losses.Huber)
    assert losses.get(None) is None
    assert losses.get({"class_name": "Huber", "config": {"delta": 3.0}}).delta == 3.0
    loss = losses.Huber(2.0, name="mine")
    assert losses.get(loss) is loss
    config = losses.serialize(loss)
    assert config["module"] == "keras.losses" and config["class_name"] == "Huber"
    again = losses.deserialize(config)
    assert again.delta == 2.0 and again.name == "mine"
    assert losses.deserialize(losses.serialize(losses.poisson)) is losses.poisson
    with pytest.raises(ValueError, match="Did you mean 'mean_squared_error'"):
        losses.get("mean_squared_eror")


def bad(message, make, error=ValueError):
    return pytest.param(make, message, error, id=message)


@pytest.mark.parametrize(
    ("make", "message", "error"),
    [
        bad("expected reduction", lambda: losses.Huber(reduction="average")),
        bad("label_smoothing in", lambda: losses.BinaryCrossentropy(label_smoothing=1.5)),
        bad("label_smoothing in", lambda: losses.CategoricalCrossentropy(label_smoothing=-0.1)),
        bad(r"expected q in \(0, 1\)", lambda: losses.CategoricalGeneralizedCrossEntropy(q=1.0)),
        bad(
            "axis to be an integer",
            lambda: losses.categorical_crossentropy(ONE_HOT, PROBABILITIES, axis=True),
        ),
        bad(
            "use sparse_categorical_crossentropy",
            lambda: losses.categorical_crossentropy(CLASSES, PROBABILITIES),
        ),
        bad(
            "expected y_true with y_pred's shape",
            lambda: losses.CategoricalCrossentropy()(ONE_HOT[:, :3], PROBABILITIES),
        ),
        bad("", lambda: losses.sparse_categorical_crossentropy([5] * N, PROBABILITIES)),
        bad("", lambda: losses.SparseCategoricalCrossentropy()([-1] * N, PROBABILITIES)),
        bad(
            "",
            lambda: losses.CategoricalGeneralizedCrossEntropy()([5] * N, PROBABILITIES),
            IndexError,
        ),
        bad("", lambda: losses.sparse_categorical_crossentropy([[1, 2]] * N, PROBABILITIES)),
        bad("", lambda: losses.MeanSquaredError()(np.zeros((3, 4)), np.zeros((3, 5)))),
    ],
)
def test_bad_input(make, message, error):
    with pytest.raises(error, match=message or None):
        make()


def test_one_class_warns():
    with pytest.warns(SyntaxWarning, match="binary_crossentropy"):
        losses.categorical_crossentropy([[1.0]], [[0.7]])
