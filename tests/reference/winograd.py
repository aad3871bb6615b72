"""Winograd's algorithm for convolutions of stride 1 with 3, 4 or 5 taps along an axis, or 1.

A strided one becomes one of stride 1 over blocks of cells first.

With size=np.abs everything is taken in absolute values: what the rounding errors are relative to,
as they are to |x| * |w| for a direct sum.
"""

import itertools
import math

import numpy as np

from reference.conv import crop, pad, pad_widths

POINTS = (0.0, 0.625, -0.625, 1.5, -1.5)  # and infinity


def matrices(taps):
    """A (6, outputs), B (6, 6), G (6, taps): A^T [(G w) * (B^T x)] is x filtered with w."""
    if taps == 1:
        return (np.ones((1, 1)),) * 3
    outputs = 7 - taps
    a, b, g = np.zeros((6, outputs)), np.zeros((6, 6)), np.zeros((6, taps))
    for i, p in enumerate(POINTS):
        others = [q for q in POINTS if q != p]
        a[i], g[i] = (
            p ** np.arange(outputs),
            p ** np.arange(taps) / math.prod(p - q for q in others),
        )
        b[:5, i] = np.poly(others)[::-1]
    a[5, -1] = g[5, -1] = 1
    b[:, 5] = np.poly(POINTS)[::-1]
    return a, b, g


def transform(x, *transforms):
    """x (rows, *S, columns) with a matrix applied along each of its spatial axes."""
    for axis, m in enumerate(transforms, 1):
        x = np.moveaxis(np.tensordot(m, x, (1, axis)), 0, axis)
    return x


