"""Convolutions of any rank, channels last, with Keras's kernel layouts and paddings.

S, K and O stand for one or more spatial axes: x (N, *S, C), w (*K, C / groups, F), y (N, *O, F).
Everything goes tap by tap: for each of the kernel's positions, one strided view of the padded x
and one small matrix product. The gradient walks the same taps.
"""

import math

import numpy as np


def _each(value, rank):
    return (value,) * rank if np.ndim(value) == 0 else tuple(value)


def pad_widths(size, kernel, strides, dilation, padding):
    """(before, after) of each spatial axis; "same" puts the odd cell after, pairs are kept."""
    if not isinstance(padding, str):
        return tuple(tuple(pair) for pair in padding)
    widths = []
    for s, k, stride, d in zip(size, kernel, strides, dilation, strict=True):
        reach = (k - 1) * d + 1  # cells from the first to the last tap
        if padding == "same":
            total = max((-(-s // stride) - 1) * stride + reach - s, 0)
            widths.append((total // 2, total - total // 2))
        else:
            widths.append({"valid": (0, 0), "causal": (reach - 1, 0)}[padding])
    return tuple(widths)


def pad(x, widths, value=0.0):
    """x (N, *S, C) with its spatial axes padded."""
    return np.pad(x, ((0, 0), *widths, (0, 0)), constant_values=value)


def crop(x, widths):
    """The inverse of pad."""
    inner = tuple(slice(lo, size - hi) for (lo, hi), size in zip(widths, x.shape[1:], strict=False))
    return x[(slice(None), *inner)]


def taps(size, kernel, strides, dilation):
    """(k, view) for each kernel position k: view picks the cells of x (N, *size, C) it meets."""
    outs = [
        (s - (k - 1) * d - 1) // stride + 1
        for s, k, stride, d in zip(size, kernel, strides, dilation, strict=True)
    ]
    for position in np.ndindex(*kernel):
        cells = zip(position, dilation, strides, outs, strict=True)
        view = [slice(k * d, k * d + (out - 1) * stride + 1, stride) for k, d, stride, out in cells]
        yield position, (slice(None), *view)


def _plan(x, w, strides, padding, dilation):
    rank = x.ndim - 2
    strides, dilation = _each(strides, rank), _each(dilation, rank)
    widths = pad_widths(x.shape[1:-1], w.shape[:rank], strides, dilation, padding)
    size = [s + lo + hi for s, (lo, hi) in zip(x.shape[1:-1], widths, strict=True)]
    return widths, list(taps(size, w.shape[:rank], strides, dilation))


def _split(x, groups):
    return x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)


def _join(x):
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def _rows(x, kept):
    """x with all but its last axes in one."""
    return x.reshape(math.prod(x.shape[:-kept]), *x.shape[-kept:])


def conv(x, w, b=None, strides=1, padding="valid", dilation=1):
    """y[n, o, f] = b[f] + sum_kc x[n, o * stride + k * dilation - before, c] * w[k, c, f].

    groups = C / w.shape[-2]: the channels and the filters are cut into so many equal runs.
    """
    widths, steps = _plan(x, w, strides, padding, dilation)
    groups = x.shape[-1] // w.shape[-2]
    x = _split(pad(x, widths), groups)
    w = _split(w, groups)  # (*K, C / G, G, F / G)
    y = sum(np.einsum("n...gc,cgf->n...gf", x[view], w[k]) for k, view in steps)
    return _join(y) + (0 if b is None else b)


def conv_backward(dy, x, w, b=None, strides=1, padding="valid", dilation=1):
    """dx[view_k] += dy @ w[k]^T, dw[k] = x[view_k]^T @ dy, db = sum of dy over all but F."""
    widths, steps = _plan(x, w, strides, padding, dilation)
    groups = x.shape[-1] // w.shape[-2]
    x_g, w_g, dy_g = _split(pad(x, widths), groups), _split(w, groups), _split(dy, groups)
    dx, dw = np.zeros_like(x_g), np.zeros_like(w_g)
    for k, view in steps:
        dx[view] += np.einsum("n...gf,cgf->n...gc", dy_g, w_g[k])
        dw[k] = np.einsum("rgc,rgf->cgf", _rows(x_g[view], 2), _rows(dy_g, 2))
    dx = crop(_join(dx), widths)
    db = None if b is None else _rows(dy, 1).sum(0)
    return dx, dw.reshape(w.shape), db


def _one_channel_groups(w):
    return w.reshape(*w.shape[:-2], 1, -1)  # (*K, C, M) -> (*K, 1, C * M)


def depthwise_conv(x, w, b=None, strides=1, padding="valid", dilation=1):
    """Each channel by itself: w (*K, C, M), y (N, *O, C * M) with c's M results side by side."""
    return conv(x, _one_channel_groups(w), b, strides, padding, dilation)


def depthwise_conv_backward(dy, x, w, b=None, strides=1, padding="valid", dilation=1):
    """dx, dw, db."""
    dx, dw, db = conv_backward(dy, x, _one_channel_groups(w), b, strides, padding, dilation)
    return dx, dw.reshape(w.shape), db


def separable_conv(x, w, p, b=None, strides=1, padding="valid", dilation=1):
    """A depthwise convolution with w (*K, C, M), then a pointwise one with p (*1, C * M, F)."""
    return conv(depthwise_conv(x, w, None, strides, padding, dilation), p, b)


def separable_conv_backward(dy, x, w, p, b=None, strides=1, padding="valid", dilation=1):
    """dx, dw, dp, db."""
    inner = depthwise_conv(x, w, None, strides, padding, dilation)
    dinner, dp, db = conv_backward(dy, inner, p, b)
    dx, dw, _ = depthwise_conv_backward(dinner, x, w, None, strides, padding, dilation)
    return dx, dw, dp, db


def transpose_extent(size, kernel, stride, dilation, padding, output_padding=None):
    """(cells cut off before, output size) of one axis of conv_transpose, as Keras has them.

    valid: (size - 1) * stride + reach + output_padding, by default max(stride - reach, 0);
    same: size * stride, or (size - 1) * stride + reach % 2 + output_padding when that is given.
    """
    reach = (kernel - 1) * dilation + 1
    if padding == "valid":
        extra = max(stride - reach, 0) if output_padding is None else output_padding
        return 0, (size - 1) * stride + reach + extra
    beyond = stride - 1 if output_padding is None else reach % 2 + output_padding - 1
    before = min(-(-(beyond + reach - 1) // 2), reach - 1)
    return reach - 1 - before, (size - 1) * stride + 1 + beyond


def _transpose_plan(x, w, strides, padding, output_padding, dilation):
    rank = x.ndim - 2
    strides, dilation = _each(strides, rank), _each(dilation, rank)
    extents = zip(
        x.shape[1:-1],
        w.shape[:rank],
        strides,
        dilation,
        (padding,) * rank,
        _each(output_padding, rank),
        strict=True,
    )
    before, outs = zip(*[transpose_extent(*extent) for extent in extents], strict=True)
    spans = list(zip(x.shape[1:-1], w.shape[:rank], strides, dilation, strict=True))
    full = [(s - 1) * stride + (k - 1) * d + 1 for s, k, stride, d in spans]
    size = [max(f, lo + out) for f, lo, out in zip(full, before, outs, strict=True)]
    widths = [(lo, s - lo - out) for lo, s, out in zip(before, size, outs, strict=True)]
    return size, widths, list(taps(full, w.shape[:rank], strides, dilation))


def conv_transpose(x, w, b=None, strides=1, padding="valid", output_padding=None, dilation=1):
    """y[n, i * stride + k * dilation - before, f] += x[n, i, c] * w[k, f, c]: the adjoint of conv.

    x (N, *S, C), w (*K, F, C), y (N, *O, F); O and before are those of transpose_extent.
    """
    size, widths, steps = _transpose_plan(x, w, strides, padding, output_padding, dilation)
    y = np.zeros((x.shape[0], *size, w.shape[-2]))
    for k, view in steps:
        y[view] += x @ w[k].T
    return crop(y, widths) + (0 if b is None else b)


def conv_transpose_backward(
    dy, x, w, b=None, strides=1, padding="valid", output_padding=None, dilation=1
):
    """dx = sum_k dy[view_k] @ w[k], dw[k] = dy[view_k]^T @ x, db = sum of dy over all but F."""
    _, widths, steps = _transpose_plan(x, w, strides, padding, output_padding, dilation)
    dy_full = pad(dy, widths)
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for k, view in steps:
        dx += dy_full[view] @ w[k]
        dw[k] = _rows(dy_full[view], 1).T @ _rows(x, 1)
    return dx, dw, None if b is None else _rows(dy, 1).sum(0)
