"""Matrix products on every instruction set: matmul, dense, dot, tensordot, einsum."""

import ml_dtypes  # noqa: F401 - NumPy then knows bfloat16 by name
import numpy as np
import pytest

from helpers import assert_close, gradients, randn
from narae import _core, ops
from narae.engine import GradientTape, config, convert_to_tensor
from reference import gemm as reference

# Around the tile (14 x 32, 6 x 16; few rows left: 127 to 129), the parts of rows and of sums (168,
# 512), and the paths: one or two rows, rows of a B from memory, A and B where they are, rows of B
# far apart (40, 512, 64), rows of A 4 KiB apart (K = 1024), operands fetched ahead (from 256 KiB
# on), packed blocks (B from 1 or 3 MiB on), A in place or, 4 KiB apart or transposed, packed.
SIZES = [
    (1, 1, 1), (3, 5, 7), (14, 32, 16), (15, 33, 17), (13, 31, 512), (28, 64, 513), (29, 65, 100),
    (130, 130, 130), (169, 95, 1025), (300, 17, 3), (1, 700, 90), (700, 1, 90), (2, 3, 0),
    (0, 4, 5), (4, 0, 5), (1, 300, 784), (2, 141, 400), (1, 2100, 520), (2, 2101, 1030),
    (200, 300, 500), (40, 512, 64), (169, 700, 530), (1, 17, 40), (2, 391, 30), (20, 1090, 520),
    (33, 1031, 600), (8, 50, 1024), (20, 50, 1024), (4, 4100, 1100), (170, 2100, 520),
    (169, 790, 1024), (127, 40, 520), (128, 40, 9), (129, 70, 30),
    (301, 905, 7), (4100, 67, 16), (1201, 907, 7),  # few terms, sums of 1 and 4 MiB
]  # fmt: skip


def wide(*xs):
    return [np.asarray(x, "float64") for x in xs]


def magnitudes(f, *xs):
    """The reference on absolute values: the scale |A| @ |B| of rounding errors."""
    return f(*(np.abs(x) for x in wide(*xs)))


@pytest.mark.parametrize("M, N, K", SIZES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("ta, tb", [(False, False), (True, False), (False, True), (True, True)])
def test_kernel(isa, M, N, K, dtype, ta, tb):
    a = randn((K, M) if ta else (M, K), dtype)
    b = randn((N, K) if tb else (K, N), dtype, seed=1)
    bias = randn((N,), dtype, seed=2)

    def product(a, b, bias):
        return reference.matmul(a, b, ta, tb) + bias

    y = _core.matmul(a, b, ta, tb, bias)
    assert_close(y, product(*wide(a, b, bias)), "gemm", scale=magnitudes(product, a, b, bias))
    capped = _core.matmul(a, b, ta, tb, bias, "relu")
    np.testing.assert_array_equal(capped, np.maximum(y, 0))


@pytest.mark.parametrize("sa, sb", [
    ((3, 4), (4, 5)), ((4,), (4,)), ((4,), (4, 5)), ((3, 4), (4,)), ((2, 3, 4), (4, 5)),
    ((2, 1, 3, 4), (5, 4, 2)), ((4,), (2, 4, 3)), ((2, 3, 4), (4,)), ((1, 3, 4), (6, 4, 2)),
    ((9, 40, 50), (9, 50, 60)), ((0, 3, 4), (4, 5)), ((2, 3, 0), (0, 5)),
])  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matmul(isa, sa, sb, dtype):
    a, b = randn(sa, dtype), randn(sb, dtype, seed=1)
    y, got, dy = gradients(ops.matmul, a, b)
    assert_close(y, a.astype("f8") @ b, "gemm", scale=magnitudes(np.matmul, a, b))
    expected = reference.matmul_backward(*wide(dy, a, b))
    scale = magnitudes(reference.matmul_backward, dy, a, b)
    assert_close(got, expected, "gemm", scale=scale)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_outputs_past_the_caches(isa, dtype):
    a, b = randn((1025, 1), dtype), randn((1, 4096), dtype, seed=1)
    np.testing.assert_array_equal(_core.matmul(a, b), a * b)
    a, b = randn((1025, 5), dtype), randn((5, 4096), dtype, seed=1)
    y = _core.matmul(a, b)
    assert_close(y, a.astype("f8") @ b, "gemm", scale=magnitudes(np.matmul, a, b))
    np.testing.assert_array_equal(_core.matmul(a[7:8], b)[0], y[7])  # a row computed alone


def test_matmul_of_integers():
    a, b = np.arange(6).reshape(2, 3), np.arange(12).reshape(3, 4)
    y = ops.matmul(a.astype("int32"), b.astype("int32"))
    assert y.dtype == "int32"
    np.testing.assert_array_equal(y.numpy(), a @ b)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 70), (70, 256), (9, 300), (2, 1041), (0, 5)])
