"""Layers that move, pad, crop, repeat and upsample without weights."""

import math
from collections.abc import Sequence

import numpy as np

from narae import ops
from narae.engine.tensor import KerasTensor
from narae.layers.arguments import (
    check_data_format,
    config_of,
    image_shape,
    int_pairs,
    int_tuple,
    is_integer,
    one_of,
    positive,
    spatial_shape,
    who,
)
from narae.layers.input_spec import InputSpec
from narae.layers.layer import Layer


class _Rearranging(Layer):
    """A layer that moves values as they are, integers too."""

    def compute_output_spec(self, inputs):
        return KerasTensor(self.compute_output_shape(inputs.shape), inputs.dtype)


class Flatten(_Rearranging):
    """Flattens everything behind the batch axis: (batch, a, b, ...) to (batch, a * b * ...).

    Args:
        data_format: "channels_first" moves the channels last before flattening.

    >>> narae.layers.Flatten()(narae.ops.zeros((2, 3, 4))).shape
    (2, 12)
    """

    def __init__(self, data_format: str | None = None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = check_data_format(self, data_format)
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs):
        rank = len(inputs.shape)
        if self.data_format == "channels_first" and rank > 2:
            inputs = ops.transpose(inputs, (0, *range(2, rank), 1))
        return ops.reshape(inputs, (inputs.shape[0], math.prod(inputs.shape[1:])))

    def compute_output_shape(self, input_shape):
        rest = input_shape[1:]
        return (input_shape[0], None if None in rest else math.prod(rest))

    def get_config(self):
        return {**super().get_config(), **config_of(self, "data_format")}


class Reshape(_Rearranging):
    """Reshapes everything behind the batch axis.

    Args:
        target_shape: tuple of integers without the batch axis; one may be -1.

    >>> narae.layers.Reshape((-1, 2))(narae.ops.zeros((5, 6))).shape
    (5, 3, 2)
    """

    def __init__(self, target_shape: Sequence[int], **kwargs):
        super().__init__(**kwargs)
        self.target_shape = tuple(target_shape)
        sizes = self.target_shape
        if not all(is_integer(n) and n >= -1 for n in sizes) or sizes.count(-1) > 1:
            raise ValueError(
                f"{who(self)}: expected target_shape to hold non-negative integers and at most "
                f"one -1. Received: target_shape={self.target_shape}"
            )

    def _resolve(self, input_shape) -> tuple:
        rest = tuple(input_shape[1:])
        if None in rest:
            return tuple(None if n == -1 else n for n in self.target_shape)
        size, known = math.prod(rest), math.prod(n for n in self.target_shape if n != -1)
        if -1 in self.target_shape and known and size % known == 0:
            return tuple(size // known if n == -1 else n for n in self.target_shape)
        if -1 in self.target_shape or size != known:
            raise ValueError(
                f"{who(self)}: expected target_shape to hold as many values as the input "
                f"({size} per sample). Received: inputs.shape={tuple(input_shape)}, "
                f"target_shape={self.target_shape}"
            )
        return self.target_shape

    def call(self, inputs):
        return ops.reshape(inputs, (inputs.shape[0], *self._resolve(inputs.shape)))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self._resolve(input_shape))

    def get_config(self):
        return {**super().get_config(), **config_of(self, "target_shape")}


class Permute(_Rearranging):
    """Permutes the axes behind the batch axis.

    Args:
        dims: the input's axes in their new order, counted from 1: `(2, 1)` swaps the first two.

    >>> narae.layers.Permute((2, 1))(narae.ops.zeros((1, 10, 64))).shape
    (1, 64, 10)
    """

    def __init__(self, dims: Sequence[int], **kwargs):
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(
                f"{who(self)}: expected dims to hold each of 1..n once. Received: dims={dims}"
            )
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)

    def call(self, inputs):
        return ops.transpose(inputs, (0, *self.dims))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *(input_shape[d] for d in self.dims))

    def get_config(self):
        return {**super().get_config(), **config_of(self, "dims")}


class RepeatVector(_Rearranging):
    """Repeats each row n times: (batch, features) to (batch, n, features).

    Args:
        n: number of repeats.
    """

    def __init__(self, n: int, **kwargs):
        super().__init__(**kwargs)
        if not is_integer(n):
            raise TypeError(f"{who(self)}: expected n to be an integer. Received: n={n!r}")
        self.n = positive(self, "n", n)
        self.input_spec = InputSpec(ndim=2)

    def call(self, inputs):
        return ops.repeat(ops.expand_dims(inputs, 1), self.n, axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.n, input_shape[1])

    def get_config(self):
        return {**super().get_config(), **config_of(self, "n")}


