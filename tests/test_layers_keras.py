"""Every layer against the real Keras: configs, weights, shapes, outputs and gradients.

Both layers get the same weights and inputs. One line is one case; `TRAINING` marks the cases that
run with `training=True`.
"""

import copy
import os
import re

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")
jax = pytest.importorskip("jax")
jax.config.update("jax_disable_most_optimizations", True)  # half of the time would be compiling

import narae  # noqa: E402
from narae import layers, ops  # noqa: E402
from narae.engine.tape import GradientTape  # noqa: E402

pytestmark = pytest.mark.keras

INTEGERS = 7  # an input shape that starts with this string's value is filled with 0 .. INTEGERS-1


def integers(*shape):
    return ("integers", shape)


TRAINING = {"training": True}
CAUSAL = {"use_causal_mask": True}
SCORES = {"return_attention_scores": True}
IMAGE, SEQUENCE, VOLUME = (2, 6, 5, 4), (2, 7, 4), (2, 4, 3, 5, 2)
FIRST = {"data_format": "channels_first"}
TANH = {"activation": "tanh", "recurrent_activation": "hard_sigmoid"}  # not what the kernel fuses

# (class, arguments, input shape or list of shapes, call arguments)
CASES = [
    ("Dense", {"units": 5}, (3, 4), {}),
    ("Dense", {"units": 5, "activation": "relu"}, (3, 4), {}),
    ("Dense", {"units": 5, "activation": "tanh", "use_bias": False}, (2, 3, 4), {}),
    ("Dense", {"units": 5, "activation": "gelu"}, (3, 4), {}),
    ("Dense", {"units": 1, "activation": "sigmoid", "kernel_regularizer": "l2"}, (3, 4), {}),
    ("Dense", {"units": 6, "activation": "softmax", "kernel_constraint": "max_norm"}, (3, 4), {}),
    ("EinsumDense", {"equation": "ab,bc->ac", "output_shape": 5}, (3, 4), {}),
    ("EinsumDense", {"equation": "ab,bc->ac", "output_shape": 5, "bias_axes": "c"}, (3, 4), {}),
    ("EinsumDense", {"equation": "abc,cde->abde", "output_shape": (None, 2, 5), "bias_axes": "de",
                     "activation": "relu"}, (2, 3, 4), {}),
    ("EinsumDense", {"equation": "abde,dec->abc", "output_shape": (None, 3), "bias_axes": "c"},
     (2, 3, 4, 5), {}),
    ("EinsumDense", {"equation": "...x,xy->...y", "output_shape": 3, "bias_axes": "y"},
     (2, 3, 4), {}),
    ("EinsumDense", {"equation": "abc,cd->adb", "output_shape": (5, 3), "bias_axes": "d",
                     "activation": "tanh"}, (2, 3, 4), {}),
    ("EinsumDense", {"equation": "ab...,bc->ac...", "output_shape": 5, "bias_axes": "c"},
     (2, 3, 4), {}),
    ("Embedding", {"input_dim": 7, "output_dim": 3}, integers(2, 5), {}),
    ("Embedding", {"input_dim": 7, "output_dim": 3, "mask_zero": True}, integers(2, 5), {}),
    ("Identity", {}, (2, 3), {}),
    ("Masking", {}, (2, 3, 4), {}),
    ("Masking", {"mask_value": 1.5}, (2, 3, 4), {}),
    ("Activation", {"activation": "relu"}, (2, 3), {}),
    ("Activation", {"activation": "softmax"}, (2, 3), {}),
    ("Activation", {"activation": "selu"}, (2, 3), {}),
    ("ReLU", {}, (4, 5), {}),
    ("ReLU", {"max_value": 1.0, "negative_slope": 0.1, "threshold": 0.2}, (4, 5), {}),
    ("LeakyReLU", {}, (4, 5), {}),
    ("LeakyReLU", {"negative_slope": 0.1}, (4, 5), {}),
    ("PReLU", {}, (4, 5), {}),
    ("PReLU", {"shared_axes": [1, 2], "alpha_initializer": "ones"}, IMAGE, {}),
    ("ELU", {}, (4, 5), {}),
    ("ELU", {"alpha": 0.5}, (4, 5), {}),
    ("Softmax", {}, (4, 5), {}),
    ("Softmax", {"axis": 1}, (2, 4, 5), {}),
    ("Softmax", {"axis": [1, 2]}, (2, 4, 5), {}),
    ("Dropout", {"rate": 0.3}, (4, 5), {}),
    ("Dropout", {"rate": 0.0, "seed": 3}, (4, 5), TRAINING),
    ("SpatialDropout1D", {"rate": 0.3}, SEQUENCE, {}),
    ("SpatialDropout2D", {"rate": 0.3}, IMAGE, {}),
    ("SpatialDropout3D", {"rate": 0.3}, VOLUME, {}),
    ("GaussianNoise", {"stddev": 0.3}, (4, 5), {}),
    ("GaussianDropout", {"rate": 0.3}, (4, 5), {}),
    ("AlphaDropout", {"rate": 0.3}, (4, 5), {}),
    ("ActivityRegularization", {"l1": 0.1, "l2": 0.2}, (4, 5), {}),
    ("Flatten", {}, IMAGE, {}),
    ("Flatten", FIRST, IMAGE, {}),
    ("Flatten", {}, (3,), {}),
    ("Reshape", {"target_shape": (4, 5, 6)}, IMAGE, {}),
    ("Reshape", {"target_shape": (-1, 8)}, IMAGE, {}),
    ("Permute", {"dims": (3, 1, 2)}, IMAGE, {}),
    ("RepeatVector", {"n": 3}, (2, 4), {}),
    ("ZeroPadding1D", {}, SEQUENCE, {}),
    ("ZeroPadding1D", {"padding": (2, 1), **FIRST}, SEQUENCE, {}),
    ("ZeroPadding2D", {}, IMAGE, {}),
    ("ZeroPadding2D", {"padding": ((1, 2), (0, 3))}, IMAGE, {}),
    ("ZeroPadding2D", {"padding": (1, 2), **FIRST}, IMAGE, {}),
    ("ZeroPadding3D", {"padding": (1, 0, 2)}, VOLUME, {}),
    ("Cropping1D", {}, SEQUENCE, {}),
    ("Cropping1D", {"cropping": (0, 2)}, SEQUENCE, {}),
    ("Cropping2D", {}, IMAGE, {}),
    ("Cropping2D", {"cropping": ((1, 2), (0, 3))}, IMAGE, {}),
    ("Cropping2D", {"cropping": (1, 1), **FIRST}, (2, 4, 6, 5), {}),
    ("Cropping3D", {}, VOLUME, {}),
    ("UpSampling1D", {"size": 3}, SEQUENCE, {}),
    ("UpSampling2D", {}, IMAGE, {}),
    ("UpSampling2D", {"size": (2, 3), **FIRST}, IMAGE, {}),
    ("UpSampling2D", {"size": (2, 3), "interpolation": "bilinear"}, IMAGE, {}),
    ("UpSampling2D", {"interpolation": "bilinear", **FIRST}, IMAGE, {}),
    ("UpSampling3D", {"size": (1, 2, 2)}, VOLUME, {}),
    ("Conv1D", {"filters": 3, "kernel_size": 3}, SEQUENCE, {}),
    ("Conv1D", {"filters": 3, "kernel_size": 2, "strides": 2, "padding": "same",
                "activation": "relu"}, SEQUENCE, {}),
    ("Conv1D", {"filters": 3, "kernel_size": 3, "padding": "causal", "dilation_rate": 2},
     SEQUENCE, {}),
    ("Conv1D", {"filters": 4, "kernel_size": 3, "groups": 2, "use_bias": False}, SEQUENCE, {}),
    ("Conv1D", {"filters": 3, "kernel_size": 3, **FIRST}, (2, 4, 7), {}),
    ("Conv2D", {"filters": 3, "kernel_size": 3}, IMAGE, {}),
    ("Conv2D", {"filters": 3, "kernel_size": (3, 2), "strides": (2, 1), "padding": "same",
                "activation": "relu"}, IMAGE, {}),
    ("Conv2D", {"filters": 3, "kernel_size": 2, "dilation_rate": 2, "activation": "gelu"},
     IMAGE, {}),
    ("Conv2D", {"filters": 4, "kernel_size": 3, "groups": 2, "padding": "same"}, IMAGE, {}),
    ("Conv2D", {"filters": 3, "kernel_size": 1, "activation": "sigmoid"}, IMAGE, {}),
    ("Conv2D", {"filters": 3, "kernel_size": 3, **FIRST, "padding": "same"}, IMAGE, {}),
    ("Conv3D", {"filters": 3, "kernel_size": 2}, VOLUME, {}),
    ("Conv3D", {"filters": 2, "kernel_size": (1, 2, 3), "padding": "same", "strides": (1, 1, 2),
                "activation": "tanh"}, VOLUME, {}),
    ("Conv1DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2}, SEQUENCE, {}),
    ("Conv1DTranspose", {"filters": 3, "kernel_size": 3, "padding": "same"}, SEQUENCE, {}),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": 3}, IMAGE, {}),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same",
                         "activation": "relu"}, IMAGE, {}),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": (2, 3), "strides": (2, 3)}, IMAGE, {}),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2, "output_padding": 1},
     IMAGE, {}),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": 2, "dilation_rate": 2}, IMAGE, {}),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": 3, **FIRST}, IMAGE, {}),
    ("Conv3DTranspose", {"filters": 3, "kernel_size": 2, "strides": 2}, VOLUME, {}),
    ("DepthwiseConv1D", {"kernel_size": 3, "depth_multiplier": 2}, SEQUENCE, {}),
    ("DepthwiseConv2D", {"kernel_size": 3}, IMAGE, {}),
    ("DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 2, "padding": "same", "strides": 2,
                         "activation": "relu"}, IMAGE, {}),
    ("DepthwiseConv2D", {"kernel_size": 2, "dilation_rate": 2, "use_bias": False}, IMAGE, {}),
    ("DepthwiseConv2D", {"kernel_size": 2, **FIRST}, IMAGE, {}),
    ("SeparableConv1D", {"filters": 3, "kernel_size": 3, "padding": "same"}, SEQUENCE, {}),
    ("SeparableConv2D", {"filters": 3, "kernel_size": 3, "depth_multiplier": 2,
                         "activation": "relu"}, IMAGE, {}),
    ("SeparableConv2D", {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same"},
     IMAGE, {}),
    ("MaxPooling1D", {}, SEQUENCE, {}),
    ("MaxPooling1D", {"pool_size": 3, "strides": 1, "padding": "same"}, SEQUENCE, {}),
    ("MaxPooling2D", {}, IMAGE, {}),
    ("MaxPooling2D", {"pool_size": (3, 2), "strides": 2, "padding": "same"}, IMAGE, {}),
    ("MaxPooling2D", {"pool_size": 2, **FIRST}, IMAGE, {}),
    ("MaxPooling3D", {"pool_size": (2, 1, 2)}, VOLUME, {}),
    ("AveragePooling1D", {"pool_size": 2}, SEQUENCE, {}),
    ("AveragePooling2D", {"pool_size": 2}, IMAGE, {}),
    ("AveragePooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}, IMAGE, {}),
    ("AveragePooling2D", {"pool_size": (2, 3), **FIRST}, IMAGE, {}),
    ("AveragePooling3D", {"pool_size": 2, "padding": "same"}, VOLUME, {}),
    ("GlobalMaxPooling1D", {}, SEQUENCE, {}),
    ("GlobalMaxPooling2D", {"keepdims": True}, IMAGE, {}),
    ("GlobalMaxPooling2D", FIRST, IMAGE, {}),
    ("GlobalMaxPooling3D", {}, VOLUME, {}),
    ("GlobalAveragePooling1D", {"keepdims": True}, SEQUENCE, {}),
    ("GlobalAveragePooling1D", FIRST, SEQUENCE, {}),
    ("GlobalAveragePooling2D", {}, IMAGE, {}),
    ("GlobalAveragePooling2D", {**FIRST, "keepdims": True}, IMAGE, {}),
    ("GlobalAveragePooling3D", {}, VOLUME, {}),
    ("BatchNormalization", {}, (6, 4), {}),
    ("BatchNormalization", {}, (6, 4), TRAINING),
    ("BatchNormalization", {"momentum": 0.9, "epsilon": 0.01}, IMAGE, TRAINING),
    ("BatchNormalization", {"axis": 1}, IMAGE, TRAINING),
    ("BatchNormalization", {"axis": 1}, IMAGE, {}),
    ("BatchNormalization", {"center": False, "scale": False}, (6, 4), TRAINING),
    ("BatchNormalization", {"center": False}, (6, 4), TRAINING),
    ("LayerNormalization", {}, (3, 5), {}),
    ("LayerNormalization", {"axis": [1, 2], "epsilon": 0.01}, (2, 3, 4), {}),
    ("LayerNormalization", {"axis": 1, "center": False}, (2, 3, 4), {}),
    ("LayerNormalization", {"scale": False}, (2, 3, 4), {}),
    ("GroupNormalization", {"groups": 2}, IMAGE, {}),
    ("GroupNormalization", {"groups": -1, "scale": False}, IMAGE, {}),
    ("GroupNormalization", {"groups": 1, "axis": 1, "center": False}, IMAGE, {}),
    ("RMSNormalization", {}, (3, 5), {}),
    ("RMSNormalization", {"epsilon": 0.1}, (2, 3, 4), {}),
    ("UnitNormalization", {}, (3, 5), {}),
    ("UnitNormalization", {"axis": [1, 2]}, (2, 3, 4), {}),
    ("SimpleRNN", {"units": 3}, SEQUENCE, {}),
    ("SimpleRNN", {"units": 3, "return_sequences": True, "return_state": True}, SEQUENCE, {}),
    ("SimpleRNN", {"units": 3, "activation": "relu", "go_backwards": True}, SEQUENCE, {}),
    ("LSTM", {"units": 3}, SEQUENCE, {}),
    ("LSTM", {"units": 3, "return_sequences": True, "return_state": True}, SEQUENCE, {}),
    ("LSTM", {"units": 3, "go_backwards": True, "return_sequences": True}, SEQUENCE, {}),
    ("LSTM", {"units": 3, "use_bias": False}, SEQUENCE, {}),
    ("LSTM", {"units": 3, "unit_forget_bias": False, "unroll": True}, SEQUENCE, {}),
    ("LSTM", {"units": 3, "return_sequences": True, **TANH}, SEQUENCE, {}),
    ("LSTM", {"units": 3, "go_backwards": True, "return_state": True, **TANH}, SEQUENCE, {}),
    ("GRU", {"units": 3}, SEQUENCE, {}),
    ("GRU", {"units": 3, "reset_after": False, "return_sequences": True}, SEQUENCE, {}),
    ("GRU", {"units": 3, "use_bias": False, "return_state": True}, SEQUENCE, {}),
    ("GRU", {"units": 3, "go_backwards": True, **TANH}, SEQUENCE, {}),
    ("GRU", {"units": 3, "reset_after": False, **TANH}, SEQUENCE, {}),
    ("RNN", lambda L: {"cell": L.LSTMCell(3)}, SEQUENCE, {}),
    ("RNN", lambda L: {"cell": L.GRUCell(3, reset_after=False), "return_sequences": True},
     SEQUENCE, {}),
    ("RNN", lambda L: {"cell": L.StackedRNNCells([L.LSTMCell(3), L.SimpleRNNCell(2)]),
                       "return_sequences": True}, SEQUENCE, {}),
    ("Bidirectional", lambda L: {"layer": L.LSTM(3)}, SEQUENCE, {}),
    ("Bidirectional", lambda L: {"layer": L.GRU(3, return_sequences=True), "merge_mode": "sum"},
     SEQUENCE, {}),
    ("Bidirectional", lambda L: {"layer": L.SimpleRNN(3), "merge_mode": None}, SEQUENCE, {}),
    ("Bidirectional", lambda L: {"layer": L.LSTM(3, return_sequences=True, return_state=True),
                                 "merge_mode": "ave"}, SEQUENCE, {}),
    ("Bidirectional", lambda L: {"layer": L.LSTM(3), "merge_mode": "mul",
                                 "backward_layer": L.LSTM(3, go_backwards=True)}, SEQUENCE, {}),
    ("TimeDistributed", lambda L: {"layer": L.Dense(3, activation="relu")}, SEQUENCE, {}),
    ("TimeDistributed", lambda L: {"layer": L.Conv2D(3, 2)}, (2, 3, 5, 4, 2), {}),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3}, [(2, 4, 6), (2, 5, 6)], {}),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3, "value_dim": 4, "output_shape": 5,
                            "dropout": 0.1}, [(2, 4, 6), (2, 5, 3), (2, 5, 2)], {}),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3, "use_bias": False},
     [(2, 4, 6), (2, 4, 6)], CAUSAL),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3}, [(2, 4, 6), (2, 5, 6)], SCORES),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3}, [(2, 4, 6), (2, 4, 6)],
     {**SCORES, **CAUSAL}),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3, "sliding_window": 2},
     [(2, 4, 6), (2, 4, 6)], {}),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3, "use_gate": True},
     [(2, 4, 6), (2, 5, 6)], {}),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3, "attention_axes": (2,)},
     [(2, 3, 4, 6), (2, 3, 5, 6)], {}),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3}, [(2, 3, 4, 6), (2, 2, 5, 6)], {}),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3, "dropout": 0.5},
     [(2, 4, 6), (2, 5, 6)], {}),
    ("GroupQueryAttention", {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2},
     [(2, 4, 6), (2, 5, 6)], {}),
    ("GroupQueryAttention", {"head_dim": 3, "num_query_heads": 2, "num_key_value_heads": 1,
                             "use_gate": True}, [(2, 4, 6), (2, 4, 6)], {**SCORES, **CAUSAL}),
    ("Attention", {}, [(2, 3, 4), (2, 5, 4)], {}),
    ("Attention", {"use_scale": True}, [(2, 3, 4), (2, 5, 6), (2, 5, 4)], SCORES),
    ("Attention", {"score_mode": "concat", "use_scale": True}, [(2, 3, 4), (2, 5, 4)], CAUSAL),
    ("AdditiveAttention", {}, [(2, 3, 4), (2, 5, 4)], {}),
    ("AdditiveAttention", {"use_scale": False}, [(2, 3, 4), (2, 5, 4)], SCORES),
    ("Add", {}, [(2, 3), (2, 3), (2, 3)], {}),
    ("Add", {}, [(2, 3, 4), (2, 4)], {}),
    ("Subtract", {}, [(2, 3), (2, 3)], {}),
    ("Multiply", {}, [(2, 3), (2, 1), (2, 3)], {}),
    ("Average", {}, [(2, 3), (2, 3), (2, 3)], {}),
    ("Maximum", {}, [(2, 3), (2, 3), (2, 3)], {}),
    ("Minimum", {}, [(2, 3), (2, 3)], {}),
    ("Concatenate", {}, [(2, 3), (2, 4)], {}),
    ("Concatenate", {"axis": 1}, [(2, 3, 4), (2, 1, 4), (2, 2, 4)], {}),
    ("Dot", {"axes": 1}, [(2, 3), (2, 3)], {}),
    ("Dot", {"axes": (1, 2)}, [(2, 3, 5), (2, 4, 3)], {}),
    ("Dot", {"axes": -1, "normalize": True}, [(2, 3, 5), (2, 4, 5)], {}),
    ("Dot", {"axes": (1, 2)}, [(2, 3), (2, 4, 3)], {}),
    ("Normalization", {}, (3, 4), {}),
    ("Normalization", {"mean": 2.0, "variance": 4.0}, (3, 4), {}),
    ("Normalization", {"axis": -1, "mean": [1.0, 2.0], "variance": [4.0, 0.0], "invert": True},
     (3, 2), {}),
    ("Normalization", {"axis": (1, 2)}, (3, 4, 2), {}),
    ("Normalization", {"axis": None}, (3, 4), {}),
    ("Rescaling", {"scale": 0.5, "offset": -1.0}, (3, 4), {}),
    ("CategoryEncoding", {"num_tokens": 7}, integers(3, 4), {}),
    ("CategoryEncoding", {"num_tokens": 7, "output_mode": "one_hot"}, integers(3), {}),
    ("CategoryEncoding", {"num_tokens": 7, "output_mode": "one_hot"}, integers(3, 1), {}),
    ("CategoryEncoding", {"num_tokens": 7, "output_mode": "count"}, integers(3, 4), {}),
]  # fmt: skip
SPREAD = ("MultiHeadAttention", "GroupQueryAttention")  # called with tensors, not with their list


