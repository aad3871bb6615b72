"""Pooling layers: maximum and average over windows, and over whole feature maps."""

from narae import ops
from narae.layers.arguments import (
    check_data_format,
    config_of,
    image_shape,
    int_tuple,
    padding_mode,
    spatial_shape,
    windowed,
)
from narae.layers.input_spec import InputSpec
from narae.layers.layer import Layer


class _Pooling(Layer):
    """Reduces each window of each channel to one value."""

    rank = 0

    def __init__(
        self, pool_size, strides=None, padding="valid", data_format=None, name=None, **kwargs
    ):
        super().__init__(name=name, **kwargs)
        strides = pool_size if strides is None else strides
        self.pool_size = int_tuple(self, "pool_size", pool_size, self.rank)
        self.strides = int_tuple(self, "strides", strides, self.rank)
        self.padding = padding_mode(self, padding)
        self.data_format = check_data_format(self, data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def _pool(self, op, inputs):
        return op(
            inputs,
            self.pool_size,
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
        )

    def compute_output_shape(self, input_shape):
        channels = input_shape[-1 if self.data_format == "channels_last" else 1]
        sizes = windowed(self, input_shape, self.pool_size, (1,) * self.rank)
        return image_shape(self, input_shape, sizes, channels)

    def get_config(self):
        names = ("pool_size", "padding", "strides", "data_format")
        return {**super().get_config(), **config_of(self, *names)}


class _MaxPooling(_Pooling):
    def __init__(
        self, pool_size=2, strides=None, padding="valid", data_format=None, name=None, **kwargs
    ):
        super().__init__(pool_size, strides, padding, data_format, name, **kwargs)

    def call(self, inputs):
        return self._pool(ops.max_pool, inputs)


class MaxPooling1D(_MaxPooling):
    """Largest value of each window of (batch, steps, channels).

    Args: as `MaxPooling2D`'s, with one axis.
    """

    rank = 1


class MaxPooling2D(_MaxPooling):
    """Largest value of each window of (batch, height, width, channels).

    Args:
        pool_size: height and width of the window, or one integer for both.
        strides: steps between windows, None for pool_size.
        padding: "valid" (whole windows only) or "same" (output size is input size / strides,
            rounded up).
        data_format: "channels_last" or "channels_first".

    >>> narae.layers.MaxPooling2D()(narae.ops.ones((1, 28, 28, 3))).shape
    (1, 14, 14, 3)
    """

    rank = 2


class MaxPooling3D(_MaxPooling):
    """Largest value of each window of (batch, a, b, c, channels).

    Args: as `MaxPooling2D`'s, with three axes.
    """

    rank = 3


class _AveragePooling(_Pooling):
    def call(self, inputs):
        return self._pool(ops.average_pool, inputs)


class AveragePooling1D(_AveragePooling):
    """Mean of each window of (batch, steps, channels); padding does not count.

    Args: as `AveragePooling2D`'s, with one axis.
    """

    rank = 1


class AveragePooling2D(_AveragePooling):
    """Mean of each window of (batch, height, width, channels); padding does not count.

    Args:
        pool_size: height and width of the window, or one integer for both.
        strides: steps between windows, None for pool_size.
        padding: "valid" (whole windows only) or "same" (output size is input size / strides,
            rounded up).
        data_format: "channels_last" or "channels_first".
    """

    rank = 2


class AveragePooling3D(_AveragePooling):
    """Mean of each window of (batch, a, b, c, channels); padding does not count.

    Args: as `AveragePooling2D`'s, with three axes.
    """

    rank = 3


class _GlobalPooling(Layer):
    """Reduces each channel to one value."""

    rank = 0

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.data_format = check_data_format(self, data_format)
        self.keepdims = keepdims
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def _axes(self) -> tuple[int, ...]:
        first = 1 if self.data_format == "channels_last" else 2
        return tuple(range(first, first + self.rank))

    def compute_output_shape(self, input_shape):
        channels = input_shape[-1 if self.data_format == "channels_last" else 1]
        if not self.keepdims:
            return (input_shape[0], channels)
        return image_shape(self, input_shape, [1] * len(spatial_shape(self, input_shape)), channels)

    def get_config(self):
        return {**super().get_config(), **config_of(self, "data_format", "keepdims")}


class _GlobalMaxPooling(_GlobalPooling):
    def call(self, inputs):
        return ops.max(inputs, axis=self._axes(), keepdims=self.keepdims)


class GlobalMaxPooling1D(_GlobalMaxPooling):
    """Largest value over time: (batch, steps, channels) to (batch, channels).

    Args:
        data_format: "channels_last" or "channels_first".
        keepdims: whether the reduced axes stay, with size 1.
    """

    rank = 1


class GlobalMaxPooling2D(_GlobalMaxPooling):
    """Largest value of each channel: (batch, height, width, channels) to (batch, channels).

    Args:
        data_format: "channels_last" or "channels_first".
        keepdims: whether the reduced axes stay, with size 1.
    """

    rank = 2


class GlobalMaxPooling3D(_GlobalMaxPooling):
    """Largest value of each channel: (batch, a, b, c, channels) to (batch, channels).

    Args:
        data_format: "channels_last" or "channels_first".
        keepdims: whether the reduced axes stay, with size 1.
    """

    rank = 3


class _GlobalAveragePooling(_GlobalPooling):
    def call(self, inputs):
        return ops.mean(inputs, axis=self._axes(), keepdims=self.keepdims)


class GlobalAveragePooling1D(_GlobalAveragePooling):
    """Mean over time: (batch, steps, channels) to (batch, channels); masked steps do not count.

    Args:
        data_format: "channels_last" or "channels_first".
        keepdims: whether the reduced axis stays, with size 1.

    Call arguments:
        inputs: the sequence.
        mask: boolean (batch, steps).
    """

    rank = 1

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs):
        super().__init__(data_format, keepdims, **kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        if mask is None:
            return super().call(inputs)
        (steps,) = self._axes()
        kept = ops.cast(ops.expand_dims(mask, 3 - steps), "bool")
        inputs = ops.where(kept, inputs, ops.zeros_like(inputs))
        count = ops.sum(ops.cast(kept, inputs.dtype), axis=steps, keepdims=self.keepdims)
        return ops.sum(inputs, axis=steps, keepdims=self.keepdims) / count

    def compute_mask(self, inputs, mask=None):
        return None


class GlobalAveragePooling2D(_GlobalAveragePooling):
    """Mean of each channel: (batch, height, width, channels) to (batch, channels).

    Args:
        data_format: "channels_last" or "channels_first".
        keepdims: whether the reduced axes stay, with size 1.
    """

    rank = 2


class GlobalAveragePooling3D(_GlobalAveragePooling):
    """Mean of each channel: (batch, a, b, c, channels) to (batch, channels).

    Args:
        data_format: "channels_last" or "channels_first".
        keepdims: whether the reduced axes stay, with size 1.
    """

    rank = 3
