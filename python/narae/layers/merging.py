"""Layers and functions that merge several tensors into one."""

import functools
from collections.abc import Sequence

from narae import ops
from narae.layers.arguments import config_of, is_integer, who
from narae.layers.layer import Layer


class _Merge(Layer):
    """Takes a list of tensors; ranks that differ are filled with axes of size 1 after the batch."""

    fewest = 1
    most: int | None = None

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def _check(self, shapes) -> None:
        listed = isinstance(shapes, (list, tuple)) and shapes and not is_integer(shapes[0])
        listed = listed and isinstance(shapes[0], (list, tuple))
        if not listed or not self.fewest <= len(shapes) <= (self.most or len(shapes)):
            count = f"{self.fewest}" if self.most == self.fewest else f"at least {self.fewest}"
            raise ValueError(
                f"{who(self)}: expected a list of {count} tensors. Received: shapes {shapes}"
            )
        if len({shape[0] for shape in shapes if shape} - {None}) > 1:
            raise ValueError(
                f"{who(self)}: expected tensors of one batch size. Received: shapes {shapes}"
            )

    def build(self, input_shape):
        self.compute_output_shape(input_shape)

    def call(self, inputs):
        if not isinstance(inputs, (list, tuple)):
            raise ValueError(f"{who(self)}: expected a list of tensors. Received: {inputs!r}")
        rank = max(len(x.shape) for x in inputs)
        masks = [getattr(x, "mask", None) for x in inputs]
        filled = []
        for x in inputs:
            while len(x.shape) < rank:
                x = ops.expand_dims(x, 1)
            filled.append(x)
        return self._merge(filled, masks)

    def _merge(self, inputs, masks):
        return functools.reduce(self._combine, inputs)

    def _combine(self, x, y):
        raise NotImplementedError

    def compute_output_shape(self, input_shape):
        self._check(input_shape)
        rank = max(len(shape) for shape in input_shape)
        batch = next((shape[0] for shape in input_shape if shape and shape[0] is not None), None)
        rows = [(1,) * (rank - len(shape)) + tuple(shape[1:]) for shape in input_shape]
        sizes = []
        for column in zip(*rows):
            known = {n for n in column if n not in (None, 1)}
            if len(known) > 1:
                raise ValueError(
                    f"{who(self)}: expected tensors whose shapes broadcast. "
                    f"Received: shapes {input_shape}"
                )
            sizes.append(known.pop() if known else None if None in column else 1)
        return (batch, *sizes)

    def compute_mask(self, inputs, mask=None):
        if mask is None or any(m is None for m in mask):
            return None
        return functools.reduce(ops.logical_or, mask)


class Add(_Merge):
    """Sum of a list of tensors, element by element.

    >>> narae.layers.Add()([narae.ops.ones((1, 2)), narae.ops.ones((1, 2))]).numpy()
    array([[2., 2.]], dtype=float32)
    """

    def _combine(self, x, y):
        return x + y


class Subtract(_Merge):
    """Difference of two tensors, element by element."""

    fewest = most = 2

    def _combine(self, x, y):
        return x - y


def _over(mask, x):
    """The mask of the steps, with an axis for the features."""
    return ops.broadcast_to(ops.expand_dims(mask, -1), x.shape)


class Multiply(_Merge):
    """Product of a list of tensors, element by element; masked elements count as 1."""

    def _merge(self, inputs, masks):
        filled = [
            x if mask is None else ops.where(_over(mask, x), x, ops.ones_like(x))
            for x, mask in zip(inputs, masks)
        ]
        output = functools.reduce(ops.multiply, filled)
        if all(mask is not None for mask in masks):
            kept = _over(functools.reduce(ops.logical_or, masks), output)
            output = ops.where(kept, output, ops.zeros_like(output))
        return output


class Average(_Merge):
    """Mean of a list of tensors, element by element."""

    def _merge(self, inputs, masks):
        return functools.reduce(ops.add, inputs) / len(inputs)


class _Extreme(_Merge):
    """Maximum or minimum: a masked element leaves the choice to the others."""

    def _merge(self, inputs, masks):
        output, kept = inputs[0], masks[0]
        for x, mask in zip(inputs[1:], masks[1:]):
            merged = x if mask is None else ops.where(_over(mask, x), x, output)
            if kept is not None:
                output = ops.where(_over(kept, output), output, merged)
            output = self._combine(output, merged)
            kept = ops.logical_or(kept, mask) if kept is not None and mask is not None else None
        return output


class Maximum(_Extreme):
    """Largest of a list of tensors, element by element."""

    def _combine(self, x, y):
        return ops.maximum(x, y)


class Minimum(_Extreme):
    """Smallest of a list of tensors, element by element."""

    def _combine(self, x, y):
        return ops.minimum(x, y)