def test_bias_backward(isa, shape, dtype):
    dy = randn(shape, dtype)
    db = _core.bias_backward(dy)
    assert_close(db, dy.astype("float64").sum(0), "reduction", scale=np.abs(dy).sum(0))


@pytest.mark.parametrize("activation", [None, "relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("shape, units, bias", [
    ((3, 4), 5, True), ((1, 7), 3, False), ((2, 3, 4), 1, True), ((4,), 6, True),
    ((200, 100), 33, True), ((37, 784), 129, False),
])  # fmt: skip
def test_dense(isa, activation, shape, units, bias):
    x = randn(shape)
    w = randn((shape[-1], units), seed=1) / np.float32(np.sqrt(shape[-1]))
    b = [randn((units,), seed=2)] if bias else []
    y, got, dy = gradients(lambda x, w, *b: ops.dense(x, w, *(b or [None]), activation), x, w, *b)
    name = activation or "linear"
    full = (x, w, b[0] if bias else np.zeros(units))
    plain = magnitudes(lambda x, w, b: reference.dense(x, w, b), *full)
    assert_close(y, reference.dense(*wide(*full), name), "gemm", scale=1 + plain)
    if activation != "relu":  # else: where rounding moves z over 0, the slope jumps
        expected = reference.dense_backward(*wide(dy, *full), name)
        scale = magnitudes(reference.dense_backward, dy, *full)
        for g, e, s in zip(got, expected, scale):
            assert_close(g, e, "gemm", scale=4 * s)


def test_dense_leaves_out_gradients_that_nobody_wants():
    x, w = convert_to_tensor(randn((3, 4))), convert_to_tensor(randn((4, 5)))
    with GradientTape() as tape:
        tape.watch(w)
        y = ops.dense(x, w, None, "tanh")
    dx, dw = y.node[0].backward(y)
    assert dx is None and dw.shape == (4, 5)
    assert tape.gradient(y, w).shape == (4, 5)


def test_second_derivative_of_dense():
    x, w = np.float64([[0.3, -0.2]]), convert_to_tensor(np.float64([[0.5], [1.5]]))
    for name, second in [("tanh", lambda z: -2 * np.tanh(z) / np.cosh(z) ** 2), (None, None)]:
        with GradientTape() as outer:
            outer.watch(w)
            with GradientTape() as inner:
                inner.watch(w)
                y = ops.dense(x, w, None, name)
            dw = inner.gradient(y, w)
        ddw = outer.gradient(dw, w, unconnected_gradients="zero").numpy()
        z = x @ w.numpy()
        expected = 0 * x.T if second is None else second(z) * x.T * x.sum()
        np.testing.assert_allclose(ddw, expected, rtol=1e-12, atol=1e-15)


