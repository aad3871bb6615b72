"""Metrics against the real Keras, batch after batch, and against scikit-learn's values."""

import os
import warnings

import numpy as np
import pytest

from narae import losses, metrics, ops

os.environ.setdefault("KERAS_BACKEND", "jax")

RNG = np.random.default_rng(0)
N, C = 11, 4


def real():
    return tuple(RNG.standard_normal((2, N, C)).astype("float32"))


def bits(shape=(N, C)):
    return RNG.integers(0, 2, shape).astype("float32"), RNG.uniform(0, 1, shape).astype("float32")


def column():
    return bits((N, 1))


def classes():
    return RNG.integers(0, C, N).astype("int32"), RNG.dirichlet(np.ones(C), N).astype("float32")


def one_hot():
    labels, p = classes()
    return np.eye(C, dtype="float32")[labels], p


def labels():
    return RNG.integers(0, C, N).astype("int32"), RNG.integers(0, C, N).astype("int32")


def distributions():
    return tuple(RNG.dirichlet(np.ones(C), (2, N)).astype("float32"))


def logits():
    return bits()[0], real()[0]


# (class, arguments, maker of a batch)
CASES = [
    ("MeanSquaredError", {}, real),
    ("RootMeanSquaredError", {}, real),
    ("MeanAbsoluteError", {}, real),
    ("MeanAbsolutePercentageError", {}, real),
    ("MeanSquaredLogarithmicError", {}, real),
    ("LogCoshError", {}, real),
    ("CosineSimilarity", {}, real),
    ("R2Score", {}, real),
    ("R2Score", {"class_aggregation": None}, real),
    ("R2Score", {"class_aggregation": "variance_weighted_average", "num_regressors": 2}, real),
    ("PearsonCorrelation", {}, real),
    ("ConcordanceCorrelation", {}, real),
    ("Poisson", {}, bits),
    ("KLDivergence", {}, distributions),
    ("Hinge", {}, bits),
    ("SquaredHinge", {}, bits),
    ("CategoricalHinge", {}, one_hot),
    ("BinaryCrossentropy", {}, bits),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, logits),
    ("CategoricalCrossentropy", {}, one_hot),
    ("SparseCategoricalCrossentropy", {}, classes),
    ("Accuracy", {}, labels),
    ("BinaryAccuracy", {}, column),
    ("BinaryAccuracy", {"threshold": 0.3}, bits),
    ("CategoricalAccuracy", {}, one_hot),
    ("SparseCategoricalAccuracy", {}, classes),
    ("TopKCategoricalAccuracy", {"k": 2}, one_hot),
    ("SparseTopKCategoricalAccuracy", {"k": 2}, classes),
    ("TruePositives", {}, bits),
    ("TrueNegatives", {"thresholds": [0.2, 0.9]}, bits),
    ("FalsePositives", {"thresholds": 0.7}, column),
    ("FalseNegatives", {"thresholds": [0.0, 0.25, 0.5, 0.75, 1.0]}, bits),
    ("Precision", {}, column),
    ("Precision", {"thresholds": [0.1, 0.5]}, bits),
    ("Precision", {"top_k": 2}, bits),
    ("Precision", {"top_k": 2, "class_id": 1}, bits),
    ("Recall", {}, bits),
    ("Recall", {"class_id": 3}, bits),
    ("SensitivityAtSpecificity", {"specificity": 0.6}, column),
    ("SpecificityAtSensitivity", {"sensitivity": 0.6}, column),
    ("PrecisionAtRecall", {"recall": 0.6}, column),
    ("RecallAtPrecision", {"precision": 0.6, "num_thresholds": 7}, column),
    ("AUC", {}, column),
    ("AUC", {"curve": "PR"}, column),
    ("AUC", {"curve": "PR", "summation_method": "minoring"}, column),
    ("AUC", {"curve": "PRGAIN"}, column),
    ("AUC", {"summation_method": "majoring", "num_thresholds": 10}, bits),
    ("AUC", {"thresholds": [0.1, 0.5, 0.6]}, column),
    ("AUC", {"from_logits": True}, logits),
    ("AUC", {"label_weights": [1.0, 2.0, 0.5, 1.0]}, bits),
    ("AUC", {"multi_label": True}, bits),
    ("AUC", {"multi_label": True, "num_labels": C, "curve": "PR"}, bits),
    ("AUC", {"multi_label": True, "label_weights": [1.0, 2.0, 0.5, 1.0]}, bits),
    ("F1Score", {}, one_hot),
    ("F1Score", {"average": "macro"}, one_hot),
    ("F1Score", {"average": "micro", "threshold": 0.4}, bits),
    ("FBetaScore", {"average": "weighted", "beta": 2.0}, one_hot),
    ("IoU", {"num_classes": C, "target_class_ids": [0, 2]}, labels),
    ("MeanIoU", {"num_classes": C}, labels),
    ("MeanIoU", {"num_classes": C, "ignore_class": 1}, labels),
    ("MeanIoU", {"num_classes": C, "sparse_y_pred": False}, classes),
    ("BinaryIoU", {"threshold": 0.4}, column),
    ("OneHotIoU", {"num_classes": C, "target_class_ids": [1]}, one_hot),
    ("OneHotMeanIoU", {"num_classes": C}, one_hot),
]
IDS = [f"{name}-{'-'.join(map(str, arguments))}" for name, arguments, _ in CASES]


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


