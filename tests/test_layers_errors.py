"""Bad arguments and bad inputs: the right exception, and a message that says who and what."""

import numpy as np
import pytest

from narae import layers


def image(*shape):
    return np.zeros(shape, "float32")


# (class, arguments, exception, words of the message)
ARGUMENTS = [
    ("Dense", {"units": -1}, ValueError, "units=-1"),
    ("Dense", {"units": 0}, ValueError, "positive integer"),
    ("Dense", {"units": 2.5}, ValueError, "units=2.5"),
    ("Dense", {"units": "3"}, ValueError, "units='3'"),
    ("Dense", {"units": True}, ValueError, "units=True"),
    ("Dense", {"units": 3, "activation": "rellu"}, ValueError, "rellu"),
    ("Dense", {"units": 3, "kernel_initializer": "he_norm"}, ValueError, "he_norm"),
    ("Dense", {"units": 3, "unit": 4}, ValueError, "unit"),
    ("Dense", {"units": 3, "lora_rank": 4}, NotImplementedError, "lora_rank"),
    ("EinsumDense", {"equation": "ab,bc", "output_shape": 3}, ValueError, "equation"),
    ("EinsumDense", {"equation": "...ab,bc->ac", "output_shape": 3}, ValueError, "equation"),
    ("Embedding", {"input_dim": 0, "output_dim": 3}, ValueError, "input_dim=0"),
    ("Embedding", {"input_dim": 3, "output_dim": -2}, ValueError, "output_dim=-2"),
    ("Lambda", {"function": 3}, TypeError, "callable"),
    ("ReLU", {"max_value": -1.0}, ValueError, "max_value=-1.0"),
    ("ReLU", {"negative_slope": None}, ValueError, "negative_slope=None"),
    ("LeakyReLU", {"negative_slope": -0.1}, ValueError, "negative_slope=-0.1"),
    ("Dropout", {"rate": 1.5}, ValueError, "rate=1.5"),
    ("Dropout", {"rate": -0.1}, ValueError, "between 0 and 1"),
    ("Dropout", {"rate": "half"}, ValueError, "rate='half'"),
    ("GaussianNoise", {"stddev": -1.0}, ValueError, "stddev=-1.0"),
    ("AlphaDropout", {"rate": 2}, ValueError, "rate=2"),
    ("SpatialDropout2D", {"rate": 0.1, "data_format": "last"}, ValueError, "data_format='last'"),
    ("Flatten", {"data_format": "channels"}, ValueError, "data_format='channels'"),
    ("Reshape", {"target_shape": (-1, -1)}, ValueError, "one -1"),
    ("Reshape", {"target_shape": (-2, 3)}, ValueError, "non-negative"),
    ("Permute", {"dims": (0, 1)}, ValueError, "1..n"),
    ("RepeatVector", {"n": 2.5}, TypeError, "n=2.5"),
    ("RepeatVector", {"n": 0}, ValueError, "n=0"),
    ("ZeroPadding1D", {"padding": -1}, ValueError, "padding"),
    ("ZeroPadding2D", {"padding": (1, 2, 3)}, ValueError, "padding=(1, 2, 3)"),
    ("ZeroPadding2D", {"padding": "same"}, ValueError, "padding='same'"),
    ("Cropping2D", {"cropping": ((1, 2), (0, -1))}, ValueError, "cropping"),
    ("UpSampling2D", {"size": 0}, ValueError, "size=0"),
    ("UpSampling2D", {"interpolation": "cubic"}, ValueError, "interpolation='cubic'"),
    ("Conv2D", {"filters": 0, "kernel_size": 3}, ValueError, "filters=0"),
    ("Conv2D", {"filters": 3, "kernel_size": 0}, ValueError, "kernel_size=0"),
    ("Conv2D", {"filters": 3, "kernel_size": (3, 3, 3)}, ValueError, "2 integers"),
    ("Conv2D", {"filters": 3, "kernel_size": 3, "strides": (0, 1)}, ValueError, "strides"),
    ("Conv2D", {"filters": 3, "kernel_size": 3, "padding": "full"}, ValueError, "padding='full'"),
    ("Conv2D", {"filters": 3, "kernel_size": 3, "padding": "causal"}, ValueError, "causal"),
    ("Conv2D", {"filters": 3, "kernel_size": 3, "groups": 2}, ValueError, "multiple of groups"),
    ("Conv2D", {"filters": 3, "kernel_size": 3, "groups": 0}, ValueError, "groups=0"),
    ("Conv2D", {"filters": 3, "kernel_size": 3, "data_format": 1}, ValueError, "data_format=1"),
    ("Conv1D", {"filters": 3, "kernel_size": 3, "strides": 2, "dilation_rate": 2}, ValueError,
     "dilation_rate"),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "output_padding": 1}, ValueError,
     "output_padding"),
    ("DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 0}, ValueError, "depth_multiplier"),
    ("SeparableConv2D", {"filters": -3, "kernel_size": 3}, ValueError, "filters=-3"),
    ("MaxPooling2D", {"pool_size": 0}, ValueError, "pool_size=0"),
    ("MaxPooling2D", {"pool_size": 2, "strides": -1}, ValueError, "strides=-1"),
    ("AveragePooling1D", {"pool_size": 2, "padding": "causal"}, ValueError, "causal"),
    ("BatchNormalization", {"renorm": True}, ValueError, "renorm"),
    ("LayerNormalization", {"axis": 1.5}, TypeError, "axis=1.5"),
    ("GroupNormalization", {"groups": 0}, ValueError, "groups=0"),
    ("UnitNormalization", {"axis": "last"}, TypeError, "axis='last'"),
    ("LSTM", {"units": 0}, ValueError, "units=0"),
    ("LSTM", {"units": 3, "dropout": 1.5}, ValueError, "dropout=1.5"),
    ("GRU", {"units": 3, "use_cudnn": "yes"}, ValueError, "use_cudnn='yes'"),
    ("RNN", {"cell": 3}, ValueError, "cell"),
    ("Bidirectional", {"layer": 3}, ValueError, "layer=3"),
    ("TimeDistributed", {"layer": "Dense"}, ValueError, "layer='Dense'"),
    ("Wrapper", {"layer": 3}, TypeError, "layer=3"),
    ("MultiHeadAttention", {"num_heads": 0, "key_dim": 2}, ValueError, "num_heads=0"),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 2, "dropout": 2.0}, ValueError, "dropout"),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 2, "value_dim": 0}, ValueError, "value_dim"),
    ("GroupQueryAttention", {"head_dim": 2, "num_query_heads": 3, "num_key_value_heads": 2},
     ValueError, "multiple"),
    ("Attention", {"score_mode": "cosine"}, ValueError, "score_mode='cosine'"),
    ("Dot", {"axes": "one"}, TypeError, "axes='one'"),
    ("Dot", {"axes": (1, 2, 3)}, ValueError, "pair"),
    ("Normalization", {"mean": 1.0}, ValueError, "variance"),
    ("Normalization", {"axis": -1, "mean": np.ones((2, 2)), "variance": np.ones((2, 2))},
     ValueError, "axes"),
    ("CategoryEncoding", {}, ValueError, "num_tokens=None"),
    ("CategoryEncoding", {"num_tokens": 3, "output_mode": "tf_idf"}, ValueError, "tf_idf"),
]  # fmt: skip