def name_of(case):
    name, arguments, shapes, call = case
    text = "" if callable(arguments) else ",".join(f"{k}={v}" for k, v in arguments.items())
    return f"{name}({text}){',' if call else ''}{','.join(call)}".replace(" ", "")


def make(module, name, arguments):
    return getattr(module, name)(**(arguments(module) if callable(arguments) else arguments))


def inputs_of(shapes):
    rng = np.random.default_rng(0)

    def draw(shape):
        if shape[0] == "integers":
            return rng.integers(0, INTEGERS, shape[1]).astype("int32")
        return rng.standard_normal(shape).astype("float32")

    return [draw(s) for s in shapes] if isinstance(shapes, list) else draw(shapes)


def comparable(config):
    """A config without what may differ: the numbers at the end of automatic names."""
    if isinstance(config, dict):
        return {
            k: re.sub(r"_\d+$", "", v) if k == "name" and isinstance(v, str) else comparable(v)
            for k, v in config.items()
            if k != "shared_object_id"
        }
    if isinstance(config, (list, tuple)):
        return [comparable(v) for v in config]
    return config


def flat(outputs):
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return [np.asarray(y) for z in outputs for y in (flat(z) if isinstance(z, list) else [z])]


def arguments_of(name, x):
    return x if name in SPREAD else [x]