class _Spatial(Layer):
    """A layer that works on the `rank` spatial axes of (batch, *spatial, channels)."""

    rank = 0

    def __init__(self, data_format: str | None = None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = check_data_format(self, data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def _around(self, spatial: Sequence, outside) -> tuple:
        """Puts one entry per spatial axis between entries for batch and channels."""
        if self.data_format == "channels_last":
            return (outside, *spatial, outside)
        return (outside, outside, *spatial)

    def _with_sizes(self, input_shape, sizes) -> tuple:
        channels = input_shape[-1 if self.data_format == "channels_last" else 1]
        return image_shape(self, input_shape, sizes, channels)


class _ZeroPadding(_Spatial):
    def __init__(self, padding, data_format=None, **kwargs):
        super().__init__(data_format, **kwargs)
        self.padding = int_pairs(self, "padding", padding, self.rank)

    def call(self, inputs):
        return ops.pad(inputs, self._around(self.padding, (0, 0)))

    def compute_output_shape(self, input_shape):
        pairs = zip(spatial_shape(self, input_shape), self.padding)
        sizes = [None if n is None else n + before + after for n, (before, after) in pairs]
        return self._with_sizes(input_shape, sizes)

    def get_config(self):
        return {**super().get_config(), **config_of(self, "padding", "data_format")}


class ZeroPadding1D(_ZeroPadding):
    """Pads the steps of (batch, steps, channels) with zeros.

    Args:
        padding: zeros on both ends, or a pair (before, after).
        data_format: "channels_last" or "channels_first".
    """

    rank = 1

    def __init__(self, padding=1, data_format: str | None = None, **kwargs):
        if not is_integer(padding):
            padding = (padding,)
        super().__init__(padding, data_format, **kwargs)
        (self.padding,) = self.padding

    def call(self, inputs):
        return ops.pad(inputs, self._around((self.padding,), (0, 0)))

    def compute_output_shape(self, input_shape):
        (n,) = spatial_shape(self, input_shape)
        return self._with_sizes(input_shape, [None if n is None else n + sum(self.padding)])


class ZeroPadding2D(_ZeroPadding):
    """Pads height and width of (batch, height, width, channels) with zeros.

    Args:
        padding: one amount for all sides, two for (height, width), or
            `((top, bottom), (left, right))`.
        data_format: "channels_last" or "channels_first".
    """

    rank = 2

    def __init__(self, padding=(1, 1), data_format: str | None = None, **kwargs):
        super().__init__(padding, data_format, **kwargs)


class ZeroPadding3D(_ZeroPadding):
    """Pads the three spatial axes of (batch, a, b, c, channels) with zeros.

    Args:
        padding: one amount for all sides, three for the axes, or three pairs (before, after).
        data_format: "channels_last" or "channels_first".
    """

    rank = 3

    def __init__(self, padding=((1, 1), (1, 1), (1, 1)), data_format: str | None = None, **kwargs):
        super().__init__(padding, data_format, **kwargs)


class _Cropping(_Spatial):
    def __init__(self, cropping, data_format=None, **kwargs):
        super().__init__(data_format, **kwargs)
        self.cropping = int_pairs(self, "cropping", cropping, self.rank)

    def _pairs(self) -> tuple:
        return self.cropping

    def call(self, inputs):
        sizes = spatial_shape(self, self.compute_output_shape(inputs.shape))
        kept = [slice(before, before + n) for (before, _), n in zip(self._pairs(), sizes)]
        return inputs[self._around(kept, slice(None))]

    def compute_output_shape(self, input_shape):
        pairs = zip(spatial_shape(self, input_shape), self._pairs())
        sizes = [None if n is None else n - before - after for n, (before, after) in pairs]
        if any(n is not None and n <= 0 for n in sizes):
            raise ValueError(
                f"{who(self)}: expected cropping to leave at least one value on every axis. "
                f"Received: inputs.shape={tuple(input_shape)}, cropping={self.cropping}"
            )
        return self._with_sizes(input_shape, sizes)

    def get_config(self):
        return {**super().get_config(), **config_of(self, "cropping", "data_format")}


class Cropping1D(_Cropping):
    """Cuts steps off both ends of (batch, steps, channels).

    Args:
        cropping: steps to cut on both ends, or a pair (before, after).
    """

    rank = 1

    def __init__(self, cropping=(1, 1), **kwargs):
        if not is_integer(cropping):
            cropping = (cropping,)
        super().__init__(cropping, "channels_last", **kwargs)
        (self.cropping,) = self.cropping

    def _pairs(self):
        return (self.cropping,)

    def get_config(self):
        config = super().get_config()
        del config["data_format"]
        return config


class Cropping2D(_Cropping):
    """Cuts rows and columns off (batch, height, width, channels).

    Args:
        cropping: one amount for all sides, two for (height, width), or
            `((top, bottom), (left, right))`.
        data_format: "channels_last" or "channels_first".
    """

    rank = 2

    def __init__(self, cropping=((0, 0), (0, 0)), data_format: str | None = None, **kwargs):
        super().__init__(cropping, data_format, **kwargs)


class Cropping3D(_Cropping):
    """Cuts values off the three spatial axes of (batch, a, b, c, channels).

    Args:
        cropping: one amount for all sides, three for the axes, or three pairs (before, after).
        data_format: "channels_last" or "channels_first".
    """

    rank = 3

    def __init__(self, cropping=((1, 1), (1, 1), (1, 1)), data_format: str | None = None, **kwargs):
        super().__init__(cropping, data_format, **kwargs)


class _UpSampling(_Spatial):
    def __init__(self, size, data_format=None, **kwargs):
        super().__init__(data_format, **kwargs)
        self.size = int_tuple(self, "size", size, self.rank)

    def call(self, inputs):
        first = 1 if self.data_format == "channels_last" else 2
        for axis, times in enumerate(int_tuple(self, "size", self.size, self.rank), first):
            if times > 1:
                inputs = ops.repeat(inputs, times, axis=axis)
        return inputs

    def compute_output_shape(self, input_shape):
        times = int_tuple(self, "size", self.size, self.rank)
        pairs = zip(spatial_shape(self, input_shape), times)
        return self._with_sizes(input_shape, [None if n is None else n * t for n, t in pairs])

    def get_config(self):
        return {**super().get_config(), **config_of(self, "size", "data_format")}


class UpSampling1D(_UpSampling):
    """Repeats each step of (batch, steps, channels) `size` times.

    Args:
        size: number of repeats.
    """

    rank = 1

    def __init__(self, size: int = 2, **kwargs):
        super().__init__(size, "channels_last", **kwargs)
        (self.size,) = self.size

    def get_config(self):
        config = super().get_config()
        del config["data_format"]
        return config


def _bilinear_weights(n: int, times: int, dtype: str) -> np.ndarray:
    """(n * times, n): each output as a mix of its two nearest inputs, pixel centres aligned."""
    center = np.clip((np.arange(n * times) + 0.5) / times - 0.5, 0, n - 1)
    return np.maximum(0, 1 - np.abs(center[:, None] - np.arange(n))).astype(dtype)


class UpSampling2D(_UpSampling):
    """Enlarges (batch, height, width, channels) by whole factors.

    Args:
        size: factor, or a pair for (height, width).
        data_format: "channels_last" or "channels_first".
        interpolation: "nearest" or "bilinear".
    """

    rank = 2

    def __init__(
        self,
        size: int | Sequence[int] = (2, 2),
        data_format: str | None = None,
        interpolation: str = "nearest",
        **kwargs,
    ):
        super().__init__(size, data_format, **kwargs)
        self.interpolation = one_of(self, "interpolation", interpolation, ("nearest", "bilinear"))

    def call(self, inputs):
        if self.interpolation == "nearest":
            return super().call(inputs)
        first = 1 if self.data_format == "channels_last" else 2
        for axis, times in enumerate(self.size, first):
            weights = _bilinear_weights(inputs.shape[axis], times, inputs.dtype)
            # The contracted axis goes, its enlarged self comes last.
            inputs = ops.tensordot(inputs, ops.convert_to_tensor(weights), axes=[[axis], [1]])
            inputs = ops.moveaxis(inputs, -1, axis)
        return inputs

    def get_config(self):
        return {**super().get_config(), **config_of(self, "interpolation")}


class UpSampling3D(_UpSampling):
    """Repeats the values of (batch, a, b, c, channels) along its three spatial axes.

    Args:
        size: factor, or one for each axis.
        data_format: "channels_last" or "channels_first".
    """

    rank = 3

    def __init__(
        self, size: int | Sequence[int] = (2, 2, 2), data_format: str | None = None, **kwargs
    ):
        super().__init__(size, data_format, **kwargs)
