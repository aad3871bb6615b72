"""Every backward against finite differences, forwards against loops and identities."""

import math

import numpy as np
import pytest

from helpers import assert_close, randn
from reference import (
    attention,
    conv,
    elementwise,
    finite_difference,
    gemm,
    index,
    norm,
    optimizer,
    pool,
    random,
    recurrent,
    reduce,
    shape,
    softmax,
    unary,
)


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
    # unary
    (unary.glu, [(3, 4)], {}),
    (unary.glu, [(6, 2)], {"axis": 0}),
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

QKV = [(2, 3, 4, 2), (2, 5, 2, 2), (2, 5, 2, 3)]  # T = 3, S = 5, four heads on two
BACKWARD += [
    # attention
    (attention.dot_product_attention, [(2, 3, 1, 4), (2, 5, 1, 4), (2, 5, 1, 2), None], {}),
    (attention.dot_product_attention, [*QKV, None], {"causal": True, "scale": 0.3}),
    (attention.dot_product_attention, [*QKV, (4, 1, 5)], {"mask": bools((2, 1, 3, 5)) < 0.5}),
    (attention.dot_product_attention, [*QKV, (2, 1, 3, 5)], {"causal": True}),
    (
        attention.dot_product_attention,
        [(1, 5, 2, 3), (1, 2, 2, 3), (1, 2, 2, 3), None],
        {"causal": True, "keep": bools((1, 2, 5, 2)) < 0.7, "rate": 0.3},
    ),
    # index
    (index.take, [(5, 3), np.array([[4, 0], [4, 4]])], {}),
    (index.take, [(2, 5, 3), np.array([1, 1, 0])], {"axis": 1}),
    (index.take_along_axis, [(3, 4), np.array([[0, 0], [3, 1], [2, 2]])], {"axis": 1}),
    (index.gather, [(3, 4, 2), np.array([[0, 1], [2, 3], [0, 1]])], {}),
    (index.scatter, [np.array([[0, 1], [2, 3], [0, 1]]), (3, 2)], {"shape": (3, 4, 2)}),
    (index.scatter_update, [(4, 3), np.array([[3], [1]]), (2, 3)], {}),
    (index.slice_update, [(4, 5), (2, 3)], {"start": (1, 2)}),
    (index.segment_sum, [(5, 2), np.array([0, 3, 3, 1, 0])], {"count": 4}),
    (index.top_k, [(3, 5)], {"k": 2}),
    (index.sort, [(3, 5)], {}),
    (index.sort, [(3, 5)], {"axis": 0}),
    # shape
    (shape.rearrange, [(2, 3, 4)], {"f": lambda x: x.transpose(2, 0, 1)[::-1, :, 1:]}),
    (shape.rearrange, [(3, 4)], {"f": lambda x: np.pad(x, ((1, 2), (0, 1)))}),
    (shape.rearrange, [(3, 4)], {"f": lambda x: np.pad(x, ((2, 1), (0, 3)), "reflect")}),
    (shape.rearrange, [(3, 4)], {"f": lambda x: np.repeat(np.tril(x), 3, 1)}),
    (shape.concatenate, [(2, 3), (2, 1), (2, 2)], {"axis": 1}),
    (shape.stack, [(2, 3), (2, 3)], {"axis": -1}),
    (shape.split, [(2, 6)], {"sections": 3, "axis": 1}),
    (shape.split, [(5, 2)], {"sections": [1, 4]}),
]

