"""Every backward against finite differences, forwards against loops and identities."""

import math

import numpy as np
import pytest
from helpers import randn
from reference import conv, elementwise, finite_difference, gemm, norm, pool, reduce, softmax


def arrays(args):
    """Shapes become random float64 arrays; arrays and None stay."""
    return [randn(a, "float64", seed=i) if isinstance(a, tuple) else a for i, a in enumerate(args)]


def names(cases):
    return [f"{f.__module__}.{f.__name__}-{i}" for i, (f, *_) in enumerate(cases)]


bools = np.random.default_rng(0).random
BACKWARD = [
    # gemm
    (gemm.matmul, [(3, 4), (4, 5)], {}),
    (gemm.matmul, [(4, 3), (4, 5)], {"transpose_a": True}),
    (gemm.matmul, [(3, 4), (5, 4)], {"transpose_b": True}),
    (gemm.matmul, [(2, 4, 3), (2, 5, 4)], {"transpose_a": True, "transpose_b": True}),
    (gemm.matmul, [(2, 1, 3, 4), (5, 4, 2)], {}),
    (gemm.matmul, [(4,), (2, 4, 3)], {}),
    (gemm.matmul, [(2, 3, 4), (4,)], {}),
    (gemm.matmul, [(4,), (4,)], {}),
    (gemm.dense, [(3, 4), (4, 5), (5,)], {}),
    (gemm.dense, [(2, 3, 4), (4, 1), None], {"activation": "tanh"}),
    (gemm.dense, [(1, 7), (7, 3), (3,)], {"activation": "gelu"}),
    (gemm.einsum, [(2, 3, 4), (4, 5)], {"equation": "abc,cd->abd"}),
    (gemm.einsum, [(2, 3, 4), (3, 2)], {"equation": "abc,bd->da"}),
    # elementwise
    (elementwise.where, [bools((3, 4)) < 0.5, (3, 4), (4,)], {}),
    (elementwise.dropout, [(3, 4), bools((3, 4)) < 0.7], {"rate": 0.3}),
    (elementwise.glu, [(3, 4)], {}),
    (elementwise.glu, [(6, 2)], {"axis": 0}),
    # softmax
    (softmax.softmax, [(3, 5)], {}),
    (softmax.softmax, [(2, 3, 4)], {"axis": 1}),
    (softmax.softmax, [(2, 3, 4)], {"axis": (0, 2)}),
    (softmax.log_softmax, [(3, 1)], {}),
    (softmax.log_softmax, [(4, 3, 2)], {"axis": 0}),
    (softmax.sparsemax, [(3, 6)], {}),
    (softmax.sparsemax, [(5, 3)], {"axis": 0}),
    (softmax.softmax_crossentropy, [(3, 5), (3, 5)], {}),
    (softmax.softmax_crossentropy, [(2, 3, 7), (2, 3, 7)], {}),
    (softmax.sparse_softmax_crossentropy, [(3, 5), np.array([4, 0, 2])], {}),
    (softmax.sparse_softmax_crossentropy, [(2, 2, 3), np.array([[2, 0], [1, 1]])], {}),
    (softmax.sigmoid_crossentropy, [(3, 5), (3, 5)], {}),
    # norm
    (norm.layer_normalization, [(3, 5), (5,), (5,)], {}),
    (norm.layer_normalization, [(2, 3, 4), (3, 4), (3, 4)], {"axis": (-2, -1)}),
    (norm.layer_normalization, [(2, 3, 4), (3,), None], {"axis": 1, "epsilon": 0.1}),
    (norm.layer_normalization, [(2, 7), None, None], {}),
    (norm.batch_normalization_training, [(5, 3), (3,), (3,)], {}),
    (norm.batch_normalization_training, [(2, 3, 4, 3), (3,), None], {}),
    (norm.batch_normalization_training, [(2, 3, 4), (3,), (3,)], {"axis": 1}),
    (norm.batch_normalization_training, [(7, 2), (2,), (2,)], {"mask": bools((7, 1)) < 0.6}),
    (norm.batch_normalization, [(5, 3), (3,), np.array([0.5, 1, 2]), (3,), (3,)], {}),
    (norm.batch_normalization, [(2, 2, 3), (2,), np.ones(2), None, (2,)], {"axis": 1}),
    (norm.group_normalization, [(2, 3, 6), (6,), (6,)], {"groups": 2}),
    (norm.group_normalization, [(2, 3, 2, 4), (4,), None], {"groups": 4}),
    (norm.group_normalization, [(3, 6), None, (6,)], {"groups": 3}),
    (norm.rms_normalization, [(3, 5), (5,)], {}),
    (norm.rms_normalization, [(2, 3, 4), (3, 4)], {"axis": (1, 2)}),
    (norm.rms_normalization, [(2, 3), None], {}),
    # conv
    (conv.conv, [(2, 7, 3), (3, 3, 4), (4,)], {}),
    (conv.conv, [(2, 8, 2), (3, 2, 3), None], {"strides": 2, "padding": "same"}),
    (conv.conv, [(1, 6, 2), (3, 2, 3), None], {"padding": "causal", "dilation": 2}),
    (conv.conv, [(2, 5, 6, 3), (3, 2, 3, 2), (2,)], {"strides": (2, 1), "padding": "same"}),
    (conv.conv, [(1, 7, 5, 4), (2, 3, 2, 6), None], {"dilation": (2, 1)}),
    (conv.conv, [(1, 4, 5, 4), (3, 3, 1, 8), (8,)], {"padding": ((1, 2), (0, 1))}),
    (conv.conv, [(1, 4, 3, 5, 2), (2, 2, 3, 2, 3), (3,)], {"padding": "same"}),
    (conv.depthwise_conv, [(2, 5, 4, 3), (3, 3, 3, 2), (6,)], {"padding": "same"}),
    (conv.depthwise_conv, [(2, 7, 3), (3, 3, 1), None], {"strides": 2}),
    (conv.separable_conv, [(1, 5, 4, 2), (3, 2, 2, 3), (1, 1, 6, 4), (4,)], {"strides": 2}),
    (conv.conv_transpose, [(2, 4, 3), (3, 2, 3), (2,)], {}),
    (conv.conv_transpose, [(2, 3, 3), (2, 2, 3), None], {"strides": 3}),
    (conv.conv_transpose, [(1, 3, 4, 2), (3, 4, 3, 2), (3,)], {"strides": 2, "padding": "same"}),
    (conv.conv_transpose, [(1, 3, 2, 1, 2), (2, 1, 3, 2, 2), None], {"strides": (2, 1, 2)}),
    # pool
    (pool.max_pool, [(2, 7, 3)], {"pool_size": 2}),
    (pool.max_pool, [(2, 5, 6, 2)], {"pool_size": (3, 2), "strides": (2, 1), "padding": "same"}),
    (pool.max_pool, [(1, 4, 3, 5, 2)], {"pool_size": 2, "strides": 1}),
    (pool.average_pool, [(2, 7, 3)], {"pool_size": 3, "strides": 2, "padding": "same"}),
    (pool.average_pool, [(2, 5, 6, 2)], {"pool_size": (3, 2), "padding": "same"}),
    (pool.average_pool, [(1, 4, 3, 5, 2)], {"pool_size": (2, 1, 3)}),
    (pool.global_max_pool, [(2, 5, 3)], {}),
    (pool.global_max_pool, [(2, 3, 4, 3)], {"keepdims": True}),
    (pool.global_average_pool, [(2, 3, 4, 3)], {}),
]