class Concatenate(_Merge):
    """Joins a list of tensors along an axis; the other axes agree.

    Args:
        axis: the axis to join along.

    >>> x = narae.ops.ones((2, 3))
    >>> narae.layers.Concatenate()([x, x]).shape
    (2, 6)
    """

    def __init__(self, axis: int = -1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis

    def _check(self, shapes):
        # With axis 0 the batch sizes may differ, so the checks of `_Merge` do not all apply.
        listed = isinstance(shapes, (list, tuple)) and shapes
        listed = listed and all(isinstance(shape, (list, tuple)) for shape in shapes)
        ranks = {len(shape) for shape in shapes} if listed else set()
        if len(ranks) != 1 or not -min(ranks) <= self.axis < min(ranks):
            raise ValueError(
                f"{who(self)}: expected a list of tensors of one rank that have the axis "
                f"{self.axis}. Received: shapes {shapes}"
            )

    def compute_output_shape(self, input_shape):
        self._check(input_shape)
        axis = self.axis % len(input_shape[0])
        sizes = []
        for i, column in enumerate(zip(*input_shape)):
            known = set(column) - {None}
            if i == axis:
                sizes.append(None if None in column else sum(column))
            elif len(known) > 1:
                raise ValueError(
                    f"{who(self)}: expected tensors with the same shape except on axis "
                    f"{self.axis}. Received: shapes {input_shape}"
                )
            else:
                sizes.append(known.pop() if known else None)
        return tuple(sizes)

    def call(self, inputs):
        if not isinstance(inputs, (list, tuple)):
            raise ValueError(f"{who(self)}: expected a list of tensors. Received: {inputs!r}")
        return ops.concatenate(inputs, axis=self.axis)

    def compute_mask(self, inputs, mask=None):
        if mask is None or all(m is None for m in mask):
            return None
        masks = []
        for x, m in zip(inputs, mask):
            if m is None:
                m = ops.ones_like(x, dtype="bool")
            elif len(m.shape) < len(x.shape):
                m = _over(m, x)
            masks.append(m)
        return ops.any(ops.concatenate(masks, axis=self.axis), axis=-1)

    def get_config(self):
        return {**super().get_config(), **config_of(self, "axis")}


class Dot(_Merge):
    """Dot products of the samples of two tensors.

    Args:
        axes: the axis to sum over, or a pair of axes, one for each tensor; never the batch.
        normalize: whether to divide by both lengths, for the cosine of the angle.

    >>> x, y = narae.ops.ones((2, 5, 3)), narae.ops.ones((2, 3, 4))
    >>> narae.layers.Dot(axes=(2, 1))([x, y]).shape
    (2, 5, 4)
    """

    fewest = most = 2

    def __init__(self, axes: int | Sequence[int], normalize: bool = False, **kwargs):
        super().__init__(**kwargs)
        if not is_integer(axes):
            if not isinstance(axes, (list, tuple)):
                raise TypeError(
                    f"{who(self)}: expected axes to be an integer or a pair. "
                    f"Received: axes={axes!r}"
                )
            if len(axes) != 2 or not all(is_integer(axis) for axis in axes):
                raise ValueError(
                    f"{who(self)}: expected axes to be an integer or a pair of integers. "
                    f"Received: axes={axes!r}"
                )
        self.axes = axes
        self.normalize = normalize

    def _pair(self, shapes) -> list[int]:
        axes = [self.axes] * 2 if is_integer(self.axes) else self.axes
        pair = [axis % len(shape) for axis, shape in zip(axes, shapes)]
        sizes = {shape[axis] for axis, shape in zip(pair, shapes)} - {None}
        if 0 in pair or len(sizes) > 1 or min(map(len, shapes)) < 2:
            raise ValueError(
                f"{who(self)}: expected axes behind the batch with equal sizes. "
                f"Received: axes={self.axes}, shapes {shapes}"
            )
        return pair

    def call(self, inputs):
        if not isinstance(inputs, (list, tuple)):
            raise ValueError(f"{who(self)}: expected a list of tensors. Received: {inputs!r}")
        x, y = inputs
        i, j = self._pair([x.shape, y.shape])
        if self.normalize:
            x, y = ops.normalize(x, axis=i), ops.normalize(y, axis=j)
        # One letter per axis: `a` the batch, `z` the sum, the rest of x, then of y.
        left = "".join("a" if k == 0 else "z" if k == i else "bcdefgh"[k] for k in range(x.ndim))
        right = "".join("a" if k == 0 else "z" if k == j else "ijklmno"[k] for k in range(y.ndim))
        out = "a" + (left + right).replace("a", "").replace("z", "")
        z = ops.einsum(f"{left},{right}->{out}", x, y)
        return ops.expand_dims(z, -1) if len(z.shape) == 1 else z

    def compute_output_shape(self, input_shape):
        self._check(input_shape)
        i, j = self._pair(input_shape)
        x, y = input_shape
        rest = [n for k, n in enumerate(x) if k not in (0, i)]
        rest += [n for k, n in enumerate(y) if k not in (0, j)]
        return (x[0], *(rest or [1]))

    def compute_mask(self, inputs, mask=None):
        return None

    def get_config(self):
        return {**super().get_config(), **config_of(self, "axes", "normalize")}


def add(inputs, **kwargs):
    """Sum of a list of tensors; see `Add`."""
    return Add(**kwargs)(inputs)


def subtract(inputs, **kwargs):
    """Difference of two tensors; see `Subtract`."""
    return Subtract(**kwargs)(inputs)


def multiply(inputs, **kwargs):
    """Product of a list of tensors; see `Multiply`."""
    return Multiply(**kwargs)(inputs)


def average(inputs, **kwargs):
    """Mean of a list of tensors; see `Average`."""
    return Average(**kwargs)(inputs)


def maximum(inputs, **kwargs):
    """Largest of a list of tensors; see `Maximum`."""
    return Maximum(**kwargs)(inputs)


def minimum(inputs, **kwargs):
    """Smallest of a list of tensors; see `Minimum`."""
    return Minimum(**kwargs)(inputs)


def concatenate(inputs, axis: int = -1, **kwargs):
    """Joins a list of tensors along an axis; see `Concatenate`."""
    return Concatenate(axis=axis, **kwargs)(inputs)


def dot(inputs, axes=-1, **kwargs):
    """Dot products of the samples of two tensors; see `Dot`."""
    return Dot(axes=axes, **kwargs)(inputs)
