"""Convolutions against the reference on every instruction set, and against Keras."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import ml_dtypes  # noqa: F401 - NumPy then knows bfloat16 by name
import numpy as np
import pytest

from helpers import assert_close, randn
from narae import _core, ops
from narae.engine import (
    GradientTape,
    KerasTensor,
    Variable,
    convert_to_tensor,
    grad,
    value_and_grad,
)
from reference import conv as reference
from reference import winograd


def check(op, name, *arrays, dtype="float32", **options):
    """Forward and all gradients of op(*arrays, **options) against reference.<name>."""
    forward, backward = getattr(reference, name), getattr(reference, f"{name}_backward")
    arrays = [None if a is None else a.astype(dtype) for a in arrays]
    sizes = [None if a is None else np.abs(a) for a in arrays]
    tensors = [None if a is None else convert_to_tensor(a) for a in arrays]
    watched = [t for t in tensors if t is not None]
    with GradientTape() as tape:
        tape.watch(watched)
        y = op(*tensors, options)
    assert y.dtype == dtype
    dy = randn(y.shape, dtype, seed=9)
    scale, scales = forward(*sizes, **options), backward(np.abs(dy), *sizes, **options)
    way, padding = winograd_way(name, *arrays[:2], options), options.get("padding", "valid")
    if way == "tiles":
        scale = np.maximum(scale, winograd.conv(*sizes[:2], padding, np.abs))
        terms = winograd.conv_backward(dy, *sizes[:2], padding, np.abs)
        scales = [*map(np.maximum, scales, terms), *scales[2:]]
    elif way == "tiles of blocks":
        plan = np.broadcast_to(options["strides"], arrays[0].ndim - 2), padding, np.abs
        scale = np.maximum(scale, winograd.strided_conv(*sizes[:2], *plan))
        terms = winograd.strided_filter_gradient(dy, *sizes[:2], *plan)
        scales = [scales[0], np.maximum(scales[1], terms), *scales[2:]]
    assert_close(y.numpy(), forward(*arrays, **options), "conv", scale)
    got = tape.gradient(y, watched, output_gradients=convert_to_tensor(dy))
    expected = [g for g in backward(dy, *arrays, **options) if g is not None]
    assert_close([g.numpy() for g in got], expected, "conv", [g for g in scales if g is not None])


WINOGRAD = [(3, 3), (4, 4), (5, 5), (1, 3), (1, 5), (3,), (5,)]


def winograd_way(name, x, w, options):
    """How the kernel may go by Winograd's algorithm, whose errors are relative to its terms."""
    if name != "conv" or w.shape[-2] != x.shape[-1] or options.get("dilation", 1) != 1:
        return None
    strides = np.broadcast_to(options.get("strides", 1), x.ndim - 2)
    steps = tuple(-(-k // s) for k, s in zip(w.shape[:-2], strides))
    if steps not in WINOGRAD:
        return None
    return "tiles" if max(strides) == 1 else "tiles of blocks"


def _renamed(options):
    return {"dilation_rate" if k == "dilation" else k: v for k, v in options.items()}


def run_conv(x, w, b, options):
    return ops.conv(x, w, bias=b, **_renamed(options))


def run_depthwise(x, w, b, options):
    options = {"dilation_rate" if k == "dilation" else k: v for k, v in options.items()}
    return ops.depthwise_conv(x, w, bias=b, **options)


def run_transpose(x, w, b, options):
    options = {"dilation_rate" if k == "dilation" else k: v for k, v in options.items()}
    return ops.conv_transpose(x, w, bias=b, **options)


STEPS = [(1, 1), (2, 1), (1, 2), (3, 2), (2, 3), (4, 6)]  # (strides, dilation)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("strides", "dilation"), STEPS)
@pytest.mark.parametrize(
    ("size", "kernel"),
    [((15,), (3,)), ((13, 14), (3, 2)), ((7, 8, 9), (1, 2, 2)), ((6, 5), (1, 1))],
)
def test_conv(isa, size, kernel, strides, dilation, padding, dtype):
    x, w, b = randn((2, *size, 3)), randn((*kernel, 3, 5)), randn(5)
    options = {"strides": strides, "padding": padding, "dilation": dilation}
    check(run_conv, "conv", x, w, b, dtype=dtype, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", [1, 2, 17, 80])
@pytest.mark.parametrize("filters", [1, 2, 3, 4, 15, 16, 17, 33])
def test_conv_channels(isa, channels, filters, dtype):
    x, w = randn((3, 7, 6, channels)), randn((3, 3, channels, filters))
    check(run_conv, "conv", x, w, None, dtype=dtype, padding="same")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("filters", range(1, 10))
def test_few_filters(isa, filters, dtype):
    """Vectors run over channels, boxes of positions are cut in both directions."""
    x, w, b = randn((2, 9, 60, 20)), randn((2, 3, 20, filters)), randn(filters)
    check(run_conv, "conv", x, w, b, dtype=dtype)
    check(run_conv, "conv", x, w, b, dtype=dtype, strides=(2, 1), padding="same")
    check(run_transpose, "conv_transpose", x, randn((3, 2, filters, 20)), b, dtype=dtype, strides=2)
    groups = randn((2, 3, 10, 2 * filters)), randn(2 * filters)
    check(run_conv, "conv", x, *groups, dtype=dtype, strides=(1, 2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", [5, 8, 17, 40])
@pytest.mark.parametrize("filters", [7, 16, 33])
@pytest.mark.parametrize("size", [(5,), (21, 40), (3, 9, 31)])
def test_pointwise(isa, size, channels, filters, dtype):
    x, w, b = (
        randn((2, *size, channels)),
        randn((*(1,) * len(size), channels, filters)),
        randn(filters),
    )
    check(run_conv, "conv", x, w, b, dtype=dtype)


@pytest.mark.parametrize("kernel", WINOGRAD)
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_winograd_reference(kernel, padding):
    x, w = randn((2, *(9, 11)[: len(kernel)], 3), "float64"), randn((*kernel, 3, 4), "float64")
    y = reference.conv(x, w, padding=padding)
    np.testing.assert_allclose(winograd.conv(x, w, padding), y, rtol=0, atol=1e-12)
    dy = randn(y.shape, "float64")
    for actual, expected in zip(
        winograd.conv_backward(dy, x, w, padding),
        reference.conv_backward(dy, x, w, padding=padding),
    ):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-11)


STRIDED = [((7, 7), (2, 2)), ((6, 5), (2, 2)), ((5, 9), (1, 3)), ((10, 8), (3, 2))]


@pytest.mark.parametrize(("kernel", "strides"), STRIDED)
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_strided_winograd_reference(kernel, strides, padding):
    x, w = randn((2, 16, 19, 3), "float64"), randn((*kernel, 3, 4), "float64")
    y = reference.conv(x, w, strides=strides, padding=padding)
    terms = winograd.strided_conv(x, w, strides, padding)
    np.testing.assert_allclose(terms, y, rtol=0, atol=1e-11)
    dy = randn(y.shape, "float64")
    expected = reference.conv_backward(dy, x, w, strides=strides, padding=padding)[1]
    actual = winograd.strided_filter_gradient(dy, x, w, strides, padding)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("padding", ["valid", "same", ((0, 4), (3, 1))])
@pytest.mark.parametrize(("kernel", "strides"), STRIDED)
@pytest.mark.parametrize(
    ("N", "size", "channels", "filters"), [(2, (43, 50), 3, 64), (1, (31, 37), 20, 41)]
)
def test_strided_winograd(isa, N, size, channels, filters, kernel, strides, padding, dtype):
    x, w = randn((N, *size, channels)), randn((*kernel, channels, filters))
    x *= 10 ** np.random.default_rng(1).uniform(-2, 2, x.shape)
    options = {"padding": padding, "strides": strides}
    check(run_conv, "conv", x, w, randn(filters), dtype=dtype, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("op", "name", "size", "kernel", "options"),
    [
        (run_conv, "conv", (32, 32), (1, 3), {"strides": (2, 1)}),
        (run_conv, "conv", (2, 20, 20), (1, 3, 3), {"strides": (2, 1, 1)}),
        (run_conv, "conv", (100,), (3,), {"strides": 2, "dilation": 2}),
        (run_transpose, "conv_transpose", (20, 20), (3, 3), {"strides": 2, "dilation": 2}),
        (run_transpose, "conv_transpose", (20, 20), (1, 5), {"strides": (3, 1)}),
    ],
)
def test_phases_of_strided_gradients_are_no_tiles(isa, op, name, size, kernel, options, dtype):
    """Taps of stride 1 that Winograd's algorithm has, but outputs that lie a stride apart."""
    x, w = randn((2, *size, 48)), randn((*kernel, 48, 48))
    check(op, name, x, w, randn(48), dtype=dtype, padding="same", **options)


def test_strided_winograd_is_chosen(isa):
    """A value that is not finite spreads over a tile, beyond the 4 x 4 outputs that see it."""
    x, w = randn((2, 43, 50, 3)), randn((7, 7, 3, 64))
    x[0, 17, 18, 1] = np.nan
    y = ops.conv(x, w, strides=2, padding="same").numpy()
    assert np.isnan(y[0, :, :, 0]).sum() == 36 and not np.isnan(y[1]).any()


def test_large_outputs_past_the_caches(isa):
    """16 MB are streamed; the bits are those of smaller batches, which are not."""
    x, w = randn((22, 60, 60, 16)), randn((3, 3, 16, 64))
    y = ops.conv(x, w, bias=randn(64), padding="same").numpy()
    for part in (slice(0, 11), slice(11, 22)):
        expected = ops.conv(x[part], w, bias=randn(64), padding="same").numpy()
        np.testing.assert_array_equal(y[part], expected)


# Sizes below, at and above a tile, a register and a block of channels, few tiles and many.
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("kernel", WINOGRAD)
@pytest.mark.parametrize(
    ("N", "size", "channels", "filters"),
    [(1, (9, 8), 16, 16), (2, (13, 14), 17, 40), (5, (12, 21), 33, 65), (1, (16, 15), 130, 129)],
)
def test_winograd(isa, N, size, channels, filters, kernel, padding, dtype):
    size = size if len(kernel) == 2 else (size[0] * size[1],)
    x, w = randn((N, *size, channels)), randn((*kernel, channels, filters))
    x *= 10 ** np.random.default_rng(1).uniform(-2, 2, x.shape)  # a tile holds large and small
    check(run_conv, "conv", x, w, randn(filters), dtype=dtype, padding=padding)


def test_winograd_in_large_blocks(isa):
    """A filter too large to be shared by the chunks; the other one has many."""
    x, w = randn((11, 8, 7, 300)), randn((3, 3, 300, 330))
    check(run_conv, "conv", x, w, None, padding="same")
    x, w = randn((40, 8, 7, 70)), randn((3, 3, 70, 90))
    check(run_conv, "conv", x, w, None, padding="same")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_winograd_keeps_what_is_not_finite(isa, value):
    """Outputs that see the value are not finite, those two tiles away do not change."""
    x, w = randn((1, 32, 32, 32)), randn((3, 3, 32, 32))
    expected = ops.conv(x, w, padding="same").numpy()
    x[0, 13, 17, 5] = value
    y = ops.conv(x, w, padding="same").numpy()
    assert not np.isfinite(y[0, 12:15, 16:19]).any()
    far = np.ones((32, 32), bool)
    far[8:20, 12:24] = False
    np.testing.assert_array_equal(y[0, far], expected[0, far])
    assert not np.isfinite(y[0, 12:16, 16:20]).any(), "this shape does not go by Winograd any more"


@pytest.mark.parametrize(
    ("channels", "filters", "groups"), [(4, 6, 2), (6, 3, 3), (34, 36, 2), (5, 5, 5), (3, 9, 3)]
)
@pytest.mark.parametrize("strides", [1, 2])
def test_conv_groups(isa, channels, filters, groups, strides):
    x, w = randn((2, 7, 9, channels)), randn((3, 2, channels // groups, filters))
    check(run_conv, "conv", x, w, randn(filters), strides=strides, padding="same")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("x", "kernel", "options"),
    [
        ((1, 4, 4, 170), (3, 3), {"padding": "same"}),
        ((2, 5, 7, 170), (3, 3), {"padding": "same", "strides": 2}),
        ((3, 9, 300), (5,), {"dilation": 2}),
        ((1, 3, 2, 5, 70), (2, 2, 6), {"padding": "same", "strides": (1, 2, 3)}),
        ((0, 4, 4, 170), (3, 3), {}),
    ],
)
def test_conv_of_few_positions(isa, x, kernel, options, dtype):
    """Large filters are read where they lie."""
    x, w = randn(x), randn((*kernel, x[-1], 180))
    assert w.size >= 1 << 18
    check(run_conv, "conv", x, w, randn(180), dtype=dtype, **options)
    y = ops.conv(x, w, bias=randn(180), **_renamed(options))
    capped = ops.conv(x, w, bias=randn(180), activation="relu", **_renamed(options))
    np.testing.assert_array_equal(capped.numpy(), np.maximum(y.numpy(), 0))


def test_conv_of_one_tap(isa):
    """A single tap reads the image itself: several boxes, images and groups, some channels."""
    x, w = randn((5, 21, 30, 12)), randn((1, 1, 6, 40))
    check(run_conv, "conv", x, w, randn(40), strides=(2, 3))
    x, w = randn((3, 9, 8, 700)), randn((1, 1, 700, 33))
    check(run_conv, "conv", x, w, None, strides=2, padding="same")


def test_conv_paddings(isa):
    x, w = randn((2, 11, 4)), randn((3, 4, 5))
    check(run_conv, "conv", x, w, randn(5), padding="causal", dilation=2)
    check(run_conv, "conv", x, w, randn(5), padding=((5, 0),), strides=2)
    x, w = randn((1, 4, 5, 2)), randn((3, 3, 2, 3))
    check(run_conv, "conv", x, w, None, padding=((0, 7), (4, 1)))


@pytest.mark.parametrize(
    ("x", "w", "strides", "dilation"),
    [
        ((1, 5000, 1), (1500, 1, 3), 1, 1),  # more taps than one chunk takes
        ((1, 120000, 1), (3, 1, 3), 1, 50000),  # a reach wider than a patch may be
        ((1, 60, 60, 2), (40, 40, 2, 3), 9, 1),
        ((2, 40, 700), (3, 700, 9), 1, 1),  # many channels
        ((1, 3000, 20), (1500, 20, 2), 2, 1),  # many taps, few filters
        ((40, 1, 1, 20), (3, 3, 20, 20), 1, 1),  # many images of one cell
        ((1, 300, 2, 3), (2, 2, 3, 4), 5, 1),
    ],
)
def test_conv_that_is_cut(isa, x, w, strides, dilation):
    options = {"strides": strides, "padding": "same", "dilation": dilation}
    check(run_conv, "conv", randn(x), randn(w), None, **options)
    w = (*w[:-2], x[-1], 1)
    check(run_depthwise, "depthwise_conv", randn(x), randn(w), None, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("strides", "dilation"), STEPS)
@pytest.mark.parametrize(("channels", "multiplier"), [(2, 1), (16, 1), (17, 2), (70, 1), (5, 3)])
def test_depthwise(isa, channels, multiplier, strides, dilation, dtype):
    x, w = randn((2, 13, 14, channels)), randn((3, 2, channels, multiplier))
    b = randn(channels * multiplier)
    options = {"strides": strides, "padding": "same", "dilation": dilation}
    check(run_depthwise, "depthwise_conv", x, w, b, dtype=dtype, **options)


@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("taps", [1, 2, 3, 4, 5, 7])  # along a row, in runs of three
def test_depthwise_taps(isa, taps, strides):
    for width in (7, 8, 9, 18, 35):
        x, w = randn((2, 6, width, 20)), randn((2, taps, 20, 1))
        check(run_depthwise, "depthwise_conv", x, w, None, strides=strides, padding="same")


@pytest.mark.parametrize(("strides", "touched"), [(1, [1, 2]), (2, [1])])
def test_depthwise_gradient_of_infinity(isa, strides, touched):
    # The last cell is read by the taps that have an output there, not by those of one beyond.
    x, w = np.ones((1, 1, 7, 20), "float32"), convert_to_tensor(np.ones((1, 3, 20, 1), "float32"))
    x[:, :, -1] = np.inf
    dw = grad(lambda w: ops.sum(ops.depthwise_conv(x, w, strides=strides, padding="same")))(w)
    finite = np.isfinite(dw.numpy())[0, :, :, 0].all(axis=1)
    assert [k for k in range(3) if not finite[k]] == touched


@pytest.mark.parametrize("size", [(9,), (5, 6), (4, 3, 5)])
def test_separable(isa, size):
    rank = len(size)
    w, p = randn((*(3, 2, 2)[:rank], 4, 2)), randn((*(1,) * rank, 8, 5))

    def run(x, w, p, b, options):
        return ops.separable_conv(x, w, p, bias=b, **options)

    x = randn((2, *size, 4))
    check(run, "separable_conv", x, w, p, randn(5), strides=2, padding="same", dtype="float64")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("strides", "dilation", "output_padding"),
    [(1, 1, None), (2, 1, None), (3, 1, 1), (2, 1, 0), (1, 2, None), (2, 1, 1), (5, 1, None)],
)
@pytest.mark.parametrize("size", [(6,), (5, 4), (3, 4, 2)])
def test_conv_transpose(isa, size, strides, dilation, output_padding, padding, dtype):
    x, w = randn((2, *size, 4)), randn((*(3, 2, 4)[: len(size)], 5, 4))
    options = {"strides": strides, "padding": padding, "dilation": dilation}
    options["output_padding"] = output_padding
    check(run_transpose, "conv_transpose", x, w, randn(5), dtype=dtype, **options)


def test_channels_first():
    x, w, b = randn((2, 3, 8, 9)), randn((3, 3, 3, 5)), randn(5)
    last = np.moveaxis(x, 1, -1)
    for f, kernel in [
        (ops.conv, w),
        (ops.depthwise_conv, w),
        (ops.conv_transpose, randn((2, 2, 5, 3))),
    ]:
        b = randn(15) if f is ops.depthwise_conv else randn(5)
        y = f(x, kernel, strides=2, bias=b, data_format="channels_first")
        expected = f(last, kernel, strides=2, bias=b).numpy()
        np.testing.assert_array_equal(y.numpy(), np.moveaxis(expected, -1, 1))


def test_second_derivatives():
    x, w = convert_to_tensor(randn((1, 5, 5, 2), "float64")), randn((3, 3, 2, 3), "float64")
    w = convert_to_tensor(w)

    def f(x, w):  # cubic in each, so that no derivative vanishes
        y = ops.conv(x, w, padding="same", strides=2)
        return ops.sum(y * y * y)

    def directional(x, w):
        dx, dw = grad(f)(x, w)
        return ops.sum(dx * dx) + ops.sum(dw * dw)

    dx, dw = grad(directional)(x, w)
    step = 1e-5
    for tensor, gradient in [(x, dx), (w, dw)]:
        at = (0, 2, 1, 1) if tensor is x else (1, 1, 0, 2)
        values = []
        for sign in (1, -1):
            moved = tensor.numpy().copy()
            moved[at] += sign * step
            pair = (moved, w) if tensor is x else (x, moved)
            values.append(float(directional(*pair)))
        slope = (values[0] - values[1]) / (2 * step)
        np.testing.assert_allclose(gradient.numpy()[at], slope, rtol=1e-5)


def test_first_layer_has_no_input_gradient(monkeypatch):
    x, w = randn((1, 5, 5, 2)), Variable(randn((3, 3, 2, 3)))

    def refuse(*_):
        raise AssertionError("an input gradient that nobody wants")

    monkeypatch.setattr(_core, "conv_input_gradient", refuse)
    with GradientTape() as tape:
        y = ops.conv(x, w)
    assert tape.gradient(y, [w])[0].shape == w.shape


def test_activation():
    x, w, b = randn((2, 6, 6, 3)), randn((3, 3, 3, 4)), randn(4)
    plain = ops.conv(x, w, bias=b).numpy()
    np.testing.assert_array_equal(
        ops.conv(x, w, bias=b, activation="relu").numpy(), np.maximum(plain, 0)
    )
    np.testing.assert_array_equal(ops.conv(x, w, bias=b, activation=ops.negative).numpy(), -plain)


@pytest.mark.parametrize("shape", [(0, 6, 6, 3), (2, 6, 6, 0)])
def test_empty(isa, shape):
    w = randn((3, 3, max(shape[-1], 0), 4))
    if shape[-1] == 0:
        with pytest.raises(ValueError, match="in_channels"):
            ops.conv(randn(shape), w)
        return
    w = Variable(w)
    with GradientTape() as tape:
        y = ops.conv(randn(shape), w)
    assert y.shape == (0, 4, 4, 4)
    np.testing.assert_array_equal(tape.gradient(y, [w])[0].numpy(), 0 * w.numpy())


def test_threads_give_the_same_bits(isa):
    x, w = randn((5, 15, 17, 20)), randn((3, 3, 20, 40))
    d, large = randn((3, 3, 20, 1)), randn((9, 16, 16, 80))
    u, p = randn((3, 3, 80, 70)), randn((1, 1, 80, 70))
    results = []
    before = _core.num_threads()
    for threads in (1, 2, 5):
        _core.set_num_threads(threads)
        f = value_and_grad(lambda x, w: ops.sum(ops.conv(x, w, strides=2) ** 2))
        g = value_and_grad(lambda x, w: ops.sum(ops.depthwise_conv(x, w) ** 2))
        h = value_and_grad(lambda x, w: ops.sum(ops.conv(x, w, padding="same") ** 2))
        calls = f(x, w), g(x, d), h(large, u), h(large, p)
        results.append([t.numpy() for v, (a, b) in calls for t in (v, a, b)])
    _core.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other):
            np.testing.assert_array_equal(a, b)


def test_symbolic():
    x, w = KerasTensor((None, None, 9, 3)), randn((3, 3, 3, 8))
    assert ops.conv(x, w, strides=2, padding="same").shape == (None, None, 5, 8)
    assert ops.conv_transpose(x, randn((2, 2, 4, 3)), strides=2).shape == (None, None, 18, 4)


BAD = [
    (lambda: ops.conv(randn((2, 5, 5, 3)), randn((3, 3, 4, 8))), "in_channels equal to"),
    (lambda: ops.conv(randn((2, 5, 5, 4)), randn((3, 3, 2, 3))), "in as many groups"),
    (lambda: ops.conv(randn((2, 5, 5, 3)), randn((6, 3, 3, 8))), "at least as large as the window"),
    (lambda: ops.conv(randn((2, 5, 5, 3)), randn((3, 3, 8))), "kernel of shape"),
    (lambda: ops.conv(randn((2, 5)), randn((3, 3, 8))), "one to three spatial axes"),
    (lambda: ops.conv(randn((2, 5, 3)), randn((3, 3, 8)), strides=0), "strides to be a positive"),
    (lambda: ops.conv(randn((2, 5, 3)), randn((3, 3, 8)), strides=(1, 2)), "tuple of 1"),
    (lambda: ops.conv(randn((2, 5, 3)), randn((3, 3, 8)), dilation_rate=-1), "dilation_rate"),
    (lambda: ops.conv(randn((2, 5, 3)), randn((3, 3, 8)), dilation_rate=2.5), "dilation_rate"),
    (lambda: ops.conv(randn((2, 5, 3)), randn((3, 3, 8)), padding="full"), "padding"),
    (lambda: ops.conv(randn((2, 5, 3)), randn((3, 3, 8)), padding=[(-1, 0)]), "padding"),
    (lambda: ops.conv(randn((2, 5, 3)), randn((3, 3, 8)), data_format="NHWC"), "data_format"),
    (lambda: ops.conv(randn((2, 5, 3)), randn((3, 3, 8)), bias=randn(3)), r"bias of shape \(8,\)"),
    (lambda: ops.conv(randn((2, 5, 3)), randn((0, 3, 8))), "kernel of shape"),
    (lambda: ops.depthwise_conv(randn((2, 5, 3)), randn((3, 4, 8))), "as many channels"),
    (lambda: ops.conv_transpose(randn((2, 5, 3)), randn((3, 8, 4))), "on its last axis"),
    (lambda: ops.conv_transpose(randn((2, 5, 3)), randn((3, 8, 3)), padding="causal"), "padding"),
    (
        lambda: ops.conv_transpose(randn((2, 5, 3)), randn((3, 8, 3)), output_padding=1),
        "output_padding less than strides",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert str(error.value).startswith("narae.ops.") and "Received: " in str(error.value)


BFLOAT16 = [  # by Winograd's algorithm, in pairs where the channels are even; directly
    ((3, 7, 9, 18), (3, 3, 18, 40), {"padding": "same"}),
    ((2, 11, 10, 64), (3, 3, 64, 33), {}),
    ((2, 13, 12, 34), (5, 5, 34, 32), {"padding": "same"}),
    ((2, 16, 12, 131), (3, 3, 131, 70), {"padding": "same"}),
    ((2, 8, 8, 516), (3, 3, 516, 64), {"padding": "same"}),
    ((3, 90, 20), (3, 20, 48), {"padding": "same"}),
    ((2, 9, 9, 12), (3, 3, 12, 20), {"strides": 2, "padding": "same"}),
    ((2, 9, 9, 12), (3, 3, 6, 20), {"strides": 1}),
    ((2, 9, 8, 5), (3, 3, 5, 7), {"strides": (2, 1), "padding": "same"}),
    ((2, 6, 5, 33), (1, 1, 33, 20), {}),
]


@pytest.mark.parametrize(("x_shape", "w_shape", "options"), BFLOAT16)
def test_bfloat16(isa, x_shape, w_shape, options):
    """Sums of float32, rounded once. Winograd's operands U and V are rounded too, each by half of
    EPS: that much of its terms in absolute values at most, 2 % of y where signs are random."""
    x, w, b = (randn(s, "bfloat16", i) for i, s in enumerate((x_shape, w_shape, w_shape[-1:])))
    xw, ww, bw = (a.astype("float64") for a in (x, w, b))
    tensors = [convert_to_tensor(a) for a in (x, w, b)]
    with GradientTape() as tape:
        tape.watch(tensors)
        y = ops.conv(tensors[0], tensors[1], bias=tensors[2], **options)
    dy = randn(y.shape, "bfloat16", seed=9)
    got = [y, *tape.gradient(y, tensors, output_gradients=convert_to_tensor(dy))]
    dyw = dy.astype("float64")
    expected = [reference.conv(xw, ww, bw, **options)]
    expected += reference.conv_backward(dyw, xw, ww, bw, **options)
    sizes = [np.abs(a) for a in (xw, ww, bw)]
    scales = [reference.conv(*sizes, **options)]
    scales += reference.conv_backward(np.abs(dyw), *sizes, **options)
    if winograd_way("conv", xw, ww, options) == "tiles":
        padding, rounded = options.get("padding", "valid"), 2.0**-7 / (8 * 2.0**-23)
        terms = [winograd.conv(*sizes[:2], padding, np.abs)]
        terms += winograd.conv_backward(dyw, *sizes[:2], padding, np.abs)
        scales = [s + rounded * t for s, t in zip(scales, [*terms, 0])]
    for found, e, scale in zip(got, expected, scales, strict=True):
        assert found.dtype == "bfloat16"
        found = found.numpy()
        assert_close(found, e, "conv", scale)
        error = np.sqrt(np.mean((found.astype("float64") - e) ** 2) / np.mean(e**2))
        assert error < 0.02


def test_activations_of_bfloat16(isa):
    """After the sums, before or after they are rounded."""
    x, w = randn((2, 16, 16, 64), "bfloat16"), randn((3, 3, 64, 40), "bfloat16", seed=1)
    plain = ops.conv(x, w, padding="same").numpy()
    y = _core.conv_forward(x, w, [16, 16], [1, 1], [1, 1], [1, 1], None, "relu")
    np.testing.assert_array_equal(y, np.maximum(plain, 0))


@pytest.mark.keras
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("strides", "dilation"), [(1, 1), (2, 1), (1, 2), ((2, 1), 1), (2, 2)])
def test_keras_conv(strides, dilation, padding):
    keras = pytest.importorskip("keras")
    x, options = randn((2, 9, 8, 4)), {"strides": strides, "padding": padding}
    for name, w in [
        ("conv", randn((3, 2, 4, 6))),
        ("conv", randn((3, 2, 2, 6))),
        ("depthwise_conv", randn((3, 2, 4, 2))),
        ("conv_transpose", randn((3, 2, 5, 4))),
    ]:
        both = {**options, "dilation_rate": dilation}
        expected = np.asarray(getattr(keras.ops, name)(x, w, **both))
        np.testing.assert_allclose(getattr(ops, name)(x, w, **both), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.keras
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("strides", "output_padding"), [(1, None), (2, 1), (3, 2), (3, 0), (4, None)]
)
def test_keras_conv_transpose(kernel, strides, output_padding, padding):
    keras = pytest.importorskip("keras")
    x, w = randn((2, 5, 6, 4)), randn((kernel, kernel, 3, 4))
    options = {"strides": strides, "padding": padding, "output_padding": output_padding}
    expected = np.asarray(keras.ops.conv_transpose(x, w, **options))
    actual = ops.conv_transpose(x, w, **options)
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5)