# recurrent: batch 2, 3 steps, 4 features, 3 units
MASK = np.array([[True, False, True], [False, True, False]])
HARD = {"activation": "softsign", "recurrent_activation": "silu"}
LSTM = [(2, 3, 4), (4, 12), (3, 12), (12,), (2, 3), (2, 3)]
GRU = [(2, 3, 4), (4, 9), (3, 9), (2, 9), (2, 3)]
GRU_BEFORE = [(2, 3, 4), (4, 9), (3, 9), (9,), (2, 3)]
BACKWARD += [
    (recurrent.simple_rnn_cell, [(2, 4), (2, 3), (4, 3), (3, 3), (3,)], {}),
    (recurrent.simple_rnn, [(2, 3, 4), (4, 3), (3, 3), (3,), (2, 3)], {}),
    (recurrent.simple_rnn, [(2, 3, 4), (4, 3), (3, 3), None, None], {"mask": MASK}),
    (recurrent.simple_rnn, [(1, 5, 1), (1, 2), (2, 2), (2,), (1, 2)], {"activation": "silu"}),
    (recurrent.lstm_cell, [(2, 4), (2, 3), (2, 3), (4, 12), (3, 12), (12,)], {}),
    (recurrent.lstm, LSTM, {}),
    (recurrent.lstm, LSTM, {"mask": MASK, **HARD}),
    (recurrent.lstm, [*LSTM[:3], None, None, None], {"mask": MASK}),
    (recurrent.gru_cell, [(2, 4), (2, 3), (4, 9), (3, 9), (2, 9)], {}),
    (recurrent.gru, GRU, {}),
    (recurrent.gru, GRU, {"mask": MASK, **HARD}),
    (recurrent.gru, [*GRU[:3], None, None], {}),
    (recurrent.gru, GRU_BEFORE, {"reset_after": False}),
    (recurrent.gru, GRU_BEFORE, {"reset_after": False, "mask": MASK, **HARD}),
    (recurrent.gru, [*GRU[:3], None, (2, 3)], {"reset_after": False}),
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
UNARY = [(name, params) for name in unary.UNARY for params in PARAMS.get(name, [{}])]


@pytest.mark.parametrize(("name", "params"), UNARY)
def test_unary_backward(name, params):
    x = np.linspace(*DOMAIN.get(name, (-3.9, 3.9)), 46)  # no kink and no multiple of 0.5 on the way
    finite_difference.check(unary.unary, x, name=name, **params)


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


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("groups", [4, 2, 1])
def test_attention_by_loops(causal, groups):
    q, k, v = arrays([(2, 5, 4, 3), (2, 4, groups, 3), (2, 4, groups, 2)])
    bias, mask = randn((2, 4, 5, 4), "float64"), bools((2, 4, 5, 4)) < 0.7
    y = attention.dot_product_attention(q, k, v, bias, mask, 0.7, causal)
    for n, t, h in np.ndindex(2, 5, 4):
        g = h * groups // 4
        total, expected = 0, np.zeros(2)
        for s in range(4):
            if mask[n, h, t, s] and (s <= t or not causal):
                p = math.exp(0.7 * sum(q[n, t, h] * k[n, s, g]) + bias[n, h, t, s])
                total, expected = total + p, expected + p * v[n, s, g]
        agree(y[n, t, h], expected / total if total else expected)


def test_attention_identities():
    q, k, v = arrays([(2, 5, 4, 3), (2, 6, 4, 3), (2, 6, 4, 3)])
    agree(attention.dot_product_attention(0 * q, k, v)[:, 0], v.mean(1))
    agree(attention.dot_product_attention(q, k, v, causal=True)[:, 0], v[:, 0])
    padded = np.array([True, True, True, False, False, False])
    cut = attention.dot_product_attention(q, k[:, :3], v[:, :3])
    agree(attention.dot_product_attention(q, k, v, mask=padded), cut)
    nothing = attention.dot_product_attention(q, k, v, mask=np.zeros(6, bool))
    assert not nothing.any()


def sigmoid(a):
    return 1 / (1 + math.exp(-a))


def test_simple_rnn_by_loops():
    x, w, u, b, h0 = arrays([(2, 3, 4), (4, 3), (3, 3), (3,), (2, 3)])
    ys, h = recurrent.simple_rnn(x, w, u, b, h0, MASK)
    for n in range(2):
        state = h0[n]
        for t in range(3):
            a = [sum(x[n, t] * w[:, j]) + sum(state * u[:, j]) + b[j] for j in range(3)]
            state = np.tanh(a) if MASK[n, t] else state
            agree(ys[n, t], state)
        agree(h[n], state)


def test_lstm_by_loops():
    x, w, u, b, h0, c0 = arrays(LSTM)
    ys, h, c = recurrent.lstm(x, w, u, b, h0, c0, MASK)
    for n in range(2):
        state, carry = h0[n].copy(), c0[n].copy()
        for t in range(3):
            a = [sum(x[n, t] * w[:, j]) + sum(state * u[:, j]) + b[j] for j in range(12)]
            for j in range(3):
                i, f, g, o = a[j], a[3 + j], a[6 + j], a[9 + j]
                if MASK[n, t]:
                    carry[j] = sigmoid(f) * carry[j] + sigmoid(i) * math.tanh(g)
                    state[j] = sigmoid(o) * math.tanh(carry[j])
            agree(ys[n, t], state)
        agree(h[n], state)
        agree(c[n], carry)


@pytest.mark.parametrize("reset_after", [True, False])
def test_gru_by_loops(reset_after):
    x, w, u, b, h0 = arrays(GRU)
    b[1] *= reset_after
    ys, h = recurrent.gru(x, w, u, b if reset_after else b[0], h0, MASK, reset_after=reset_after)
    for n in range(2):
        state = h0[n]
        for t in range(3):
            a = [sum(x[n, t] * w[:, j]) + b[0][j] for j in range(9)]
            z, r = (
                np.array(
                    [sigmoid(a[k + j] + sum(state * u[:, k + j]) + b[1][k + j]) for j in range(3)]
                )
                for k in (0, 3)
            )
            before = [sum(r * state * u[:, 6 + j]) for j in range(3)]
            after = [r[j] * (sum(state * u[:, 6 + j]) + b[1][6 + j]) for j in range(3)]
            g = np.tanh(np.add(a[6:], after if reset_after else before))
            state = z * state + (1 - z) * g if MASK[n, t] else state
            agree(ys[n, t], state)
        agree(h[n], state)


def test_index():
    x = np.array([[3.0, 1, 3, 2], [0, 5, 5, 5]])
    values, indices = index.top_k(x, 3)
    assert values.tolist() == [[3, 3, 2], [5, 5, 5]] and indices.tolist() == [[0, 2, 3], [1, 2, 3]]
    assert index.one_hot(np.array([1, -1]), 3).tolist() == [[0, 1, 0], [0, 0, 0]]
    assert index.multi_hot(np.array([[0, 2], [1, 1]]), 3).tolist() == [[1, 0, 1], [0, 1, 0]]
    y = index.scatter(np.array([[1], [1], [3]]), np.array([1.0, 2, 4]), (5,))
    assert y.tolist() == [0, 3, 0, 4, 0]
    y = index.segment_sum(np.array([[1.0], [2], [4]]), np.array([2, 0, 2]), 3)
    assert y.tolist() == [[2], [0], [5]]


# Updates worked out by hand for one weight.
w, dw, zero, half = (np.array([v]) for v in (2.0, -3.0, 0.0, 0.5))
UPDATES = [
    (optimizer.sgd, [w, dw, zero], {"lr": 0.1}, [2.3, 0.3]),
    (optimizer.sgd, [w, dw, half], {"lr": 0.1, "momentum": 0.8}, [2.7, 0.7]),
    (optimizer.sgd, [w, dw, half], {"lr": 0.1, "momentum": 0.8, "nesterov": True}, [2.86, 0.7]),
    (optimizer.adam, [w, dw, zero, zero, 1], {"lr": 0.1, "epsilon": 0}, [2.1, -0.3, 0.009]),
    (optimizer.adamw, [w, dw, zero, zero, 1], {"lr": 0.1, "epsilon": 0}, [2.0992, -0.3, 0.009]),
    (optimizer.lion, [w, dw, half], {"lr": 0.1}, [1.9, 0.465]),
    (optimizer.adagrad, [w, dw, np.array([7.0])], {"lr": 0.1, "epsilon": 0}, [2.075, 16]),
    (optimizer.adamax, [w, dw, zero, zero, 1], {"lr": 0.1, "epsilon": 0}, [2.1, -0.3, 3]),
    (optimizer.clip_by_value, [dw, 2.0], {}, [-2]),
    (optimizer.clip_by_norm, [np.array([3.0, -4]), 2.5], {}, [1.5, -2]),
    (optimizer.clip_by_norm, [np.array([3.0, -4]), 6.0], {}, [3, -4]),
]


@pytest.mark.parametrize(("f", "args", "params", "expected"), UPDATES, ids=names(UPDATES))
def test_optimizer(f, args, params, expected):
    np.testing.assert_allclose(np.ravel(f(*args, **params)), expected, rtol=1e-12)


def test_clip_by_global_norm():
    a, b = optimizer.clip_by_global_norm([np.array([3.0]), np.array([-4.0])], 2.5)
    assert (a, b) == (1.5, -2)
    assert optimizer.clip_by_global_norm([np.zeros(2)], 1.0)[0].tolist() == [0, 0]
    assert np.isnan(optimizer.clip_by_global_norm([np.array([np.inf, 0.0])], 1.0)[0]).all()


PHILOX = [  # counter, key, words: the known answers published with Random123
    ("00000000 00000000 00000000 00000000", "00000000 00000000"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0"),
]
WORDS = ["6627e8d5 e169c58d bc57ac4c 9b00dbd8", "408f276d 41c83b0e a20bc7c6 6d5451fd"]
WORDS += ["d16cfe09 94fdcceb 5001e420 24126ea1"]


def test_philox():
    counters, keys, words = (
        np.array([[int(word, 16) for word in line.split()] for line in lines], np.uint32)
        for lines in (*zip(*PHILOX), WORDS)
    )
    assert random.philox4x32(counters, keys).tolist() == words.tolist()
    assert random.philox4x32(counters[2], keys[2]).tolist() == words[2].tolist()


def test_bits():
    words = random.bits(2**40 + 5, 2**33 + 7, 10)
    block = random.philox4x32([1, 0, 7, 2], [5, 2**8])
    assert words[4:8].tolist() == block.tolist()
    assert random.bits(2**40 + 5, 2**33 + 7, 3).tolist() == words[:3].tolist()
    assert random.bits(2**40 + 5, 2**33 + 8, 10).tolist() != words.tolist()


def test_uniform_and_normal():
    assert random.uniform([0, 255, 256, 2**32 - 1]).tolist() == [0, 0, 2**-24, 1 - 2**-24]
    words = random.bits(0, 0, 100_000)
    u, z = random.uniform(words), random.normal(words)
    assert np.isfinite(random.normal([2**32 - 1, 0, 0, 0])).all()
    assert abs(u.mean(dtype=np.float64) - 0.5) < 0.005 and abs(u.var() - 1 / 12) < 0.001
    assert abs(z.mean()) < 0.015 and abs(z.var() - 1) < 0.02 and abs((z**4).mean() - 3) < 0.1
    assert abs(np.corrcoef(z[::2], z[1::2])[0, 1]) < 0.02


# helpers.assert_close


def test_assert_close_accepts_rounding_and_no_more():
    y = randn((3, 4), "float64")
    assert_close(y.astype("float32"), y)
    assert_close(np.float32([np.nan, np.inf, 1e-42]), np.array([np.nan, np.inf, 0.0]))
    assert_close((y.astype("float32"), None), (y, None), kind="gemm", scale=(np.abs(y), None))
    assert_close(np.arange(3), [0, 1, 2], kind="exact")
    with pytest.raises(AssertionError, match=r"1 of 12 values differ .* Worst at \(1, 2\)"):
        assert_close(np.where(y == y[1, 2], 1.00001 * y, y).astype("float32"), y)
    with pytest.raises(AssertionError, match="1 of 2 values"):
        assert_close(np.float32([np.nan, 1]), np.array([1.0, 1.0]))
    with pytest.raises(AssertionError, match="shape"):
        assert_close(y.astype("float32"), y[:2])
    with pytest.raises(ValueError, match="expected scale"):
        assert_close(y, y, kind="gemm")
