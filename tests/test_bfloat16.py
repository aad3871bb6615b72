"""bfloat16: rounding, dtypes of results, every kernel and layer, the policy, training and saving.

A kernel of bfloat16 computes in float32: its result is the float32 one of the widened inputs,
rounded once. That is an equality, on every instruction set.
"""

import os
import warnings

import ml_dtypes
import numpy as np
import pytest

import narae
from helpers import randn
from layer_cases import CASES, arguments_of, inputs_of, make, name_of
from narae import _core, layers, ops
from narae.engine.recording import RecordedStep
from narae.engine.tree import flatten, map_structure
from reference import elementwise, unary
from test_layers_recording import batches, step_of

os.environ.setdefault("KERAS_BACKEND", "jax")
BF16 = np.dtype(ml_dtypes.bfloat16)
EVERY = np.arange(65536, dtype=np.uint16).view(BF16)


def bits(x):
    """The bits of an array, all NaN made the same."""
    x = np.asarray(x)
    return np.where(np.isnan(x), x.dtype.type(np.nan), x).view(f"u{x.dtype.itemsize}")


def rounded(x):
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(x).astype(BF16)


@pytest.fixture
def mixed():
    narae.config.set_dtype_policy("mixed_bfloat16")
    yield
    narae.config.set_dtype_policy(None)


# ---- rounding ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 7, 8, 15, 16, 17, 33, 65536])
def test_widening_is_exact(isa, n):
    x = EVERY[-n:]
    np.testing.assert_array_equal(bits(ops.cast(x, "float32")), bits(x.astype("float32")))


def test_rounding_is_to_nearest_even(isa):
    high = np.arange(65536, dtype=np.uint32) << 16
    around = [high | low for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]  # at and beside halves
    anything = np.random.default_rng(0).integers(0, 2**32, 100003, dtype=np.uint32)
    x = np.concatenate([*around, anything]).view(np.float32)
    np.testing.assert_array_equal(bits(ops.cast(x, "bfloat16")), bits(rounded(x)))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float32", "float64"])
def test_casts(isa, dtype):
    x = (3 * randn((4, 19))).astype(dtype)
    np.testing.assert_array_equal(ops.cast(x, "bfloat16").numpy(), x.astype("float32").astype(BF16))
    back = ops.cast(x.astype(BF16), dtype).numpy()
    np.testing.assert_array_equal(back, x.astype(BF16).astype(dtype))


def test_gradient_of_a_cast():
    x = ops.convert_to_tensor(randn((3, 5)))
    value, dx = narae.value_and_grad(lambda x: ops.sum(ops.cast(x, "bfloat16") * 3.0))(x)
    assert value.dtype == "bfloat16" and dx.dtype == "float32"
    np.testing.assert_array_equal(dx.numpy(), np.full((3, 5), 3, "float32"))


# ---- arrays ------------------------------------------------------------------------------------


def test_arrays_come_and_go():
    x = ops.convert_to_tensor(EVERY[:5])
    assert x.dtype == "bfloat16" and x.numpy().dtype == BF16
    assert ops.convert_to_tensor([1.0, 2.0], dtype="bfloat16").dtype == "bfloat16"
    assert "bfloat16" in repr(ops.ones(3, dtype="bfloat16"))
    assert float(ops.full((), 1.5, dtype="bfloat16")) == 1.5
    assert ops.convert_to_tensor(np.float16([1, 2])).dtype == "float32"


def test_promotion():
    x = ops.ones(3, dtype="bfloat16")
    for other in (2, 2.0, True, np.int32([1]), np.int64([1]), np.uint8([1])):
        assert ops.add(x, other).dtype == "bfloat16", other
    assert ops.add(x, np.float32([1])).dtype == "float32"
    assert ops.add(x, np.float64([1])).dtype == "float64"