AXES = [{"axis": None}, {"axis": 1}, {"axis": (0, -1), "keepdims": True}]
REDUCTIONS = [reduce.sum, reduce.mean, reduce.prod, reduce.max, reduce.min, reduce.var, reduce.std]
REDUCTIONS += [reduce.logsumexp, reduce.norm, reduce.moments]
BACKWARD += [(f, [(2, 3, 4)], axis) for f in REDUCTIONS for axis in AXES]
BACKWARD += [(reduce.prod, [np.array([[0.0, 2, 3], [0, 0, 1]])], {"axis": 1})]
BACKWARD += [(reduce.norm, [(3, 5)], {"ord": p, "axis": 1}) for p in (1, 3, np.inf, -np.inf)]
BACKWARD += [(f, [(3, 5)], {"axis": a}) for f in (reduce.cumsum, reduce.cumprod) for a in (None, 0)]
BACKWARD += [(reduce.cumprod, [np.array([[2.0, 0, 3, 0, 1]])], {"axis": 1})]


@pytest.mark.parametrize(("f", "args", "params"), BACKWARD, ids=names(BACKWARD))
def test_backward(f, args, params):
    finite_difference.check(f, *arrays(args), **params)


# The stretch of x on which each function is finite and smooth enough; (-3.9, 3.9) for the others.
DOMAIN = dict.fromkeys(["sqrt", "rsqrt", "log", "log2", "log10", "cbrt"], (0.3, 5))
DOMAIN |= dict.fromkeys(["arcsin", "arccos", "arctanh", "erfinv"], (-0.9, 0.9))
DOMAIN |= {"log1p": (-0.7, 4), "arccosh": (1.2, 4), "tan": (-1.3, 1.3), "reciprocal": (0.4, 3)}
PARAMS = {"threshold": [{"threshold": 0.3, "default_value": -2.0}]}
PARAMS |= {"clip": [{"x_min": -1.0, "x_max": 1.5}], "gelu": [{}, {"approximate": True}]}
PARAMS |= {name: [{}, {"alpha": 0.5}] for name in ("elu", "celu")}
PARAMS |= {"leaky_relu": [{}, {"negative_slope": 0.5}], "squareplus": [{}, {"b": 1}]}
PARAMS |= {"relu": [{}, {"negative_slope": 0.1, "max_value": 2.0, "threshold": 0.5}]}
UNARY = [(name, params) for name in elementwise.UNARY for params in PARAMS.get(name, [{}])]