EINSUM = [
    ("ij,jk->ik", (3, 4), (4, 5)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)), ("ij->ji", (3, 4)),
    ("ij,ij->", (3, 4), (3, 4)), ("i,j->ij", (3,), (4,)), ("ii->i", (4, 4)), ("ii", (4, 4)),
    ("ij->j", (3, 4)), ("abc,cd->abd", (2, 3, 4), (4, 5)), ("abc,bd->da", (2, 3, 4), (3, 2)),
    ("...ij,...jk->...ik", (2, 3, 4), (4, 5)), ("...i,i", (2, 3, 4), (4,)),
    ("bthd,bshd->bhts", (2, 3, 4, 5), (2, 6, 4, 5)),
    ("bhts,bshd->bthd", (2, 4, 3, 6), (2, 6, 4, 5)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)), ("ab,ab,ab->b", (2, 3), (2, 3), (2, 3)),
    ("b i, i j -> b j", (2, 3), (3, 4)), ("aab,bc->ac", (3, 3, 2), (2, 4)),
    ("ij,kj", (2, 3), (4, 3)),
    ("...,...->...", (2, 3), (3,)), ("ij,j->ij", (2, 3), (1,)),
    ("bij,bij->bi", (2, 3, 4), (2, 3, 4)),
]  # fmt: skip


@pytest.mark.parametrize("subscripts, shapes", [(e, s) for e, *s in EINSUM])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_einsum(isa, subscripts, shapes, dtype):
    xs = [randn(s, dtype, seed=i) for i, s in enumerate(shapes)]

    def f(*xs):
        return np.einsum(subscripts, *xs)

    y, got, dy = gradients(lambda *xs: ops.einsum(subscripts, *xs), *xs)
    assert_close(y, f(*wide(*xs)), "gemm", scale=magnitudes(f, *xs))
    for i, (x, dx) in enumerate(zip(xs, got)):  # linear in each operand: exact differences
        direction = randn(x.shape, "float64", seed=50 + i)
        moved = [direction if j == i else v for j, v in enumerate(wide(*xs))]
        expected = (f(*moved) * dy).sum()
        np.testing.assert_allclose((dx.numpy() * direction).sum(), expected, rtol=1e-3, atol=1e-4)


def test_einsum_of_integers():
    a = np.arange(6).reshape(2, 3)
    y = ops.einsum("ij->j", a.astype("int32"))
    assert y.dtype == "int32" and y.numpy().tolist() == [3, 5, 7]


@pytest.mark.parametrize("sa, sb, axes", [
    ((2, 3, 4), (3, 4, 5), 2), ((2, 3), (3, 4), 1), ((2, 3), (4, 5), 0),
    ((2, 3, 4), (4, 5, 2), ((0, 2), (2, 0))), ((2, 3, 4), (5, 3), (1, 1)),
    ((2, 3), (3, 2), (-1, 0)),
])  # fmt: skip
def test_tensordot(isa, sa, sb, axes):
    a, b = randn(sa), randn(sb, seed=1)
    expected = np.tensordot(a.astype("f8"), b, axes)
    scale = np.tensordot(np.abs(a).astype("f8"), np.abs(b), axes)
    assert_close(ops.tensordot(a, b, axes).numpy(), expected, "gemm", scale=scale)


@pytest.mark.parametrize("name", ["dot", "inner", "vdot", "outer"])
@pytest.mark.parametrize("sa, sb", [((3,), (3,)), ((2, 3), (3, 3)), ((2, 3), (3,)), ((), (3,)),
                                    ((2, 3), (4, 3, 3))])  # fmt: skip