@pytest.mark.parametrize(
    "move",
    [
        lambda x: ops.transpose(x),
        lambda x: ops.transpose(x, (1, 0, 2)),
        lambda x: ops.concatenate([x, x], 1),
        lambda x: ops.flip(x, 2),
        lambda x: ops.pad(x, 1),
        lambda x: ops.broadcast_to(x[:, :1], x.shape),
        lambda x: ops.take(x, [2, 0], axis=1),
        lambda x: ops.where(x > 0, x, -x),
        lambda x: x[:, 1:, ::2],
    ],
)
@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 17, 33), (1, 64, 65)])
def test_moves(isa, move, shape):
    x = rounded(randn(shape))
    y = move(ops.convert_to_tensor(x))
    assert y.dtype == "bfloat16"
    expected = move(ops.convert_to_tensor(x.astype("float32"))).numpy()
    np.testing.assert_array_equal(y.numpy().astype("float32"), expected)


# ---- kernels -----------------------------------------------------------------------------------


def same_as_float32(kernel, *arrays, **kwargs):
    """The kernel on bfloat16 arrays gives what it gives on float32, rounded once."""
    wide = [a.astype("float32") if getattr(a, "dtype", None) == BF16 else a for a in arrays]
    with np.errstate(all="ignore"):
        expected, found = kernel(*wide, **kwargs), kernel(*arrays, **kwargs)
    expected, found = (y if isinstance(y, (list, tuple)) else [y] for y in (expected, found))
    for y, y_wide in zip(found, expected, strict=True):
        if y is not None:
            y_wide = rounded(y_wide) if y.dtype == BF16 else y_wide
            assert y.dtype == y_wide.dtype
            np.testing.assert_array_equal(bits(y), bits(y_wide))


SHAPES = [(1,), (3, 7), (2, 16), (5, 17), (2, 3, 1000)]


UNARY = [*(n for n in unary.UNARY if hasattr(_core, n)), "isnan", "isfinite", "logical_not"]
BINARY = [
    *(n for n in elementwise.BINARY if hasattr(_core, n)),
    "equal",
    "less_equal",
    "logical_and",
]


@pytest.mark.parametrize("name", UNARY)
def test_unary_kernels(isa, name):
    for shape in SHAPES:
        same_as_float32(getattr(_core, name), rounded(randn(shape)))
    same_as_float32(getattr(_core, name), EVERY)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("shapes", [((5, 17),) * 2, ((5, 17), (1,)), ((1,), (33,)), ((4, 1), (9,))])
def test_binary_kernels(isa, name, shapes):
    a, b = (rounded(randn(s, seed=i)) for i, s in enumerate(shapes))
    same_as_float32(getattr(_core, name), a, b)


@pytest.mark.parametrize("name", ["relu", "gelu", "gelu_tanh", "sigmoid", "tanh", "elu", "clip"])
@pytest.mark.parametrize("shape", SHAPES)
def test_activation_kernels(isa, name, shape):
    x, dy = rounded(randn(shape)), rounded(randn(shape, seed=1))
    p = (-0.5, 0.75, 0.0)
    forward, backward = getattr(_core, f"{name}_forward"), getattr(_core, f"{name}_backward")
    same_as_float32(lambda x: forward(x, *p), x)
    same_as_float32(lambda dy, x: backward(dy, x, *p), dy, x)


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 17), (70, 1000)])
def test_row_norm_kernels(isa, shape):
    x, dy = rounded(randn(shape)), rounded(randn(shape, seed=1))
    gamma, beta = randn(shape[1], seed=2), randn(shape[1], seed=3)
    same_as_float32(_core.layer_norm_forward, x, gamma, beta, 1e-3)
    _, mean, r = _core.layer_norm_forward(x, gamma, beta, 1e-3)
    assert mean.dtype == r.dtype == np.float32
    same_as_float32(_core.layer_norm_backward, dy, x, gamma, mean, r, True, True)
    same_as_float32(_core.rms_norm_forward, x, gamma, 1e-3)
    same_as_float32(_core.rms_norm_backward, dy, x, gamma, r, True)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 17), (2, 600, 64)])