class Tiles:
    """How x (N, *S, C) and y (N, *O, F) of a convolution with w (*K, C, F) are cut in tiles."""

    def __init__(self, x_shape, kernel, padding, size):
        self.size, self.x_size, ones = size, x_shape[1:-1], (1,) * len(kernel)
        self.widths = pad_widths(self.x_size, kernel, ones, ones, padding)
        self.a, self.b, self.g = zip(*(map(size, matrices(k)) for k in kernel), strict=True)
        axes = list(zip(self.x_size, self.widths, kernel, strict=True))
        self.y_size = [s + lo + hi - k + 1 for s, (lo, hi), k in axes]
        self.outputs = [m.shape[1] for m in self.a]  # of a tile
        self.count = [-(-out // m) for out, m in zip(self.y_size, self.outputs, strict=True)]

    def cut(self, x, before, reach):
        """(N * tiles, *reach, C): the tiles, each self.outputs cells after the last one."""
        step = self.outputs
        ends = [(n - 1) * s + r for n, s, r in zip(self.count, step, reach, strict=True)]
        x = crop(self.size(x), [(max(-lo, 0), 0) for lo in before])
        spans = zip(before, ends, x.shape[1:], strict=False)
        x = pad(x, [(max(lo, 0), max(end - s - lo, 0)) for lo, end, s in spans])
        found = []
        for at in itertools.product(*map(range, self.count)):
            cells = [slice(i * s, i * s + r) for i, s, r in zip(at, step, reach, strict=True)]
            found.append(x[(slice(None), *cells)])
        return np.concatenate(found)

    def inputs(self, x):
        """B^T x B of each tile."""
        before, reach = [lo for lo, _ in self.widths], [len(b) for b in self.b]
        return transform(self.cut(x, before, reach), *(b.T for b in self.b))

    def output_gradients(self, dy):
        """A dy A^T of each tile."""
        return transform(self.cut(dy, [0] * len(self.count), self.outputs), *self.a)

    def join(self, tiles):
        """The inverse of cut for outputs."""
        N = len(tiles) // math.prod(self.count)
        y = np.zeros((N, *(n * m for n, m in zip(self.count, self.outputs)), tiles.shape[-1]))
        for i, at in enumerate(itertools.product(*map(range, self.count))):
            cells = [slice(j * m, (j + 1) * m) for j, m in zip(at, self.outputs, strict=True)]
            y[(slice(None), *cells)] = tiles[i * N : (i + 1) * N]
        return y[(slice(None), *map(slice, self.y_size))]


def conv(x, w, padding="valid", size=np.asarray):
    """y[tile] = A^T [ sum_c (G w_c G^T) * (B^T x_c B) ] A."""
    kernel = w.shape[:-2]
    tiles = Tiles(x.shape, kernel, padding, size)
    u = transform(size(w).reshape(1, *kernel, -1), *tiles.g)[0]
    u = u.reshape(*u.shape[:-1], *w.shape[-2:])
    products = np.einsum("t...c,...cf->t...f", tiles.inputs(x), u)
    return tiles.join(transform(products, *(a.T for a in tiles.a)))


def conv_backward(dy, x, w, padding="valid", size=np.asarray):
    """dx: dy convolved with w turned and transposed. dw = G^T [ sum (B^T x B) * (A dy A^T) ] G."""
    kernel = w.shape[:-2]
    tiles = Tiles(x.shape, kernel, padding, size)
    turned = np.swapaxes(w[(slice(None, None, -1),) * len(kernel)], -1, -2)
    back = [(k - 1 - lo, k - 1 - hi) for k, (lo, hi) in zip(kernel, tiles.widths, strict=True)]
    dw = np.einsum("t...c,t...f->...cf", tiles.inputs(x), tiles.output_gradients(dy))
    dw = transform(dw.reshape(1, *dw.shape[:-2], -1), *(g.T for g in tiles.g))
    return conv(dy, turned, back, size), dw.reshape(w.shape)


def to_blocks(x, strides):
    """(N, *S, C) -> (N, *S / strides, strides * C): the cells that a step of the stride passes."""
    rank = len(strides)
    sizes = [(n // s, s) for n, s in zip(x.shape[1:-1], strides, strict=True)]
    x = x.reshape(len(x), *itertools.chain(*sizes), x.shape[-1])
    x = x.transpose(0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
    return x.reshape(len(x), *(n for n, _ in sizes), -1)


def from_blocks(x, strides):
    """The inverse of to_blocks."""
    rank, size = len(strides), x.shape[1:-1]
    x = x.reshape(len(x), *size, *strides, -1)
    pairs = [(1 + axis, 1 + rank + axis) for axis in range(rank)]
    x = x.transpose(0, *itertools.chain(*pairs), 2 * rank + 1)
    return x.reshape(len(x), *(n * s for n, s in zip(size, strides, strict=True)), -1)


def over_blocks(x, w, strides, padding):
    """x' and w' of stride 1 and without padding that give the same y as a strided x and w."""
    kernel = w.shape[:-2]
    widths = pad_widths(x.shape[1:-1], kernel, strides, (1,) * len(kernel), padding)
    x = pad(x, widths)
    axes = list(zip(x.shape[1:-1], kernel, strides, strict=True))
    ends = [((n - k) // s - (-k // s)) * s - n for n, k, s in axes]
    x = crop(pad(x, [(0, max(end, 0)) for end in ends]), [(0, max(-end, 0)) for end in ends])
    u = pad(w.reshape(1, *kernel, -1), [(0, -k % s) for _, k, s in axes])
    u = to_blocks(u, strides)[0]
    return to_blocks(x, strides), u.reshape(*u.shape[:-1], -1, w.shape[-1])


def strided_conv(x, w, strides, padding="valid", size=np.asarray):
    """conv with strides, for any number of taps."""
    return conv(*over_blocks(x, w, strides, padding), size=size)


def strided_filter_gradient(dy, x, w, strides, padding="valid", size=np.asarray):
    """dw is read off the filter gradient over blocks."""
    dw = conv_backward(dy, *over_blocks(x, w, strides, padding), size=size)[1]
    dw = from_blocks(dw.reshape(1, *dw.shape[: len(strides)], -1), strides)
    return crop(dw, [(0, -k % s) for k, s in zip(w.shape, strides, strict=False)]).reshape(w.shape)
