"""Normalizations: all are x_hat = (x - mean) / sqrt(var + epsilon) over some axes, then scaled.

The variance is the population's (divided by the count). gamma and beta may be None.
"""

import numpy as np


def _standardize(x, axes, epsilon, weight=1.0):
    """x_hat and r = 1 / sqrt(var + epsilon), moments over axes of the elements with weight one."""
    share = weight / (np.ones_like(x) * weight).sum(axes, keepdims=True)
    mean = (share * x).sum(axes, keepdims=True)
    r = 1 / np.sqrt((share * (x - mean) ** 2).sum(axes, keepdims=True) + epsilon)
    return (x - mean) * r, r


def _standardize_backward(dx_hat, x, axes, epsilon, weight=1.0):
    """dx = r * (dx_hat - (sum(dx_hat) + x_hat * sum(dx_hat * x_hat)) / count)."""
    share = weight / (np.ones_like(x) * weight).sum(axes, keepdims=True)
    x_hat, r = _standardize(x, axes, epsilon, weight)
    sums = dx_hat.sum(axes, keepdims=True) + x_hat * (dx_hat * x_hat).sum(axes, keepdims=True)
    return r * (dx_hat - share * sums)


def _axes(axis, ndim):
    return tuple(a % ndim for a in np.atleast_1d(axis))


def _others(axis, ndim):
    return tuple(a for a in range(ndim) if a not in _axes(axis, ndim))


def _parameter(p, axis, ndim):
    """p, shaped like the named axes of x, as an array that broadcasts against x."""
    return np.expand_dims(p, _others(axis, ndim))


def _affine(x_hat, gamma, beta, axis):
    y = x_hat if gamma is None else x_hat * _parameter(gamma, axis, x_hat.ndim)
    return y if beta is None else y + _parameter(beta, axis, x_hat.ndim)


def _affine_backward(dy, x_hat, gamma, beta, axis):
    """dx_hat = dy * gamma, dgamma = sum(dy * x_hat), dbeta = sum(dy), over the axes not named."""
    others = _others(axis, dy.ndim)
    dx_hat = dy if gamma is None else dy * _parameter(gamma, axis, dy.ndim)
    dgamma = None if gamma is None else (dy * x_hat).sum(others)
    return dx_hat, dgamma, None if beta is None else dy.sum(others)


def layer_normalization(x, gamma=None, beta=None, axis=-1, epsilon=1e-3):
    """y = gamma * x_hat + beta, moments over the axes, gamma and beta of their shape."""
    x_hat, _ = _standardize(x, _axes(axis, x.ndim), epsilon)
    return _affine(x_hat, gamma, beta, axis)


def layer_normalization_backward(dy, x, gamma=None, beta=None, axis=-1, epsilon=1e-3):
    """dx, dgamma, dbeta."""
    x_hat, _ = _standardize(x, _axes(axis, x.ndim), epsilon)
    dx_hat, dgamma, dbeta = _affine_backward(dy, x_hat, gamma, beta, axis)
    return _standardize_backward(dx_hat, x, _axes(axis, x.ndim), epsilon), dgamma, dbeta


def batch_normalization_training(x, gamma=None, beta=None, axis=-1, epsilon=1e-3, mask=None):
    """y = gamma * x_hat + beta, moments over every axis but one, gamma and beta (C,).

    mask, a boolean array that broadcasts against x, keeps elements out of the moments.
    """
    weight = 1.0 if mask is None else mask
    x_hat, _ = _standardize(x, _others(axis, x.ndim), epsilon, weight)
    return _affine(x_hat, gamma, beta, axis)


def batch_normalization_training_backward(
    dy, x, gamma=None, beta=None, axis=-1, epsilon=1e-3, mask=None
):
    """dx, dgamma, dbeta."""
    weight = 1.0 if mask is None else mask
    x_hat, _ = _standardize(x, _others(axis, x.ndim), epsilon, weight)
    dx_hat, dgamma, dbeta = _affine_backward(dy, x_hat, gamma, beta, axis)
    dx = _standardize_backward(dx_hat, x, _others(axis, x.ndim), epsilon, weight)
    return dx, dgamma, dbeta


def batch_normalization(x, mean, variance, gamma=None, beta=None, axis=-1, epsilon=1e-3):
    """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, with given moments (C,)."""
    mean, variance = _parameter(mean, axis, x.ndim), _parameter(variance, axis, x.ndim)
    return _affine((x - mean) / np.sqrt(variance + epsilon), gamma, beta, axis)


def batch_normalization_backward(
    dy, x, mean, variance, gamma=None, beta=None, axis=-1, epsilon=1e-3
):
    """dx = dx_hat * r, dmean = -sum(dx), dvariance = -sum(dx * x_hat) * r / 2, dgamma, dbeta."""
    others = _others(axis, x.ndim)
    r = 1 / np.sqrt(_parameter(variance, axis, x.ndim) + epsilon)
    x_hat = (x - _parameter(mean, axis, x.ndim)) * r
    dx_hat, dgamma, dbeta = _affine_backward(dy, x_hat, gamma, beta, axis)
    dx = dx_hat * r
    return dx, -dx.sum(others), -(dx * x_hat * r / 2).sum(others), dgamma, dbeta


def _grouped(x, groups):
    """x (N, ..., C) as (N, ..., G, C / G), and the axes that one group spans: all but N and G."""
    x = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    return x, (*range(1, x.ndim - 2), x.ndim - 1)


def group_normalization(x, gamma=None, beta=None, groups=1, epsilon=1e-3):
    """y = gamma * x_hat + beta: x (N, ..., C), moments over the positions and a group's channels.

    groups = C is instance normalization.
    """
    x_hat, _ = _standardize(*_grouped(x, groups), epsilon)
    return _affine(x_hat.reshape(x.shape), gamma, beta, -1)


def group_normalization_backward(dy, x, gamma=None, beta=None, groups=1, epsilon=1e-3):
    """dx, dgamma, dbeta."""
    x_hat, _ = _standardize(*_grouped(x, groups), epsilon)
    dx_hat, dgamma, dbeta = _affine_backward(dy, x_hat.reshape(x.shape), gamma, beta, -1)
    dx = _standardize_backward(_grouped(dx_hat, groups)[0], *_grouped(x, groups), epsilon)
    return dx.reshape(x.shape), dgamma, dbeta


def rms_normalization(x, gamma=None, axis=-1, epsilon=1e-6):
    """y = gamma * x * r, r = 1 / sqrt(mean(x^2) + epsilon) over the axes."""
    mean = (x * x).mean(_axes(axis, x.ndim), keepdims=True)
    return _affine(x / np.sqrt(mean + epsilon), gamma, None, axis)


def rms_normalization_backward(dy, x, gamma=None, axis=-1, epsilon=1e-6):
    """dx = r * (dx_hat - x_hat * mean(dx_hat * x_hat)), dgamma."""
    axes = _axes(axis, x.ndim)
    r = 1 / np.sqrt((x * x).mean(axes, keepdims=True) + epsilon)
    dx_hat, dgamma, _ = _affine_backward(dy, x * r, gamma, None, axis)
    return r * (dx_hat - x * r * (dx_hat * x * r).mean(axes, keepdims=True)), dgamma