@pytest.mark.parametrize(("name", "params"), UNARY)
def test_unary_backward(name, params):
    x = np.linspace(*DOMAIN.get(name, (-3.9, 3.9)), 46)  # no kink and no multiple of 0.5 on the way
    finite_difference.check(elementwise.unary, x, name=name, **params)


SHAPES = [((3, 4), (3, 4)), ((2, 1, 4), (3, 1)), ((), (5,))]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("name", elementwise.BINARY)
def test_binary_backward(name, shapes):
    a, b = (np.abs(randn(shape, "float64", seed)) + 0.2 for seed, shape in enumerate(shapes))
    finite_difference.check(elementwise.binary, a, b, name=name)


# Forwards against independent definitions.


def agree(y, expected, tolerance=1e-12):
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)


def conv_loops(x, w, strides, before, dilation, outs):
    """One output number at a time, cells outside of x being zero."""
    groups, per_group = x.shape[-1] // w.shape[-2], w.shape[-2]
    y = np.zeros((len(x), *outs, w.shape[-1]))
    for n, *o, f in np.ndindex(*y.shape):
        first = f // (w.shape[-1] // groups) * per_group
        for *k, c in np.ndindex(*w.shape[:-1]):
            cell = [a * s + b * d - p for a, s, b, d, p in zip(o, strides, k, dilation, before)]
            if all(0 <= i < size for i, size in zip(cell, x.shape[1:])):
                y[(n, *o, f)] += x[(n, *cell, first + c)] * w[(*k, c, f)]
    return y


