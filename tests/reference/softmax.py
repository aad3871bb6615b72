"""Softmax, log-softmax, and the cross-entropies that take logits."""

import numpy as np


def _shifted(x, axis):
    return x - x.max(axis, keepdims=True)


def softmax(x, axis=-1):
    """y = exp(x - m) / sum(exp(x - m)), m = max(x), along the axis (an int or several)."""
    e = np.exp(_shifted(x, axis))
    return e / e.sum(axis, keepdims=True)


def softmax_backward(dy, x, axis=-1):
    """dx = y * (dy - sum(y * dy))."""
    y = softmax(x, axis)
    return y * (dy - (y * dy).sum(axis, keepdims=True))


def log_softmax(x, axis=-1):
    """y = x - m - log(sum(exp(x - m)))."""
    x = _shifted(x, axis)
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


def log_softmax_backward(dy, x, axis=-1):
    """dx = dy - softmax(x) * sum(dy)."""
    return dy - softmax(x, axis) * dy.sum(axis, keepdims=True)


def sparsemax(x, axis=-1):
    """The point of the probability simplex nearest to x: y = max(x - tau, 0), sum(y) = 1."""
    x = np.moveaxis(x, axis, -1)
    z = -np.sort(-x, -1)  # descending
    k = np.arange(1, x.shape[-1] + 1)
    taus = (z.cumsum(-1) - 1) / k
    count = (z > taus).sum(-1, keepdims=True)  # size of the support
    y = np.maximum(x - np.take_along_axis(taus, count - 1, -1), 0)
    return np.moveaxis(y, -1, axis)


def sparsemax_backward(dy, x, axis=-1):
    """dx = dy - mean(dy over the support) on the support, zero outside."""
    support = sparsemax(x, axis) > 0
    mean = (dy * support).sum(axis, keepdims=True) / support.sum(axis, keepdims=True)
    return support * (dy - mean)


def softmax_crossentropy(x, target):
    """y[n] = -sum_c target[n, c] * log_softmax(x)[n, c]: x, target (..., C) -> y (...)."""
    return -(target * log_softmax(x)).sum(-1)


def softmax_crossentropy_backward(dy, x, target):
    """dx = dy * (softmax(x) * sum(target) - target), dtarget = -dy * log_softmax(x)."""
    dy = np.expand_dims(dy, -1)
    dx = dy * (softmax(x) * target.sum(-1, keepdims=True) - target)
    return dx, -dy * log_softmax(x)


def sparse_softmax_crossentropy(x, labels):
    """y[n] = -log_softmax(x)[n, labels[n]]: x (..., C), integer labels (...) -> y (...)."""
    return softmax_crossentropy(x, np.eye(x.shape[-1])[labels])


def sparse_softmax_crossentropy_backward(dy, x, labels):
    """dx = dy * (softmax(x) - one_hot(labels))."""
    return softmax_crossentropy_backward(dy, x, np.eye(x.shape[-1])[labels])[0]


def sigmoid_crossentropy(x, target):
    """y = -target * log(s) - (1 - target) * log(1 - s), s = sigmoid(x), element by element."""
    return np.maximum(x, 0) - x * target + np.log1p(np.exp(-np.abs(x)))


def sigmoid_crossentropy_backward(dy, x, target):
    """dx = dy * (sigmoid(x) - target), dtarget = -dy * x."""
    return dy * (np.exp(-np.logaddexp(0, -x)) - target), -dy * x