@pytest.mark.keras
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "arguments", "batch"), CASES, ids=IDS)
def test_keras(keras, name, arguments, batch, weighted):
    ours = getattr(metrics, name)(**arguments)
    theirs = getattr(keras.metrics, name)(**arguments)
    integer = "IoU" in name
    for _ in range(3):
        y_true, y_pred = batch()
        weight = None
        if weighted:
            weight = RNG.integers(1, 4, N) if integer else RNG.uniform(0, 2, N).astype("float32")
            weight = weight.astype("int32") if integer else weight
        ours.update_state(y_true, y_pred, sample_weight=weight)
        theirs.update_state(y_true, y_pred, sample_weight=weight)
        expected = np.asarray(theirs.result())
        actual = np.asarray(ours.result())
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-6)
    for mine, other in zip(ours.variables, theirs.variables, strict=True):
        assert mine.path.split("/")[1] == other.path.split("/")[1]
        np.testing.assert_allclose(mine.numpy(), np.asarray(other), rtol=2e-5, atol=1e-5)
    ours.reset_state()
    assert not any(v.numpy().any() for v in ours.variables)
    with_same_name = {**theirs.get_config(), "name": ours.name}
    config = ours.get_config()
    for key, value in with_same_name.items():
        if hasattr(value, "tolist"):
            value = value.tolist()
        assert config[key] == value, key
    assert type(ours).from_config(config).get_config() == config
    type(theirs).from_config(config)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "arguments", "batch"), CASES, ids=IDS)