def test_channel_norm_kernels(isa, shape):
    x, dy = rounded(randn(shape)), rounded(randn(shape, seed=1))
    gamma, beta = randn(shape[2], seed=2), randn(shape[2], seed=3)
    same_as_float32(_core.channel_norm_moments, x, shape[2])
    mean, variance = _core.channel_norm_moments(x, shape[2])
    assert mean.dtype == variance.dtype == np.float32
    same_as_float32(_core.channel_norm_forward, x, mean, variance, gamma, beta, 1e-3)
    same_as_float32(_core.channel_norm_sums, dy, x, mean, variance, 1e-3)
    sums = _core.channel_norm_sums(dy, x, mean, variance, 1e-3)
    backward = _core.channel_norm_backward
    same_as_float32(backward, dy, x, mean, variance, gamma, *sums, shape[2], 1e-3)


@pytest.mark.parametrize(
    "shape, target", [((5, 17), (17,)), ((700, 65), (1, 65)), ((9, 999), (9, 1))]
)
def test_sum_to_shape_kernel(isa, shape, target):
    same_as_float32(lambda x: _core.sum_to_shape(x, target), rounded(randn(shape)))


@pytest.mark.parametrize("pool", [ops.max_pool, ops.average_pool])
@pytest.mark.parametrize("channels", [3, 16, 70])
def test_pooling(isa, pool, channels):
    x = ops.convert_to_tensor(rounded(randn((2, 6, 8, channels))))
    wide = ops.cast(x, "float32")

    def squares(x):
        return ops.sum(ops.cast(pool(x, 2, 2), "float32") ** 2)

    np.testing.assert_array_equal(
        bits(pool(x, 2, 2).numpy()), bits(rounded(pool(wide, 2, 2).numpy()))
    )
    (dx,), (dw,) = [[narae.grad(squares)(t)] for t in (x, wide)]
    assert dx.dtype == "bfloat16"
    np.testing.assert_allclose(dx.numpy().astype("float32"), dw.numpy(), rtol=2**-6, atol=2**-8)


def test_dropout(isa):
    x = rounded(randn((5, 333)))
    key = np.array([3, 5], "int64")
    same_as_float32(lambda x: _core.random_dropout(key, x, 0.25), x)