def test_other_products(name, sa, sb):
    if name == "vdot" and sa != sb:
        pytest.skip("vdot takes as many elements on both sides")
    a, b = randn(sa), randn(sb, seed=1)
    np.testing.assert_allclose(
        getattr(ops, name)(a, b).numpy(), getattr(np, name)(a, b), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("sa, sb", [
    ((9, 40, 51), (9, 51, 60)), ((2, 300, 401), (2, 401, 300)), ((2, 1, 3, 4), (5, 4, 2)),
    ((9, 20, 8000), (9, 8000, 40)), ((3, 0, 4), (3, 4, 5)), ((9, 40, 0), (9, 0, 30)),
])  # fmt: skip
def test_batches_of_bfloat16(isa, sa, sb):
    """In scratch, or with threads inside where it is too small; broadcast; empty."""
    a, b = randn(sa, "bfloat16"), randn(sb, "bfloat16", seed=1)
    expected, scale = np.matmul(*wide(a, b)), magnitudes(np.matmul, a, b)
    assert_close(_core.matmul(a, b), expected, "gemm", scale=scale)


def test_bfloat16_is_rounded_once(isa):
    """Sums over several blocks, bias and activation in float32: all of it exact here."""
    a, b = np.ones((3, 1804), "bfloat16"), np.ones((1804, 40), "bfloat16")
    y = _core.matmul(a, b, False, False, np.full(40, -1024, "bfloat16"), "relu")
    np.testing.assert_array_equal(y.astype("float32"), 780)  # 1804 is no bfloat16, 780 is


def test_nan_and_infinities_of_bfloat16(isa):
    a, b = randn((3, 41), "bfloat16"), randn((41, 33), "bfloat16", seed=1)
    a[0, 40], a[1, 7], b[5, 2] = np.nan, np.inf, np.inf
    with np.errstate(invalid="ignore"):
        expected = np.matmul(*wide(a, b))
    np.testing.assert_array_equal(np.isnan(_core.matmul(a, b)), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(_core.matmul(a, b)), np.isinf(expected))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_same_bits_for_any_number_of_threads(dtype):
    # A and B where they lie; streamed; both packed, A for all blocks of columns
    for M, K, N, a_transposed in (
        (500, 400, 300, False),
        (2, 1030, 4200, False),
        (400, 600, 2200, True),
    ):
        a, b = randn((K, M) if a_transposed else (M, K), dtype), randn((K, N), dtype, seed=1)
        before, results = config.num_threads(), []
        for threads in (1, 2, 5):
            config.set_num_threads(threads)
            results.append(_core.matmul(a, b, a_transposed))
        config.set_num_threads(before)
        assert all(np.array_equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_same_bits_for_a_row_alone_or_among_others(isa, dtype):
    # 200 rows: packed; 1: as B lies; nine products: each by one thread
    a, b = randn((200, 800), dtype), randn((800, 1400), dtype, seed=1)
    whole = _core.matmul(a, b)
    for rows in (1, 2, 3, 20, 100):
        np.testing.assert_array_equal(_core.matmul(a[:rows], b), whole[:rows])
    np.testing.assert_array_equal(_core.matmul(a[:20], b[:, :100].copy()), whole[:20, :100])
    np.testing.assert_array_equal(_core.matmul(np.stack([a] * 9), b)[8], whole)


def test_errors():
    with pytest.raises(ValueError, match="narae.ops.matmul: expected inner dimensions that agree"):
        ops.matmul(randn((2, 3)), randn((2, 3)))
    with pytest.raises(ValueError, match="batch dimensions that broadcast"):
        ops.matmul(randn((2, 3, 4)), randn((3, 4, 5)))
    with pytest.raises(ValueError, match="narae.ops.dense: expected kernel of shape"):
        ops.dense(randn((2, 3)), randn((4, 5)))
    with pytest.raises(ValueError, match="narae.ops.dense: expected activation to be None or one"):
        ops.dense(randn((2, 3)), randn((3, 5)), None, "gelu")
    with pytest.raises(ValueError, match="expected bias of shape"):
        ops.dense(randn((2, 3)), randn((3, 5)), randn((4,)))
    with pytest.raises(ValueError, match="narae.ops.tensordot: expected axes of equal sizes"):
        ops.tensordot(randn((2, 3)), randn((4, 5)), 1)
    for subscripts in ("ij,jk", "ijk->i", "ij->iij", "ij->k", "i1->i"):
        with pytest.raises(ValueError, match="narae.ops.einsum: expected"):
            ops.einsum(subscripts, randn((2, 3)))
    with pytest.raises(ValueError, match="narae.ops.einsum: expected one size for each index"):
        ops.einsum("ij,jk->ik", randn((2, 3)), randn((4, 5)))
