"""Scaled dot-product attention: q (B, T, H, D), k (B, S, G, D), v (B, S, G, E) -> y (B, T, H, E).

H / G query heads in a row share one head of k and v. A query that may look at no key gives zeros.
"""

import math

import numpy as np

from .elementwise import unbroadcast


def _per_query_head(x, heads):
    return np.repeat(x, heads // x.shape[2], 2)  # (B, S, G, D) -> (B, S, H, D)


def _sum_groups(dx, groups):
    b, s, h, d = dx.shape
    return dx.reshape(b, s, groups, h // groups, d).sum(3)


def _scale(q, scale):
    return 1 / math.sqrt(q.shape[-1]) if scale is None else scale


def weights(q, k, bias=None, mask=None, scale=None, causal=False):
    """p = softmax over the keys that may be seen of scale * q . k + bias: (B, H, T, S).

    bias and the boolean mask broadcast against (B, H, T, S); query t sees key s where mask holds
    and, when causal, s <= t.
    """
    k = _per_query_head(k, q.shape[2])
    logits = _scale(q, scale) * np.einsum("bthd,bshd->bhts", q, k)
    logits = logits if bias is None else logits + bias
    seen = np.ones(logits.shape[-2:], bool)
    seen = np.tril(seen) if causal else seen
    seen = seen if mask is None else seen & mask
    logits = np.where(seen, logits, -np.inf)
    m = logits.max(-1, keepdims=True)
    e = np.exp(logits - np.where(np.isfinite(m), m, 0))
    total = e.sum(-1, keepdims=True)
    return e / np.where(total == 0, 1, total)


def dot_product_attention(
    q, k, v, bias=None, mask=None, scale=None, causal=False, keep=None, rate=0.0
):
    """y = (p * keep / (1 - rate)) @ v, p = weights(...), keep a boolean array like p."""
    p = weights(q, k, bias, mask, scale, causal)
    p = p if keep is None else p * keep / (1 - rate)
    return np.einsum("bhts,bshe->bthe", p, _per_query_head(v, q.shape[2]))


def dot_product_attention_backward(
    dy, q, k, v, bias=None, mask=None, scale=None, causal=False, keep=None, rate=0.0
):
    """dq = scale * ds @ k, dk = scale * ds^T @ q, dv = p^T @ dy, dbias = ds, where

    dp = dy @ v^T, ds = p * (dp - sum(p * dp)).
    sum(p * dp) = dy . y for each query: what a kernel that does not keep p uses.
    """
    heads, groups, scale = q.shape[2], k.shape[2], _scale(q, scale)
    p = weights(q, k, bias, mask, scale, causal)
    dropped = 1.0 if keep is None else keep / (1 - rate)
    dp = dropped * np.einsum("bthe,bshe->bhts", dy, _per_query_head(v, heads))
    ds = p * (dp - (p * dp).sum(-1, keepdims=True))
    dq = scale * np.einsum("bhts,bshd->bthd", ds, _per_query_head(k, heads))
    dk = scale * np.einsum("bhts,bthd->bshd", ds, q)
    dv = np.einsum("bhts,bthe->bshe", p * dropped, dy)
    dbias = None if bias is None else unbroadcast(ds, bias.shape)
    return dq, _sum_groups(dk, groups), _sum_groups(dv, groups), dbias