# ---- layers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_every_layer(case, mixed):
    """float32 weights, bfloat16 results near float32's, and replayed steps of the same bits."""
    name, arguments, shapes, call = case
    first = inputs_of(shapes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer, recorded = (make(layers, name, arguments) for _ in range(2))
        narae.config.set_dtype_policy(None)
        plain = make(layers, name, arguments)
        results = [flatten(la(*arguments_of(name, first), **call)) for la in (layer, plain)]
        recorded(*arguments_of(name, first), **call)
    assert all(v.dtype != "bfloat16" for v in layer.variables)
    for y, wide in zip(*results, strict=True):
        assert y.dtype == ("bfloat16" if wide.dtype == "float32" else wide.dtype)
    for a, b, c in zip(recorded.variables, layer.variables, plain.variables, strict=True):
        a.assign(b), c.assign(b)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, wide = (flatten(la(*arguments_of(name, first), **call)) for la in (layer, plain))
    for y, y_wide in zip(found, wide, strict=True):
        if y.dtype == "bfloat16" and "random" not in name.lower():
            y, y_wide = y.numpy().astype("float32"), y_wide.numpy()
            # A few roundings of 2^-9 on each of the sums that a result is made of.
            assert np.abs(y - y_wide).max(initial=0) <= 2**-5 * max(
                1, np.abs(y_wide).max(initial=0)
            )
    for a, b in zip(recorded.variables, layer.variables, strict=True):
        a.assign(b)
    step, eager_step = RecordedStep(step_of(recorded, name, call)), step_of(layer, name, call)
    for x in batches(shapes):
        expected = [v.numpy().copy() for v in eager_step(map_structure(ops.convert_to_tensor, x))]
        for a, b in zip(step(x), expected, strict=True):
            np.testing.assert_array_equal(bits(a.numpy()), bits(b))
    assert step.recorded and step.reason == ""


class Scaled(layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones")

    def call(self, x):
        assert x.dtype == "bfloat16"
        return x * self.scale + self.scale


def test_weights_are_read_in_the_compute_dtype(mixed):
    layer = Scaled()
    y = layer(randn((2, 3)))
    assert y.dtype == "bfloat16" and layer.scale.dtype == "float32"
    assert ops.add(layer.scale, 1.0).dtype == "float32"  # outside of a call
    inner = layers.Dense(2, dtype="float32")
    model = narae.Sequential([layers.Input((3,)), layers.Dense(4), inner])
    assert model.output.dtype == "float32" and model(randn((2, 3))).dtype == "float32"
    assert model.layers[0].output.dtype == "bfloat16"


class Counter(layers.Layer):
    def build(self, input_shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x


def test_state_is_not_rounded(mixed):
    layer = Counter()
    for _ in range(300):  # bfloat16 does not count beyond 256
        layer(randn((1, 1)))
    assert float(layer.calls) == 300


def test_policies():
    policy = narae.mixed_precision.Policy("mixed_bfloat16")
    assert (policy.compute_dtype, policy.variable_dtype) == ("bfloat16", "float32")
    dense = layers.Dense(3, dtype="bfloat16")
    assert dense(randn((2, 4))).dtype == "bfloat16" and dense.kernel.dtype == "bfloat16"
    again = layers.Dense.from_config(layers.Dense(3, dtype=policy).get_config())
    assert again.compute_dtype == "bfloat16" and again.variable_dtype == "float32"


# ---- training ----------------------------------------------------------------------------------


def classifier(seed=1):
    narae.utils.set_random_seed(seed)
    model = narae.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(24, 3, activation="gelu"),
            layers.GlobalAveragePooling2D(),
            layers.LayerNormalization(),
            layers.Dropout(0.1),
            layers.Dense(4),
        ]
    )
    loss = narae.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def pictures(n=256):
    y = np.arange(n, dtype="int32") % 4
    x = randn((n, 8, 8, 3))
    x[:, :4] += (y % 2)[:, None, None, None] * 1.0
    x[:, :, :4] += (y // 2)[:, None, None, None] * 1.0
    return x, y


def test_losses_follow_those_of_float32():
    x, y = pictures()
    curves = []
    for policy in ("float32", "mixed_bfloat16"):
        narae.config.set_dtype_policy(policy)
        try:
            model = classifier()
        finally:
            narae.config.set_dtype_policy(None)
        curves.append(model.fit(x, y, epochs=6, verbose=0).history["loss"])
        assert "replayed" in model.recording_status
        assert all(v.dtype == "float32" for v in model.trainable_variables)
    wide, mixed_curve = map(np.array, curves)
    assert wide[-1] < 0.6 * wide[0]
    # Ten layers, each of which rounds by 2^-9 forward and backward: sqrt(20) 2^-9 of the loss at
    # the start, and no more of it in the end than the curves of two seeds differ.
    np.testing.assert_allclose(mixed_curve, wide, atol=20**0.5 * 2**-9 * wide[0])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "nadam"])
