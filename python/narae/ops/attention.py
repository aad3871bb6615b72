"""Scaled dot-product attention."""

import math
from typing import Any

import numpy as np

from narae import _core
from narae.engine import Tensor, config, convert_to_tensor, is_tracked, op, record
from narae.engine.dtypes import finfo, is_float, result_type
from narae.engine.random import next_key
from narae.ops.elementwise import add, cast, divide, multiply, subtract, sum_to_shape, where
from narae.ops.gemm import matmul
from narae.ops.reduce import max, sum
from narae.ops.shape import expand_dims, repeat, transpose
from narae.ops.unary import absolute, exp

__all__ = ["dot_product_attention"]

_WHO = "narae.ops.dot_product_attention"


def _four_dimensional(name: str, x: Tensor, scores: tuple) -> Tensor:
    """(T, S) or (B, T, S) -> (B or 1, 1, T, S); other ranks must have four axes."""
    given = x.shape
    if x.ndim == 3:
        x = expand_dims(x, 1)
    while 2 <= x.ndim < 4:
        x = expand_dims(x, 0)
    if x.ndim != 4 or any(n not in (1, m) for n, m in zip(x.shape, scores)):
        raise ValueError(
            f"{_WHO}: expected {name} that broadcasts to (B, H, T, S) = {scores}. "
            f"Received: {name}.shape={given}"
        )
    return x


def _check(q: Tensor, k: Tensor, v: Tensor) -> None:
    fits = q.ndim == k.ndim == v.ndim == 4
    fits = fits and q.shape[0] == k.shape[0] and k.shape[:3] == v.shape[:3]
    fits = fits and q.shape[3] == k.shape[3] and k.shape[2] and q.shape[2] % k.shape[2] == 0
    if not fits:
        raise ValueError(
            f"{_WHO}: expected query (B, T, H, D), key (B, S, G, D) and value (B, S, G, E), where "
            f"G divides H. Received: query.shape={q.shape}, key.shape={k.shape}, "
            f"value.shape={v.shape}"
        )


@op
def dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    scale: float | None = None,
    is_causal: bool = False,
    flash_attention: bool | None = None,
    attn_logits_soft_cap: float | None = None,
    dropout: float = 0.0,
    seed: Any = None,
) -> Tensor:
    """Weighs values by how well their keys match each query.

    `y[t] = sum_s softmax_s(scale * q[t] . k[s] + bias[t, s]) v[s]`, head by head, without storing
    the T x S weights. A query that may see no key weighs all alike, as Keras does on JAX.

    Args:
        query: (B, T, H, D).
        key: (B, S, G, D); H / G query heads in a row share a key head.
        value: (B, S, G, E).
        bias: added to the logits: broadcasts to (B, H, T, S); (T, S) and (B, T, S) do too.
        mask: True where a query may see a key; broadcasts like bias.
        scale: factor of the logits, by default 1 / sqrt(D).
        is_causal: whether query t sees keys up to t only.
        flash_attention: for Keras's sake; the kernel always works tile by tile.
        attn_logits_soft_cap: if given, logits become `x / (1 + |x| / cap)`, outside the kernel.
        dropout: share of the weights set to zero, the others scaled up.
        seed: of the dropout: an integer, a SeedGenerator or None.

    Returns:
        (B, T, H, E).

    Raises:
        ValueError: shapes that do not fit.

    >>> x = narae.ops.ones((2, 10, 4, 8))
    >>> narae.ops.dot_product_attention(x, x, x, is_causal=True).shape
    (2, 10, 4, 8)
    """
    q, k, v = (convert_to_tensor(x) for x in (query, key, value))
    dtype = result_type(q.dtype, k.dtype, v.dtype)
    dtype = dtype if is_float(dtype) else config.floatx()
    q, k, v = (cast(x, dtype) for x in (q, k, v))
    _check(q, k, v)
    scores = (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
    if bias is not None:
        bias = _four_dimensional("bias", cast(convert_to_tensor(bias), dtype), scores)
    if mask is not None:
        mask = _four_dimensional("mask", cast(convert_to_tensor(mask), "bool"), scores)
    if not 0 <= dropout < 1:
        raise ValueError(f"{_WHO}: expected 0 <= dropout < 1. Received: dropout={dropout}")
    scale = 1 / math.sqrt(q.shape[3] or 1) if scale is None else float(scale)
    largest = _core.attention_largest_head(dtype)
    if attn_logits_soft_cap is not None or q.shape[3] > largest or v.shape[3] > largest:
        if dropout:
            raise ValueError(
                f"{_WHO}: expected no dropout with attn_logits_soft_cap or heads of more than "
                f"{largest} channels. Received: dropout={dropout}"
            )
        return _composed(q, k, v, bias, mask, scale, is_causal, attn_logits_soft_cap)
    return _attention(
        q, k, v, bias, mask, scale, is_causal, next_key(seed) if dropout else None, dropout
    )


def _attention(q, k, v, bias, mask, scale, causal, key, rate):
    arrays = [None if x is None else x.array for x in (bias, mask, key)]
    options = (scale, bool(causal), *arrays, rate)
    y, kept = _core.attention_forward(q.array, k.array, v.array, *options)
    wants_bias = bias is not None and is_tracked(bias)

    def backward(dy):
        saved = (y, kept, q.array, k.array, v.array, *options)
        *gradients, ds = _core.attention_backward(dy.array, *saved, wants_bias)
        gradients = tuple(Tensor(g) for g in gradients)
        if bias is None:
            return gradients
        return *gradients, sum_to_shape(Tensor(ds), bias.shape) if wants_bias else None

    return record(Tensor(y), (q, k, v) if bias is None else (q, k, v, bias), backward)


def _composed(q, k, v, bias, mask, scale, causal, cap):
    """The same out of simple ops, with the weights in memory."""
    repeats = q.shape[2] // k.shape[2]
    if repeats > 1:
        k, v = repeat(k, repeats, axis=2), repeat(v, repeats, axis=2)
    q, k, v = transpose(q, (0, 2, 1, 3)), transpose(k, (0, 2, 3, 1)), transpose(v, (0, 2, 1, 3))
    logits = matmul(multiply(q, scale), k)
    logits = logits if bias is None else add(logits, bias)
    if cap is not None:
        logits = divide(logits, add(divide(absolute(logits), float(cap)), 1.0))
    seen = np.tril(np.ones(logits.shape[-2:], bool)) if causal else None
    for visible in (seen, mask):
        if visible is not None:
            logits = where(visible, logits, 0.7 * float(finfo(logits.dtype).min))
    weights = exp(subtract(logits, max(logits, axis=-1, keepdims=True)))
    weights = divide(weights, sum(weights, axis=-1, keepdims=True))
    return transpose(matmul(weights, v), (0, 2, 1, 3))