CONV = [  # x, w, strides, dilation, padding, cells before, output size
    ((2, 7, 3), (3, 3, 2), (1,), (1,), "valid", (0,), (5,)),
    ((1, 7, 2), (3, 2, 2), (3,), (1,), "valid", (0,), (2,)),
    ((1, 7, 2), (4, 2, 2), (1,), (1,), "same", (1,), (7,)),
    ((1, 8, 2), (3, 2, 2), (2,), (1,), "same", (0,), (4,)),
    ((1, 7, 2), (3, 2, 2), (2,), (1,), "same", (1,), (4,)),
    ((1, 7, 2), (1, 2, 2), (3,), (1,), "same", (0,), (3,)),
    ((2, 6, 2), (3, 2, 2), (1,), (2,), "causal", (4,), (6,)),
    ((2, 6, 2), (3, 2, 2), (2,), (1,), "causal", (2,), (3,)),
    ((1, 6, 5, 4), (2, 3, 2, 6), (2, 1), (1, 2), "same", (0, 2), (3, 5)),
    ((1, 5, 6, 3), (3, 2, 1, 6), (1, 2), (2, 1), "valid", (0, 0), (1, 3)),
    ((1, 3, 4, 2, 2), (2, 3, 2, 2, 3), (1, 2, 1), (1, 1, 1), "same", (0, 0, 0), (3, 2, 2)),
]


@pytest.mark.parametrize(("x", "w", "strides", "dilation", "padding", "before", "outs"), CONV)
def test_conv(x, w, strides, dilation, padding, before, outs):
    x, w = arrays([x, w])
    y = conv.conv(x, w, None, strides, padding, dilation)
    agree(y, conv_loops(x, w, strides, before, dilation, outs))


def test_depthwise_conv_is_one_conv_per_channel():
    x, w = arrays([(2, 5, 4, 3), (3, 2, 3, 2)])
    each = [conv.conv(x[..., c : c + 1], w[..., c : c + 1, :], strides=2) for c in range(3)]
    agree(conv.depthwise_conv(x, w, strides=2), np.concatenate(each, -1))


# size, kernel, stride, padding, output_padding -> output size in Keras
TRANSPOSE = [
    (4, 3, 1, "valid", None, 6),
    (4, 3, 2, "valid", None, 9),
    (4, 2, 3, "valid", None, 12),
    (4, 3, 2, "valid", 1, 10),
    (4, 3, 2, "same", None, 8),
    (4, 2, 2, "same", None, 8),
    (4, 5, 3, "same", None, 12),
    (4, 2, 3, "same", None, 12),
    (4, 3, 2, "same", 0, 7),
    (4, 3, 2, "same", 1, 8),
]


@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "extra", "out"), TRANSPOSE)
def test_conv_transpose(size, kernel, stride, padding, extra, out):
    x, w = arrays([(2, size, 3), (kernel, 2, 3)])
    y = conv.conv_transpose(x, w, None, stride, padding, extra)
    assert y.shape == (2, out, 2)
    before, _ = conv.transpose_extent(size, kernel, stride, 1, padding, extra)
    expected = np.zeros_like(y)
    for i, k in np.ndindex(size, kernel):
        if 0 <= i * stride + k - before < out:
            expected[:, i * stride + k - before] += x[:, i] @ w[k].T
    agree(y, expected)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("size", "kernel", "stride"), [(9, 3, 1), (8, 4, 2), (8, 2, 2), (6, 3, 3)])
def test_conv_transpose_is_the_adjoint_of_conv(size, kernel, stride, padding):
    x, w = arrays([(2, size, 2), (kernel, 2, 3)])
    dy = randn(conv.conv(x, w, None, stride, padding).shape, "float64")
    dx = conv.conv_backward(dy, x, w, None, stride, padding)[0]
    agree(conv.conv_transpose(dy, w, None, stride, padding), dx)


POOL = [((2, 7, 3), (2,), (2,), (0,), "valid"), ((2, 7, 3), (3,), (2,), (1,), "same")]
POOL += [((1, 5, 6, 2), (3, 2), (2, 1), (1, 0), "same"), ((1, 4, 3), (5,), (1,), (2,), "same")]


@pytest.mark.parametrize(("x", "pool_size", "strides", "before", "padding"), POOL)
def test_pool(x, pool_size, strides, before, padding):
    (x,) = arrays([x])
    largest = pool.max_pool(x, pool_size, strides, padding)
    average = pool.average_pool(x, pool_size, strides, padding)
    for n, *o, c in np.ndindex(*largest.shape):
        starts = [a * s - p for a, s, p in zip(o, strides, before)]
        spans = [slice(max(a, 0), a + k) for a, k in zip(starts, pool_size)]
        window = x[(n, *spans, c)]
        assert largest[(n, *o, c)] == window.max()
        agree(average[(n, *o, c)], window.mean())