def test_weights_of_bfloat16_are_trained(optimizer):
    x, y = pictures(64)
    inner = [layers.Flatten(), layers.Dense(16, "relu", dtype="bfloat16"), layers.Dense(4)]
    model = narae.Sequential([layers.Input((8, 8, 3)), *inner])
    optimizer = narae.optimizers.get(optimizer)
    optimizer.global_clipnorm = None
    optimizer.clipnorm, optimizer.learning_rate = 1.0, 0.01
    loss = narae.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    losses = model.fit(x, y, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert {v.dtype for v in model.trainable_variables} == {"bfloat16", "float32"}
    assert all(v.dtype != "bfloat16" for v in optimizer.variables)


def test_saved_and_loaded(tmp_path, mixed):
    x, y = pictures(64)
    model = classifier()
    model.fit(x, y, epochs=1, verbose=0)
    model.save(tmp_path / "m.keras")
    narae.config.set_dtype_policy(None)
    again = narae.models.load_model(tmp_path / "m.keras")
    assert again.layers[0].compute_dtype == "bfloat16"
    np.testing.assert_array_equal(
        bits(again.predict(x, verbose=0)), bits(model.predict(x, verbose=0))
    )


def test_bfloat16_weights_are_saved(tmp_path):
    h5py = pytest.importorskip("h5py")
    first, second = (
        narae.Sequential([layers.Input((3,)), layers.Dense(4, dtype="bfloat16")]) for _ in range(2)
    )
    first.save_weights(tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5") as file:
        assert file["layers/dense/vars/0"].attrs["dtype"] == "bfloat16"
    second.load_weights(tmp_path / "m.weights.h5")
    for a, b in zip(first.get_weights(), second.get_weights()):
        assert a.dtype == BF16
        np.testing.assert_array_equal(bits(a), bits(b))


@pytest.mark.keras
def test_models_of_keras(tmp_path):
    keras = pytest.importorskip("keras")
    inner = [keras.layers.Dense(8, activation="relu"), keras.layers.LayerNormalization()]
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        parts = [keras.layers.Input((5,)), *inner, keras.layers.Dense(3, dtype="bfloat16")]
        model = keras.Sequential(parts)
    finally:
        keras.config.set_dtype_policy("float32")
    model.save(tmp_path / "m.keras")
    ours, x = narae.models.load_model(tmp_path / "m.keras"), randn((6, 5))
    found, expected = ours(x), model(x)
    assert found.dtype == "bfloat16" == keras.backend.standardize_dtype(expected.dtype)
    for a, b in zip(ours.layers, model.layers, strict=True):
        assert (a.compute_dtype, a.variable_dtype) == (b.compute_dtype, b.variable_dtype)
    expected = np.asarray(expected).astype("float32")
    np.testing.assert_allclose(found.numpy().astype("float32"), expected, atol=2**-5)
    ours.save(tmp_path / "n.keras")
    again = np.asarray(keras.models.load_model(tmp_path / "n.keras")(x)).astype("float32")
    np.testing.assert_array_equal(again, expected)


# ---- Keras's dtypes ----------------------------------------------------------------------------

ONE = """
    abs all any arccos arcsin arcsinh arctan argmax argmin argsort average cbrt ceil cos
    cosh count_nonzero cumprod cumsum diff elu erf exp exp2 expm1 floor gelu glu hard_sigmoid
    hard_silu hard_tanh isfinite isinf isnan leaky_relu log10 log1p log_sigmoid log_softmax
    logical_not logsumexp max mean median min negative norm ones_like prod ravel reciprocal relu
    relu6 round rsqrt selu sigmoid sign silu sin sinh soft_shrink softmax softplus softsign sort
    sqrt square squareplus std sum tan tanh transpose tril triu trunc var zeros_like"""
TWO = """
    add arctan2 divide dot equal floor_divide fmax fmin greater hypot isclose less logaddexp
    logical_and matmul maximum minimum mod multiply not_equal outer power subtract tensordot
    true_divide vdot"""


@pytest.mark.keras
@pytest.mark.parametrize("name", [*ONE.split(), *TWO.split()])
def test_ops_give_keras_dtypes(name):
    keras = pytest.importorskip("keras")
    x = rounded(np.abs(randn((4, 4))) * 0.5 + 0.25)
    arguments = [x] * (2 if name in TWO.split() else 1)
    if not hasattr(ops, name):
        pytest.skip("not an op of narae")
    found, expected = getattr(ops, name)(*arguments), getattr(keras.ops, name)(*arguments)
    # Keras's jax backend computes medians, means ... as it likes: dtypes alone, and values nearby.
    assert str(found.dtype) == keras.backend.standardize_dtype(expected.dtype)
    a, b = found.numpy().astype("float64"), np.asarray(expected).astype("float64")
    np.testing.assert_allclose(a, b, rtol=2**-5, atol=2**-6)


def test_what_attention_keeps_is_not_rounded(isa):
    """2^(score - m) of the backward pass would be off by 2^-9 of m, not of itself."""
    q = ops.cast(randn((2, 9, 2, 16)), "bfloat16")
    y, kept = _core.attention_forward(q.array, q.array, q.array, 0.25)
    wide = ops.cast(q, "float32").array
    _, expected = _core.attention_forward(wide, wide, wide, 0.25)
    assert y.dtype == "bfloat16"
    np.testing.assert_array_equal(kept, expected)