def test_recorded_updates_equal_eager_ones(name, arguments, batch, weighted):
    """A replayed update_state gives the same bits as an eager one."""
    from narae.engine.recording import RecordedStep

    eager, replayed = (getattr(metrics, name)(**arguments) for _ in range(2))
    step = RecordedStep(lambda t, p, w: replayed.update_state(t, p, sample_weight=w))
    for _ in range(4):  # made, recorded (once more if variables were made), replayed, replayed
        t, p = batch()
        w = np.ones(N, "int32" if "IoU" in name else "float32") if weighted else None
        eager.update_state(t, p, sample_weight=w)
        step(t, p, w)
    assert step.recorded, step.reason
    for a, b in zip(eager.variables, replayed.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_mean_and_sum():
    mean, total = metrics.Mean(), metrics.Sum()
    for metric in (mean, total):
        metric.update_state([1.0, 3.0])
        metric.update_state(8.0)
        metric.update_state([[1.0, 3.0], [5.0, 7.0]], sample_weight=[1.0, 0.5])
    assert float(mean.result()) == pytest.approx((1 + 3 + 8 + 2 + 0.5 * 6) / 4.5)
    assert float(total.result()) == pytest.approx(1 + 3 + 8 + 4 + 0.5 * 12)
    assert float(metrics.Mean().result()) == 0.0
    mean.reset_state()
    assert float(mean([4.0])) == 4.0


def test_mask_of_predictions():
    metric = metrics.MeanSquaredError()
    p = ops.convert_to_tensor([[[1.0], [9.0]], [[2.0], [3.0]]])
    p.mask = ops.convert_to_tensor([[True, False], [True, True]])
    metric.update_state(np.zeros((2, 2, 1), "float32"), p)
    assert float(metric.result()) == pytest.approx((1 + 4 + 9) / 3)


def test_ignored_class_does_not_count():
    metric = metrics.SparseCategoricalCrossentropy(ignore_class=9)
    metric.update_state([0, 9], [[0.5, 0.5], [0.5, 0.5]])
    assert float(metric.result()) == pytest.approx(np.log(2))


def test_sequences():
    t, p = classes()
    t, p = t[:10].reshape(2, 5), p[:10].reshape(2, 5, C)
    expected = np.mean(t == p.argmax(-1))
    for labels_ in (t, t[..., None]):
        assert float(metrics.SparseCategoricalAccuracy()(labels_, p)) == pytest.approx(expected)
    one_hot_ = np.eye(C)[t]
    assert float(metrics.CategoricalAccuracy()(one_hot_, p)) == pytest.approx(expected)
    best_two = np.argsort(-p, -1)[..., :2]
    expected = np.mean((best_two == t[..., None]).any(-1))
    assert float(metrics.SparseTopKCategoricalAccuracy(2)(t, p)) == pytest.approx(expected)
    ids = np.argsort(-p, -1)
    metric = metrics.SparseTopKCategoricalAccuracy(2, from_sorted_ids=True)
    assert float(metric(t, ids)) == pytest.approx(expected)


def test_auc_of_perfect_and_hopeless_scores():
    assert float(metrics.AUC()([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])) == pytest.approx(1.0)
    assert float(metrics.AUC()([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9])) == pytest.approx(0.0)
    assert float(metrics.AUC()([0, 0], [0.1, 0.2])) == 0.0


def test_exact_auc_agrees_with_sklearn():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    t = RNG.integers(0, 2, 500)
    p = np.round(np.clip(0.3 * t + RNG.uniform(0, 0.7, 500), 0, 1), 2).astype("float32")
    ours = metrics.AUC(num_thresholds=2001)(t, p)
    assert float(ours) == pytest.approx(sklearn_metrics.roc_auc_score(t, p), abs=1e-6)
    predicted = (p > 0.5).astype("float32")[:, None]
    f1 = metrics.F1Score(average="macro", threshold=0.5)(t[:, None], predicted)
    assert float(f1) == pytest.approx(sklearn_metrics.f1_score(t, predicted), abs=1e-6)
    iou = metrics.BinaryIoU(target_class_ids=[1])(t, p)
    jaccard = sklearn_metrics.jaccard_score(t, p >= 0.5)
    assert float(iou) == pytest.approx(jaccard, abs=1e-6)


def test_iou_weights():
    metric = metrics.MeanIoU(num_classes=2)
    with pytest.warns(UserWarning, match="cut to int32"):
        metric.update_state([0, 1], [0, 1], sample_weight=np.array([0.5, 2.5]))
    np.testing.assert_array_equal(metric.total_cm.numpy(), [[0, 0], [0, 2]])
    metric = metrics.MeanIoU(num_classes=2, dtype="float32")
    metric.update_state([0, 1], [0, 1], sample_weight=[0.5, 2.5])
    np.testing.assert_array_equal(metric.total_cm.numpy(), [[0.5, 0], [0, 2.5]])


def test_iou_leaves_out_labels_of_no_class():
    metric = metrics.MeanIoU(num_classes=2)
    metric.update_state([0, 1, 255, -1], [0, 1, 1, 0])
    np.testing.assert_array_equal(metric.total_cm.numpy(), [[1, 0], [0, 1]])


def test_own_metric():
    class Largest(metrics.Metric):
        def __init__(self, name="largest", **kwargs):
            super().__init__(name=name, **kwargs)
            self.value = self.add_weight(initializer="zeros", name="value")
            self.inner = metrics.Mean(name="inner")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.value.assign(ops.maximum(self.value, ops.max(y_pred)))
            self.inner.update_state(y_pred)

        def result(self):
            return self.value

    metric = Largest()
    assert float(metric([0.0], [3.0])) == 3.0
    assert float(metric([0.0], [2.0])) == 3.0
    assert [v.path for v in metric.variables] == ["largest/value", "inner/total", "inner/count"]
    metric.reset_state()
    assert float(metric.result()) == 0.0
    with pytest.raises(NotImplementedError):
        metrics.Metric(name="m").update_state([1.0])


def test_wrapper_of_a_function():
    metric = metrics.MeanMetricWrapper(losses.huber, name="h", delta=0.5)
    assert metric._direction == "down"
    config = metrics.serialize(metric)
    again = metrics.deserialize(config)
    assert again.name == "h" and again.get_config() == metric.get_config()
    assert float(again([[0.0]], [[2.0]])) == pytest.approx(0.5 * 2 - 0.125)


def test_names():
    assert metrics.IoU(2, [0]).name.startswith("io_u")
    assert metrics.Precision().name.startswith("precision")
    assert metrics.RootMeanSquaredError().name == "root_mean_squared_error"


def test_get():
    assert isinstance(metrics.get("mse"), metrics.MeanSquaredError)
    assert isinstance(metrics.get("AUC"), metrics.AUC)
    assert isinstance(metrics.get("auc"), metrics.AUC)
    assert isinstance(metrics.get("RootMeanSquaredError"), metrics.RootMeanSquaredError)
    assert metrics.get("log_cosh") is losses.log_cosh
    assert metrics.get(None) is None
    metric = metrics.Recall(class_id=1, name="r")
    assert metrics.deserialize(metrics.serialize(metric)).get_config() == metric.get_config()
    with pytest.raises(ValueError, match="Did you mean 'Precision'"):
        metrics.get("Precison")


@pytest.mark.keras
def test_the_names_that_keras_knows(keras):
    missing = {
        name
        for name in dir(keras.metrics)
        if not name.startswith("_") and not hasattr(metrics, name)
    }
    assert not missing
    missing = {name for name in dir(keras.losses) if not name.startswith("_")} - set(dir(losses))
    assert missing == {"CTC", "Circle", "ctc", "circle"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: metrics.AUC(curve="XY"), "expected curve"),
        (lambda: metrics.AUC(summation_method="x"), "expected summation_method"),
        (lambda: metrics.AUC(num_thresholds=1), "expected num_thresholds"),
        (lambda: metrics.AUC(thresholds=[0.5, 1.5]), r"thresholds in \[0, 1\]"),
        (lambda: metrics.AUC(num_labels=3), "num_labels goes with multi_label"),
        (lambda: metrics.AUC(multi_label=True)([1.0], [1.0]), "shape .batch, labels."),
        (lambda: metrics.Precision(thresholds=-0.5), r"thresholds in \[0, 1\]"),
        (lambda: metrics.Precision(class_id=7)(*bits()), "expected class_id"),
        (lambda: metrics.Recall()(np.ones((3, 2)), np.ones((3, 3))), "y_pred's shape"),
        (lambda: metrics.PrecisionAtRecall(1.5), r"expected recall in \[0, 1\]"),
        (lambda: metrics.RecallAtPrecision(0.5, num_thresholds=0), "expected num_thresholds"),
        (lambda: metrics.FBetaScore(average="x"), "expected average"),
        (lambda: metrics.FBetaScore(beta=0.0), "expected beta"),
        (lambda: metrics.F1Score(threshold=2.0), "expected threshold"),
        (lambda: metrics.F1Score()([1.0], [1.0]), "shape .batch, classes."),
        (lambda: metrics.R2Score(class_aggregation="x"), "expected class_aggregation"),
        (lambda: metrics.R2Score(num_regressors=-1), "expected num_regressors"),
        (
            lambda: metrics.R2Score()(np.ones((2, 3, 4)), np.ones((2, 3, 4))),
            "shape .batch, outputs",
        ),
        (lambda: metrics.IoU(2, [2]), "expected target_class_ids"),
        (lambda: metrics.SparseCategoricalCrossentropy()([4] * N, classes()[1]), ""),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message or None):
        make()


def test_adjusted_r2_needs_samples():
    with pytest.warns(UserWarning, match="adjusted score"):
        metrics.R2Score(num_regressors=5)([[1.0], [2.0]], [[1.0], [3.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics.R2Score(num_regressors=1)([[1.0], [2.0], [4.0]], [[1.0], [3.0], [4.0]])