def float_leaves(x):
    return [v for v in (x if isinstance(x, list) else [x]) if v.dtype == np.float32]


def keras_values_and_gradients(layer, name, x, call, probes):
    """Outputs, new states, and gradients of sum(outputs * probes): for the inputs, the weights."""
    trainable = [v.value for v in layer.trainable_variables]
    others = [v.value for v in layer.non_trainable_variables]

    def run(floats, weights):
        floats = iter(floats)
        values = [
            next(floats) if v.dtype == np.float32 else v for v in (x if type(x) is list else [x])
        ]
        values = values if isinstance(x, list) else values[0]
        y, state = layer.stateless_call(weights, others, *arguments_of(name, values), **call)
        leaves = jax.tree_util.tree_leaves(y)
        return sum((a * b).sum() for a, b in zip(leaves, probes)), (leaves, state)

    grad = jax.jit(jax.grad(run, argnums=(0, 1), has_aux=True))
    (dx, dw), (leaves, state) = grad([jax.numpy.asarray(v) for v in float_leaves(x)], trainable)
    return leaves, state, [*dx, *dw]


def narae_values_and_gradients(layer, name, x, call, probes):
    x = [ops.convert_to_tensor(v) for v in x] if isinstance(x, list) else ops.convert_to_tensor(x)
    sources = [v for v in (x if isinstance(x, list) else [x]) if v.dtype == "float32"]
    with GradientTape() as tape:
        tape.watch(sources)
        y = layer(*arguments_of(name, x), **call)
        leaves = narae.engine.tree.flatten(y)
        total = sum(ops.sum(a * ops.convert_to_tensor(b)) for a, b in zip(leaves, probes))
    sources = [*sources, *layer.trainable_variables]
    return leaves, tape.gradient(total, sources, unconnected_gradients="zero")


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_layer(case):
    name, arguments, shapes, call = case
    x = inputs_of(shapes)
    ours, theirs = make(layers, name, arguments), make(keras.layers, name, arguments)

    config = ours.get_config()
    assert comparable(config) == comparable(theirs.get_config())
    assert comparable(type(ours).from_config(config).get_config()) == comparable(config)
    again = type(theirs).from_config(copy.deepcopy(config))  # Keras empties what it reads
    assert comparable(again.get_config()) == comparable(config)

    symbols = [keras.KerasTensor(v.shape, v.dtype) for v in (x if isinstance(x, list) else [x])]
    symbols = symbols if isinstance(x, list) else symbols[0]
    theirs(*arguments_of(name, symbols), **call)
    y = ours(*arguments_of(name, x), **call)
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    assert [tuple(w.shape) for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    assert [w.trainable for w in ours.weights] == [w.trainable for w in theirs.weights]

    rng = np.random.default_rng(1)
    weights = [rng.uniform(0.2, 1.0, w.shape).astype(w.dtype) for w in theirs.get_weights()]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    if name == "Normalization":
        theirs.finalize_state()
    probes = [rng.standard_normal(v.shape).astype("float32") for v in flat(y)]
    expected, states, gradients = keras_values_and_gradients(theirs, name, x, call, probes)
    y, ours_gradients = narae_values_and_gradients(ours, name, x, call, probes)
    assert [(v.shape, v.dtype) for v in flat(y)] == [(v.shape, v.dtype) for v in expected]
    for a, b in zip(flat(y), expected):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
    for v, b in zip(ours.non_trainable_weights, states):
        np.testing.assert_allclose(v.numpy(), b, rtol=1e-4, atol=1e-5)
    assert len(ours_gradients) == len(gradients)
    for a, b in zip(ours_gradients, gradients):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_shapes(case):
    """compute_output_shape, symbolic calls and real calls tell the same shapes, as Keras's."""
    name, arguments, shapes, call = case
    x = inputs_of(shapes)
    listed = x if isinstance(x, list) else [x]
    layer = make(layers, name, arguments)
    symbols = [narae.KerasTensor((None, *v.shape[1:]), str(v.dtype)) for v in listed]
    symbols = symbols if isinstance(x, list) else symbols[0]
    symbolic = narae.engine.tree.flatten(layer(*arguments_of(name, symbols), **call))
    real = narae.engine.tree.flatten(layer(*arguments_of(name, x), **call))
    assert [(None, *y.shape[1:]) for y in real] == [y.shape for y in symbolic]
    assert [y.dtype for y in real] == [y.dtype for y in symbolic]

    given = [(None, *v.shape[1:]) for v in listed]
    theirs = make(keras.layers, name, arguments)
    given = given if isinstance(x, list) else given[0]
    try:
        expected = theirs.compute_output_shape(*arguments_of(name, given))
    except NotImplementedError:
        return
    found = layer.compute_output_shape(*arguments_of(name, given))
    sizes = zip(narae.engine.tree.flatten(list(found)), narae.engine.tree.flatten(list(expected)))
    assert all(b in (a, None) for a, b in sizes)  # narae may know a size that Keras does not


def branches():
    """One case of each class that works in a model, on inputs of its own."""
    chosen, seen = [], set()
    for case in CASES:
        name, _, _, call = case
        if name in seen or call or name in ("Normalization", "CategoryEncoding"):
            continue
        seen.add(name)
        chosen.append(case)
    return chosen


def model_of_all(module):
    """A functional model with a branch for every class."""
    inputs, outputs = [], []
    for case in branches():
        name, arguments, shapes, _ = case
        x = inputs_of(shapes)
        listed = x if isinstance(x, list) else [x]
        symbols = [module.Input(v.shape[1:], dtype=str(v.dtype)) for v in listed]
        inputs += symbols
        y = make(module.layers, name, arguments)(
            *arguments_of(name, symbols if isinstance(x, list) else symbols[0])
        )
        outputs += narae.engine.tree.flatten(y)
    return module.Model(inputs, outputs)


def batch_of_all():
    arrays = [inputs_of(case[2]) for case in branches()]
    flat_arrays = [v for x in arrays for v in (x if isinstance(x, list) else [x])]
    return [np.concatenate([v, v, v])[:2] for v in flat_arrays]


@pytest.mark.parametrize("there, back", [(narae, keras), (keras, narae)], ids=["to", "from"])
def test_files(there, back, tmp_path):
    """A model of every layer, saved by one library and loaded by the other, predicts the same."""
    x = batch_of_all()
    model = model_of_all(there)
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "all.keras")
    found = back.saving.load_model(tmp_path / "all.keras").predict(x, verbose=0)
    names = [type(layer).__name__ for layer in model.layers]
    assert len(names) > 90
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