def test_max_pool_gives_a_tie_to_the_first():
    dx = pool.max_pool_backward(np.ones((1, 2, 1)), np.ones((1, 4, 1)), 2)
    assert dx.ravel().tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("shift", [0.0, 1e3, -1e3])  # exp overflows or vanishes unless shifted
def test_softmax(shift):
    x = randn((3, 5), "float64")
    expected = np.array([[math.exp(v) / sum(map(math.exp, row)) for v in row] for row in x])
    agree(softmax.softmax(x + shift), expected, 1e-10)
    agree(softmax.log_softmax(x + shift), np.log(expected), 1e-10)
    labels = np.array([1, 4, 0])
    loss = softmax.sparse_softmax_crossentropy(x + shift, labels)
    agree(loss, -np.log(expected[range(3), labels]), 1e-10)


def test_sigmoid_crossentropy():
    x, t = randn((3, 5), "float64"), bools((3, 5))
    p = 1 / (1 + np.exp(-x))
    agree(softmax.sigmoid_crossentropy(x, t), -t * np.log(p) - (1 - t) * np.log(1 - p))
    assert softmax.sigmoid_crossentropy(np.array([1e3, -1e3]), np.array([1.0, 1.0])).tolist() == [
        0,
        1000,
    ]


def test_sparsemax_is_the_nearest_point_of_the_simplex():
    x = randn((4, 6), "float64")
    y = softmax.sparsemax(x)
    agree(y.sum(-1), np.ones(4))
    for other in np.random.default_rng(1).dirichlet(np.full(6, 0.3), 200):
        assert (((y - x) ** 2).sum(-1) <= ((other - x) ** 2).sum(-1)).all()


def test_norm_by_loops():
    x, gamma, beta = arrays([(4, 5, 6), (6,), (6,)])

    def expected(n, t, c, cells):
        mean = sum(cells) / len(cells)
        var = sum((cell - mean) ** 2 for cell in cells) / len(cells)
        return gamma[c] * (x[n, t, c] - mean) / math.sqrt(var + 1e-3) + beta[c]

    layer = norm.layer_normalization(x, gamma, beta)
    batch = norm.batch_normalization_training(x, gamma, beta)
    group = norm.group_normalization(x, gamma, beta, groups=3)
    instance = norm.group_normalization(x, gamma, beta, groups=6)
    for n, t, c in np.ndindex(*x.shape):
        pair = slice(c // 2 * 2, c // 2 * 2 + 2)
        agree(layer[n, t, c], expected(n, t, c, x[n, t]))
        agree(batch[n, t, c], expected(n, t, c, x[:, :, c].ravel()))
        agree(group[n, t, c], expected(n, t, c, x[n, :, pair].ravel()))
        agree(instance[n, t, c], expected(n, t, c, x[n, :, c]))


def test_norm_identities():
    x, gamma, beta = arrays([(4, 5, 6), (6,), (6,)])
    trained = norm.batch_normalization_training(x, gamma, beta)
    mean, variance = reduce.moments(x, (0, 1))
    agree(norm.batch_normalization(x, mean, variance, gamma, beta), trained)
    mask = bools((4, 5, 1)) < 0.6
    masked = norm.batch_normalization_training(x, mask=mask)
    agree(masked[mask[..., 0]], norm.batch_normalization_training(x[mask[..., 0]]))
    centred = x - x.mean(-1, keepdims=True)
    agree(norm.rms_normalization(centred, epsilon=1e-3), norm.layer_normalization(x))


@pytest.mark.parametrize("name", ["float16", "float32"])
def test_references_compute_in_float64(name):
    x = randn((3, 5), name)
    assert softmax.softmax(x).dtype == np.float64
    agree(softmax.softmax(x), softmax.softmax(x.astype("float64")))
