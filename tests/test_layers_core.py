"""Layers by themselves: aliases, lambdas, embeddings, normalization with adapt, encodings."""

import numpy as np
import pytest

from narae import layers, ops


def test_aliases():
    assert layers.Convolution2D is layers.Conv2D
    assert layers.MaxPool1D is layers.MaxPooling1D
    assert layers.GlobalAvgPool3D is layers.GlobalAveragePooling3D
    assert layers.GroupQueryAttention is layers.GroupedQueryAttention


def test_no_input_is_changed():
    x = np.random.default_rng(0).standard_normal((3, 6, 4)).astype("float32")
    before = x.copy()
    for layer in (
        layers.Dense(3, activation="relu"),
        layers.ReLU(),
        layers.BatchNormalization(),
        layers.LSTM(2),
        layers.Dropout(0.5),
        layers.Masking(),
        layers.Activation("tanh"),
    ):
        layer(x, training=True) if "training" in layer._call_info.names else layer(x)
        np.testing.assert_array_equal(x, before)


def test_dtypes():
    x = np.ones((2, 3), "float64")
    assert layers.Dense(2)(x).dtype == "float32"
    assert layers.Dense(2, dtype="float64")(x).dtype == "float64"
    assert layers.Flatten()(np.ones((2, 3, 4), "int32")).dtype == "int32"


def test_zero_rows():
    x = np.zeros((0, 8, 8, 2), "float32")
    for layer in (layers.Conv2D(3, 3), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(3)):
        assert layer(x).shape[0] == 0


def test_lambda():
    double = layers.Lambda(lambda x: x * 2)
    np.testing.assert_array_equal(double(np.ones((2, 2), "float32")).numpy(), 2)
    scaled = layers.Lambda(lambda x, factor: x * factor, arguments={"factor": 3.0})
    np.testing.assert_array_equal(scaled(np.ones((2, 2), "float32")).numpy(), 3)
    training = layers.Lambda(lambda x, training=None: x + 1 if training else x)
    assert training(np.zeros((1, 1), "float32"), training=True).numpy() == 1
    assert layers.Lambda(lambda x: x, output_shape=(7,)).compute_output_shape((None, 3)) == (
        None,
        7,
    )


def test_a_lambda_can_be_copied_but_its_code_is_never_run():
    layer = layers.Lambda(lambda x: x * 2)
    config = layer.get_config()
    assert config["function"]["class_name"] == "__lambda__"
    copy = layers.Lambda.from_config(config)
    np.testing.assert_array_equal(copy(np.ones((1, 1), "float32")).numpy(), 2)
    config["function"]["config"]["token"] = "of another process"
    with pytest.raises(ValueError, match="never runs"):
        layers.Lambda.from_config(config)


def test_embedding_takes_weights():
    table = np.arange(6.0, dtype="float32").reshape(3, 2)
    layer = layers.Embedding(3, 2, weights=table)
    np.testing.assert_array_equal(layer(np.array([2, 0])).numpy(), table[[2, 0]])


def test_embedding_op_counts_no_index_from_the_end():
    table = np.arange(6.0, dtype="float32").reshape(3, 2)
    np.testing.assert_array_equal(ops.embedding(table, [[2, 0]]).numpy(), table[[[2, 0]]])
    for index in (-1, 3, 2**31, 2**63 - 1):
        with pytest.raises(IndexError, match="embedding"):
            ops.embedding(table, np.array([index], "int64"))


def test_plain_einsums_equal_the_general_way():
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype("float32")
    layer = layers.EinsumDense("abc,cde->abde", (None, 2, 5), bias_axes="de", activation="relu")
    fast = layer(x).numpy()
    assert layer._contracted == 1
    layer._contracted = 0
    np.testing.assert_allclose(layer(x).numpy(), fast, rtol=1e-5, atol=1e-6)


DATA = np.random.default_rng(0).normal(5.0, 3.0, (100, 4)).astype("float32")


@pytest.mark.parametrize(
    "data",
    [DATA, ops.convert_to_tensor(DATA), [DATA[:30], DATA[30:]], [(DATA[:99], 0), (DATA[99:], 1)]],
    ids=["array", "tensor", "batches", "pairs"],
)
def test_adapt(data):
    layer = layers.Normalization()
    layer.adapt(data)
    y = layer(DATA).numpy()
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=0), 1, rtol=1e-5)
    back = layers.Normalization(
        mean=layer.adapt_mean.numpy(), variance=layer.adapt_variance.numpy(), invert=True
    )
    np.testing.assert_allclose(back(y).numpy(), DATA, rtol=1e-4)


def test_adapt_with_a_large_mean():
    layer = layers.Normalization(axis=None)
    layer.adapt(np.float64(1e6) + np.array([0.0, 1.0, 2.0]))
    np.testing.assert_allclose(float(layer.adapt_variance), 2 / 3, rtol=1e-6)


def test_adapt_errors():
    layer = layers.Normalization()
    with pytest.raises(ValueError, match="expected data"):
        layer.adapt(np.zeros((0, 4)))
    layer.adapt(DATA)
    with pytest.raises(ValueError, match="sizes"):
        layer.adapt(DATA[:, :2])
    with pytest.raises(TypeError, match="int"):
        layer.adapt(3)
    with pytest.raises(ValueError, match="without mean"):
        layers.Normalization(mean=0.0, variance=1.0).adapt(DATA)


def test_counts_with_weights():
    layer = layers.CategoryEncoding(3, output_mode="count")
    y = layer(np.array([[0, 2, 2]]), count_weights=np.array([[1.0, 0.5, 0.25]]))
    np.testing.assert_array_equal(y.numpy(), [[1.0, 0.0, 0.75]])


def test_frozen_batch_normalization_runs_in_inference():
    layer = layers.BatchNormalization()
    layer.build((None, 4))
    layer.trainable = False
    before = layer.get_weights()
    y = layer(DATA, training=True).numpy()
    for a, b in zip(layer.get_weights(), before):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(y, DATA / np.sqrt(1.001), rtol=1e-5)


def test_functions_of_merging():
    x = ops.convert_to_tensor([[1.0, 2.0]])
    y = ops.convert_to_tensor([[3.0, 1.0]])
    assert layers.add([x, y]).tolist() == [[4, 3]]
    assert layers.subtract([x, y]).tolist() == [[-2, 1]]
    assert layers.multiply([x, y]).tolist() == [[3, 2]]
    assert layers.average([x, y]).tolist() == [[2, 1.5]]
    assert layers.maximum([x, y]).tolist() == [[3, 2]]
    assert layers.minimum([x, y]).tolist() == [[1, 1]]
    assert layers.concatenate([x, y]).tolist() == [[1, 2, 3, 1]]
    assert layers.dot([x, y]).tolist() == [[5]]
