"""Attention against the reference on every instruction set, and against Keras."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
import pytest

from helpers import assert_close, randn
from narae import _core, ops
from narae.engine import GradientTape, KerasTensor, convert_to_tensor, grad
from reference import attention as reference


def tensors(B=2, T=5, S=7, H=4, G=2, D=3, E=6, dtype="float32"):
    return [
        randn(shape, dtype, seed)
        for seed, shape in enumerate([(B, T, H, D), (B, S, G, D), (B, S, G, E)])
    ]


def check(q, k, v, bias=None, mask=None, scale=None, causal=False, slack=1.0, keep=None, **drop):
    """Forward and gradients; slack: by how much the logits make the problem harder."""
    rate = drop.get("dropout", 0.0)
    dtype = q.dtype.name
    arrays = [a if a is None else a.astype(dtype) for a in (q, k, v, bias)]
    inputs = [a if a is None else convert_to_tensor(a) for a in arrays]
    watched = [t for t in inputs if t is not None]
    with GradientTape() as tape:
        tape.watch(watched)
        options = {"mask": mask, "scale": scale, "is_causal": causal, **drop}
        y = ops.dot_product_attention(*inputs, **options)
    assert y.dtype == dtype
    options = {"mask": mask, "scale": scale, "causal": causal, "keep": keep, "rate": rate}
    expected = reference.dot_product_attention(*arrays, **options)
    assert_close(y.numpy(), expected, "composite", slack * np.abs(expected).max(initial=0))
    dy = randn(y.shape, dtype, seed=9)
    got = tape.gradient(y, watched, output_gradients=convert_to_tensor(dy))
    expected = reference.dot_product_attention_backward(dy, *arrays, **options)
    expected = [g for g in expected if g is not None]
    scale = [slack * np.abs(g).max(initial=1.0) for g in expected]
    assert_close([g.numpy() for g in got], expected, "composite", scale)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"T": 1, "S": 1, "D": 1, "E": 1},
        {"T": 64, "S": 64, "D": 16, "E": 16},
        {"T": 65, "S": 130, "D": 33, "E": 17},
        {"T": 130, "S": 65, "H": 1, "G": 1},
        {"B": 1, "T": 150, "S": 150, "H": 2, "G": 1, "D": 40, "E": 31},
        {"B": 4, "T": 70, "S": 66, "H": 8, "G": 4},
        {"B": 1, "T": 570, "S": 100, "H": 16, "G": 16},
        {"B": 1, "T": 20, "S": 1000, "H": 2, "G": 2, "D": 16, "E": 32},
        {"B": 1, "T": 60, "S": 100, "H": 16, "G": 16, "D": 64, "E": 64},  # rows 4 KiB apart
    ],
    ids=str,
)
def test_attention(isa, sizes, causal, dtype):
    check(*tensors(**sizes, dtype=dtype), causal=causal)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("value", [-1e20, -1e38, np.finfo("float32").min / 2, 1e30])
def test_bias_of_any_size(isa, value, causal):
    bias = np.zeros((2, 4, 5, 7), "float32")  # beside it a logit is lost, but no key is hidden
    bias[0, 1, 2] = bias[1, :, 4, :3] = value
    check(*tensors(), bias=bias, causal=causal)


@pytest.mark.parametrize(
    "shape", [(5, 7), (2, 5, 7), (2, 1, 1, 7), (1, 4, 5, 7), (2, 4, 5, 7), (1, 1, 5, 1)]
)
def test_bias_and_mask(isa, shape):
    q, k, v = tensors()
    full = (1,) * (4 - len(shape)) + shape if len(shape) != 3 else (shape[0], 1, *shape[1:])
    mask = randn(shape, seed=3) > -0.5
    mask[..., 0] = True
    check(q, k, v, mask=mask.reshape(full))
    check(q, k, v, bias=randn(full, seed=4), scale=0.3)
    check(q, k, v, bias=randn(full, seed=4), mask=mask.reshape(full), causal=True)
    y = ops.dot_product_attention(q, k, v, mask=mask, bias=randn(shape))
    expected = ops.dot_product_attention(
        q, k, v, mask=mask.reshape(full), bias=randn(shape).reshape(full)
    )
    np.testing.assert_array_equal(y.numpy(), expected.numpy())


@pytest.mark.parametrize("causal", [False, True])
def test_large_logits(isa, causal):
    # up to 140: exp overflows unless the largest is subtracted; a logit's rounding is 100 eps
    q, k, v = tensors(T=70, S=90)
    check(q, k, v, bias=30 * randn((1, 1, 70, 90)), causal=causal, slack=4.0)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("T", "S"), [(5, 7), (70, 150)])
def test_query_without_keys_weighs_all_alike(isa, T, S, causal):
    q, k, v = (convert_to_tensor(x) for x in tensors(T=T, S=S, H=2))
    mask = np.ones((1, 1, T, S), bool)
    mask[..., 2, :] = False
    with GradientTape() as tape:
        tape.watch([q, k, v])
        y = ops.dot_product_attention(q, k, v, mask=mask, is_causal=causal)
        blind = ops.sum(y[:, 2])
    np.testing.assert_allclose(y.numpy()[:, 2], v.numpy().mean(1), rtol=1e-4, atol=1e-5)
    dq, dk, dv = tape.gradient(blind, [q, k, v])
    assert not dq.numpy().any() and not dk.numpy().any()
    np.testing.assert_allclose(dv.numpy(), np.full(v.shape, 1 / S), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("T", "S"), [(5, 7), (70, 66)])
def test_dropout(isa, T, S, causal, dtype):
    q, k, v = tensors(B=3, T=T, S=S, H=2, dtype=dtype)
    options = {"is_causal": causal, "dropout": 0.3, "seed": 11}
    # Values that are unit vectors show the weights themselves.
    unit = np.broadcast_to(np.eye(S, dtype=dtype)[None, :, None], (3, S, 2, S))
    shown = ops.dot_product_attention(q, k, unit, **options).numpy()
    keep = np.moveaxis(shown, 1, 2) != 0
    if causal:
        keep |= ~np.tril(np.ones((T, S), bool))
    else:
        assert abs(keep.mean() - 0.7) < 5 / np.sqrt(keep.size)
    check(q, k, v, keep=keep, causal=causal, dropout=0.3, seed=11)


def test_dropout_is_the_same_on_every_instruction_set():
    q, k, v = tensors(T=70, S=66)
    before, results = _core.isa(), []
    for name in _core.isas_supported():
        _core.set_isa(name)
        results.append(ops.dot_product_attention(q, k, v, dropout=0.5, seed=3).numpy())
    _core.set_isa(before)
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=1e-5)


def test_empty(isa):
    q, k, v = tensors(B=0)
    assert ops.dot_product_attention(q, k, v).shape == (0, 5, 4, 6)
    q, k, v = tensors(S=0)
    assert not ops.dot_product_attention(q, k, v).numpy().any()
    dq, dk, dv = grad(lambda *x: ops.sum(ops.dot_product_attention(*x)))(q, k, v)
    assert not dq.numpy().any() and dk.shape == k.shape and dv.shape == v.shape


@pytest.mark.parametrize("sizes", [{"B": 1, "H": 2, "G": 1}, {"B": 4, "H": 4, "G": 2}])
def test_threads_give_the_same_bits(isa, sizes):
    q, k, v = tensors(T=150, S=140, D=8, **sizes)
    before, results = _core.num_threads(), []
    for threads in (1, 3):
        _core.set_num_threads(threads)
        f = grad(lambda *x: ops.sum(ops.dot_product_attention(*x, is_causal=True) ** 2))
        results.append([g.numpy() for g in f(q, k, v)])
    _core.set_num_threads(before)
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("options", [{"attn_logits_soft_cap": 2.0}, {}, {"is_causal": True}])
def test_large_heads_and_soft_cap(options):
    q, k, v = tensors(D=1100 if not options else 3)
    mask = randn((2, 1, 5, 7), seed=3) > 0
    y = ops.dot_product_attention(q, k, v, mask=mask, **options)
    if "attn_logits_soft_cap" in options:
        full = np.einsum("bthd,bshd->bhts", q, np.repeat(k, 2, 2)) / np.sqrt(3)
        full = full / (1 + np.abs(full) / 2)
        p = np.where(mask, full, -1e30)
        p = np.exp(p - p.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        expected = np.einsum("bhts,bshe->bthe", p, np.repeat(v, 2, 2))
    else:
        causal = options.get("is_causal", False)
        expected = reference.dot_product_attention(q, k, v, mask=mask, causal=causal)
        seen = mask & np.tril(np.ones((5, 7), bool)) if causal else mask
        blind = ~seen.any(-1)  # the reference gives 0
        mean = np.repeat(v, 2, 2).mean(1, keepdims=True) * np.ones_like(expected)
        expected = np.where(np.moveaxis(blind, 1, 2)[..., None], mean, expected)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_symbolic():
    x = KerasTensor((None, None, 4, 8))
    assert ops.dot_product_attention(x, x, x, is_causal=True).shape == (None, None, 4, 8)


BAD = [
    ({"key": randn((2, 7, 2, 4))}, "where G divides H"),
    ({"key": randn((2, 7, 3, 3)), "value": randn((2, 7, 3, 6))}, "where G divides H"),
    ({"value": randn((2, 6, 2, 6))}, "where G divides H"),
    ({"query": randn((2, 5, 12))}, "where G divides H"),
    ({"mask": np.ones((2, 4, 5, 6), bool)}, "mask that broadcasts"),
    ({"bias": np.ones((3, 1, 5, 7))}, "bias that broadcasts"),
    ({"bias": np.ones(7)}, "bias that broadcasts"),
    ({"dropout": 1.0}, "0 <= dropout < 1"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments(arguments, message):
    q, k, v = tensors()
    arguments = {"query": q, "key": k, "value": v, **arguments}
    with pytest.raises(ValueError, match=message) as error:
        ops.dot_product_attention(**arguments)
    assert str(error.value).startswith("narae.ops.dot") and "Received: " in str(error.value)


@pytest.mark.keras
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_keras(masked, causal):
    keras = pytest.importorskip("keras")
    q, k, v = tensors()
    options = {"bias": randn((2, 1, 5, 7)), "is_causal": causal}
    if masked:
        mask = randn((2, 4, 5, 7), seed=3) > 0
        mask[:, :, 3] = False
        options["mask"] = mask
    v = v[..., :3]
    expected = keras.ops.dot_product_attention(q, k, v, **options)
    actual = ops.dot_product_attention(q, k, v, **options)
    np.testing.assert_allclose(actual.numpy(), np.asarray(expected), rtol=1e-4, atol=1e-5)