@pytest.mark.parametrize(
    "name, arguments, error, words", ARGUMENTS, ids=[f"{a[0]}({a[1]})" for a in ARGUMENTS]
)
def test_arguments(name, arguments, error, words):
    with pytest.raises(error) as caught:
        getattr(layers, name)(**arguments)
    assert words in str(caught.value)
    assert "narae." in str(caught.value)


def test_directions_and_merge_modes():
    with pytest.raises(ValueError, match="directions"):
        layers.Bidirectional(layers.LSTM(2), backward_layer=layers.LSTM(2))
    with pytest.raises(ValueError, match="return_sequences"):
        backward = layers.LSTM(2, go_backwards=True, return_sequences=True)
        layers.Bidirectional(layers.LSTM(2), backward_layer=backward)
    with pytest.raises(ValueError, match="merge_mode='max'"):
        layers.Bidirectional(layers.LSTM(2), merge_mode="max")


# (layer, input or list of inputs, words of the ValueError)
INPUTS = [
    (lambda: layers.Dense(3), image(4), "ndim"),
    (lambda: layers.Conv2D(3, 3), image(2, 8, 8), "ndim"),
    (lambda: layers.Conv2D(3, 9), image(2, 8, 8, 1), "window"),
    (lambda: layers.Conv2D(4, 3, groups=2), image(2, 8, 8, 3), "groups"),
    (lambda: layers.MaxPooling2D(9), image(2, 8, 8, 1), "window"),
    (lambda: layers.MaxPooling2D(), image(2, 8, 8), "ndim"),
    (lambda: layers.GlobalAveragePooling2D(), image(2, 8, 8), "ndim"),
    (lambda: layers.Flatten(), np.float32(1.0), "ndim"),
    (lambda: layers.Reshape((4, 2)), image(2, 9), "target_shape"),
    (lambda: layers.Reshape((-1, 2)), image(2, 9), "target_shape"),
    (lambda: layers.Permute((2, 1)), image(2, 3), "ndim"),
    (lambda: layers.RepeatVector(2), image(2, 3, 4), "ndim"),
    (lambda: layers.Cropping1D(2), image(2, 4, 3), "cropping"),
    (lambda: layers.BatchNormalization(axis=4), image(2, 3), "axis"),
    (lambda: layers.LayerNormalization(axis=3), image(2, 3), "axis"),
    (lambda: layers.GroupNormalization(4), image(2, 6), "groups"),
    (lambda: layers.LSTM(3), image(2, 3), "ndim"),
    (lambda: layers.LSTM(3), image(2, 0, 3), "at least one step"),
    (lambda: layers.TimeDistributed(layers.Dense(2)), image(2, 3), "steps"),
    (lambda: layers.Add(), image(2, 3), "list"),
    (lambda: layers.Add(), [image(2, 3), image(2, 4)], "broadcast"),
    (lambda: layers.Add(), [image(2, 3), image(3, 3)], "batch"),
    (lambda: layers.Subtract(), [image(2, 3)], "list of 2"),
    (lambda: layers.Concatenate(), [image(2, 3), image(3, 3)], "axis"),
    (lambda: layers.Concatenate(axis=2), [image(2, 3), image(2, 3)], "axis"),
    (lambda: layers.Dot(axes=1), [image(2, 3), image(2, 4)], "axes"),
    (lambda: layers.Dot(axes=0), [image(2, 3), image(2, 3)], "axes"),
    (lambda: layers.Attention(), image(2, 3, 4), "list"),
    (lambda: layers.EinsumDense("ab,bc->ac", 3), image(2, 3, 4), "rank"),
    (lambda: layers.EinsumDense("ab,bc->ac", (3, 4)), image(2, 3), "rank"),
    (lambda: layers.Normalization(axis=3), image(2, 3), "axis"),
]


