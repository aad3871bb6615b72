"""Matrix products: matmul and the dense layer's fused product, bias and activation."""

import numpy as np

from .elementwise import unbroadcast
from .unary import unary, unary_backward


def _oriented(x, transpose):
    return np.swapaxes(x, -1, -2) if transpose else x


def matmul(a, b, transpose_a=False, transpose_b=False):
    """y = op(a) @ op(b): (..., M, K) @ (..., K, N) -> (..., M, N).

    Leading axes broadcast, vectors are as in NumPy, a set flag swaps that op's last two axes.
    """
    return np.matmul(_oriented(a, transpose_a), _oriented(b, transpose_b))


def matmul_backward(dy, a, b, transpose_a=False, transpose_b=False):
    """da = dy @ b^T, db = a^T @ dy, summed over the axes that were broadcast."""
    a_op = _oriented(a, transpose_a) if a.ndim > 1 else a[None, :]  # (..., M, K)
    b_op = _oriented(b, transpose_b) if b.ndim > 1 else b[:, None]  # (..., K, N)
    dy = np.asarray(dy)
    dy = np.expand_dims(dy, -1) if b.ndim == 1 else dy
    dy = np.expand_dims(dy, -2) if a.ndim == 1 else dy  # (..., M, N)
    da = unbroadcast(dy @ np.swapaxes(b_op, -1, -2), a_op.shape)
    db = unbroadcast(np.swapaxes(a_op, -1, -2) @ dy, b_op.shape)
    da = _oriented(da, transpose_a) if a.ndim > 1 else da[0]
    db = _oriented(db, transpose_b) if b.ndim > 1 else db[:, 0]
    return da, db


def dense(x, w, b=None, activation="linear", **params):
    """y = activation(x @ w + b): x (..., K), w (K, N), b (N,) -> y (..., N)."""
    return unary(x @ w + (0 if b is None else b), activation, **params)


def dense_backward(dy, x, w, b=None, activation="linear", **params):
    """dz = dy * activation'(z), dx = dz @ w^T, dw = x^T @ dz, db = sum of dz over the rows."""
    dz = unary_backward(dy, x @ w + (0 if b is None else b), activation, **params)  # (..., N)
    rows = dz.reshape(-1, dz.shape[-1])
    dw = x.reshape(-1, x.shape[-1]).T @ rows
    return dz @ w.T, dw, None if b is None else rows.sum(0)


def einsum(a, b, equation):
    """y = einsum of "ab,bc->ac" and the like: no ellipsis, no index twice in one operand."""
    return np.einsum(equation, a, b)


def einsum_backward(dy, a, b, equation):
    """da = einsum of dy and b onto a's indices, repeated along those that only a has."""
    inputs, y = equation.replace(" ", "").split("->")
    a_indices, b_indices = inputs.split(",")
    sizes = dict(zip(a_indices + b_indices, a.shape + b.shape, strict=True))

    def onto(wanted, other, other_indices):
        summed = "".join(i for i in wanted if i not in y + other_indices)
        ones = np.ones([sizes[i] for i in summed])
        return np.einsum(f"{y},{other_indices},{summed}->{wanted}", dy, other, ones)

    return onto(a_indices, b, b_indices), onto(b_indices, a, a_indices)