@pytest.mark.parametrize("make, x, words", INPUTS, ids=range(len(INPUTS)))
def test_inputs(make, x, words):
    with pytest.raises(ValueError, match=words) as caught:
        make()(x)
    assert "narae." in str(caught.value)


def test_a_built_layer_refuses_another_width():
    layer = layers.Dense(3)
    layer(image(2, 4))
    with pytest.raises(ValueError, match="value 4"):
        layer(image(2, 5))
    layer = layers.Conv2D(3, 1)
    layer(image(2, 4, 4, 2))
    with pytest.raises(ValueError, match="value 2"):
        layer(image(2, 4, 4, 3))


def test_calls():
    with pytest.raises(ValueError, match="same steps"):
        layers.MultiHeadAttention(2, 3)(image(2, 4, 6), image(2, 5, 6), image(2, 3, 6))
    with pytest.raises(ValueError, match="mask"):
        layers.BatchNormalization()(image(2, 3), training=True, mask=np.ones((2, 3), bool))
    with pytest.raises(ValueError, match="mask"):
        layers.Softmax()(image(2, 3), mask=np.ones((2, 4), bool))
    with pytest.raises(ValueError, match="count_weights"):
        layers.CategoryEncoding(3)(np.array([[1, 2]]), count_weights=np.array([[1, 2]]))
    with pytest.raises(ValueError, match="initial states"):
        layers.LSTM(3)(image(2, 4, 5), initial_state=[image(2, 3)])
    with pytest.raises(ValueError, match="expected shape|set_weights"):
        layers.Embedding(3, 2, weights=image(2, 2))


@pytest.mark.parametrize("index", [-1, 5, 2**31, 2**63 - 1])
def test_embedding_index_out_of_range(index):
    layer = layers.Embedding(5, 2)
    with pytest.raises((IndexError, ValueError)):
        layer(np.array([[0, index]], "int64"))


def test_leaky_relu_alpha_warns():
    with pytest.warns(UserWarning, match="negative_slope"):
        layer = layers.LeakyReLU(alpha=0.2)
    assert layer.negative_slope == 0.2
