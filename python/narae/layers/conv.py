"""Convolution layers: plain, transposed, depthwise, separable; 1-D, 2-D and 3-D."""

from narae import ops
from narae.layers.arguments import (
    channel_axis,
    check_data_format,
    config_of,
    image_shape,
    int_tuple,
    padding_mode,
    parse,
    positive,
    spatial_shape,
    split_activation,
    who,
    windowed,
)
from narae.layers.input_spec import InputSpec
from narae.layers.layer import Layer


class _BaseConv(Layer):
    """What all convolutions share: window, strides, padding, activation, bias."""

    rank = 0
    _names = ("kernel_size", "strides", "padding", "data_format", "dilation_rate")

    def __init__(
        self,
        kernel_size,
        strides,
        padding,
        data_format,
        dilation_rate,
        activation,
        use_bias,
        bias_initializer,
        bias_regularizer,
        activity_regularizer,
        bias_constraint,
        causal=False,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.kernel_size = int_tuple(self, "kernel_size", kernel_size, self.rank)
        self.strides = int_tuple(self, "strides", strides, self.rank)
        self.dilation_rate = int_tuple(self, "dilation_rate", dilation_rate, self.rank)
        self.padding = padding_mode(self, padding, causal)
        self.data_format = check_data_format(self, data_format)
        self.use_bias = use_bias
        parse(
            self,
            activation=activation,
            bias_initializer=bias_initializer,
            bias_regularizer=bias_regularizer,
            bias_constraint=bias_constraint,
        )
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"{who(self)}: expected strides or dilation_rate to be 1. "
                f"Received: strides={self.strides}, dilation_rate={self.dilation_rate}"
            )
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def _channels(self, input_shape) -> int:
        """Checks rank and channels of the input, and fixes the channels from here on."""
        axis = channel_axis(self)
        if len(input_shape) != self.rank + 2 or input_shape[axis] is None:
            raise ValueError(
                f"{who(self)}: expected a {self.rank + 2}-dimensional input with a known number of "
                f"channels on axis {axis}. Received: inputs.shape={tuple(input_shape)}"
            )
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={axis: input_shape[axis]})
        return input_shape[axis]

    def _add_bias(self, filters: int) -> None:
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(filters,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def _apply(self, op, inputs, kernel, **more):
        """The op with the layer's window, bias and activation."""
        fused, after = split_activation(self.activation)
        outputs = op(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
            bias=self.bias,
            activation=fused,
            **more,
        )
        return outputs if after is None else after(outputs)

    def _output_shape(self, input_shape, filters: int) -> tuple:
        sizes = windowed(self, input_shape, self.kernel_size, self.dilation_rate)
        return image_shape(self, input_shape, sizes, filters)


class _Conv(_BaseConv):
    """Convolution with a kernel (*kernel_size, channels / groups, filters)."""

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        groups=1,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            bias_initializer,
            bias_regularizer,
            activity_regularizer,
            bias_constraint,
            causal=self.rank == 1,
            **kwargs,
        )
        self.filters = positive(self, "filters", filters)
        self.groups = positive(self, "groups", groups)
        parse(
            self,
            kernel_initializer=kernel_initializer,
            kernel_regularizer=kernel_regularizer,
            kernel_constraint=kernel_constraint,
        )
        if self.filters % self.groups:
            raise ValueError(
                f"{who(self)}: expected filters to be a multiple of groups. "
                f"Received: filters={filters}, groups={groups}"
            )

    def build(self, input_shape):
        channels = self._channels(input_shape)
        if channels % self.groups:
            raise ValueError(
                f"{who(self)}: expected the input's channels to be a multiple of groups. "
                f"Received: inputs.shape={tuple(input_shape)}, groups={self.groups}"
            )
        self.compute_output_shape(input_shape)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self.kernel_size, channels // self.groups, self.filters),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self._add_bias(self.filters)

    def call(self, inputs):
        return self._apply(ops.conv, inputs, self.kernel)

    def compute_output_shape(self, input_shape):
        return self._output_shape(input_shape, self.filters)

    def get_config(self):
        names = (
            "filters",
            *self._names,
            "groups",
            "activation",
            "use_bias",
            "kernel_initializer",
            "bias_initializer",
            "kernel_regularizer",
            "bias_regularizer",
            "activity_regularizer",
            "kernel_constraint",
            "bias_constraint",
        )
        return {**super().get_config(), **config_of(self, *names)}


class Conv1D(_Conv):
    """Convolution along a sequence.

    `y[n,t,f] = activation(sum_kc x[n, t*s + k*d, c] w[k,c,f] + b[f])`, s strides, d dilation_rate.

    Args:
        filters: number of output channels.
        kernel_size: length of the window.
        strides: steps between windows.
        padding: "valid" (none), "same" (output length is input length / strides, rounded up) or
            "causal" (zeros in front only: no output sees the future).
        data_format: "channels_last" (batch, steps, channels) or "channels_first".
        dilation_rate: steps between the taps of a window.
        groups: number of groups of channels that are convolved separately.
        activation: name, callable or None.
        use_bias: whether a bias is added.
        kernel_initializer, kernel_regularizer, kernel_constraint: of the kernel
            (kernel_size, channels / groups, filters).
        bias_initializer, bias_regularizer, bias_constraint: of the bias (filters,).
        activity_regularizer: penalty on the output.

    >>> narae.layers.Conv1D(8, 3)(narae.ops.ones((2, 10, 4))).shape
    (2, 8, 8)
    """

    rank = 1


class Conv2D(_Conv):
    """Convolution over images.

    `y[n,i,j,f] = activation(sum_klc x[n, i*s + k*d, j*s + l*d, c] w[k,l,c,f] + b[f])`, s strides,
    d dilation_rate.

    Args:
        filters: number of output channels.
        kernel_size: height and width of the window, or one integer for both.
        strides: steps between windows.
        padding: "valid" (none) or "same" (output size is input size / strides, rounded up).
        data_format: "channels_last" (batch, height, width, channels) or "channels_first".
        dilation_rate: pixels between the taps of a window.
        groups: number of groups of channels that are convolved separately.
        activation: name, callable or None.
        use_bias: whether a bias is added.
        kernel_initializer, kernel_regularizer, kernel_constraint: of the kernel
            (height, width, channels / groups, filters).
        bias_initializer, bias_regularizer, bias_constraint: of the bias (filters,).
        activity_regularizer: penalty on the output.

    >>> narae.layers.Conv2D(8, 3, padding="same")(narae.ops.ones((2, 28, 28, 1))).shape
    (2, 28, 28, 8)
    """

    rank = 2


class Conv3D(_Conv):
    """Convolution over volumes (batch, a, b, c, channels).

    Args: as `Conv2D`'s, with three axes in place of height and width.
    """

    rank = 3


class _ConvTranspose(_BaseConv):
    """The gradient of a convolution as a layer; kernel (*kernel_size, filters, channels)."""

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        output_padding=None,
        data_format=None,
        dilation_rate=1,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            bias_initializer,
            bias_regularizer,
            activity_regularizer,
            bias_constraint,
            **kwargs,
        )
        self.filters = positive(self, "filters", filters)
        parse(
            self,
            kernel_initializer=kernel_initializer,
            kernel_regularizer=kernel_regularizer,
            kernel_constraint=kernel_constraint,
        )
        self.output_padding = None
        if output_padding is not None:
            self.output_padding = int_tuple(self, "output_padding", output_padding, self.rank, 0)
            if any(o >= s for o, s in zip(self.output_padding, self.strides)):
                raise ValueError(
                    f"{who(self)}: expected output_padding to be smaller than strides. Received: "
                    f"output_padding={output_padding}, strides={self.strides}"
                )

    def build(self, input_shape):
        channels = self._channels(input_shape)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self.kernel_size, self.filters, channels),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self._add_bias(self.filters)

    def call(self, inputs):
        return self._apply(
            ops.conv_transpose, inputs, self.kernel, output_padding=self.output_padding
        )

    def compute_output_shape(self, input_shape):
        sizes = []
        extra = self.output_padding or (None,) * self.rank
        windows = zip(self.kernel_size, self.strides, self.dilation_rate, extra)
        for n, (k, s, d, more) in zip(spatial_shape(self, input_shape), windows):
            reach = (k - 1) * d + 1
            if n is not None and more is None:
                n = n * s + (max(reach - s, 0) if self.padding == "valid" else 0)
            elif n is not None:
                cut = 2 * (reach // 2) if self.padding == "same" else 0
                n = (n - 1) * s + reach - cut + more
            sizes.append(n)
        return image_shape(self, input_shape, sizes, self.filters)

    def get_config(self):
        names = (
            "filters",
            *self._names,
            "output_padding",
            "activation",
            "use_bias",
            "kernel_initializer",
            "bias_initializer",
            "kernel_regularizer",
            "bias_regularizer",
            "activity_regularizer",
            "kernel_constraint",
            "bias_constraint",
        )
        return {**super().get_config(), **config_of(self, *names)}


class Conv1DTranspose(_ConvTranspose):
    """Transposed convolution along a sequence: it upsamples by `strides`.

    Args: as `Conv2DTranspose`'s, with one axis.
    """

    rank = 1


class Conv2DTranspose(_ConvTranspose):
    """Transposed convolution over images: it upsamples by `strides`.

    Each input pixel adds `x[n,i,j,c] * w[:,:,:,c]` to the output window at (i * s, j * s).

    Args:
        filters: number of output channels.
        kernel_size: height and width of the window, or one integer for both.
        strides: factors of enlargement.
        padding: "valid" or "same" (output size is input size * strides).
        output_padding: rows and columns added at the end, smaller than strides; None for the
            size that the padding implies.
        data_format: "channels_last" (batch, height, width, channels) or "channels_first".
        dilation_rate: pixels between the taps of a window.
        activation: name, callable or None.
        use_bias: whether a bias is added.
        kernel_initializer, kernel_regularizer, kernel_constraint: of the kernel
            (height, width, filters, channels).
        bias_initializer, bias_regularizer, bias_constraint: of the bias (filters,).
        activity_regularizer: penalty on the output.

    >>> narae.layers.Conv2DTranspose(8, 3, strides=2, padding="same")(
    ...     narae.ops.ones((2, 7, 7, 4))).shape
    (2, 14, 14, 8)
    """

    rank = 2


class Conv3DTranspose(_ConvTranspose):
    """Transposed convolution over volumes: it upsamples by `strides`.

    Args: as `Conv2DTranspose`'s, with three axes.
    """

    rank = 3


class _DepthwiseConv(_BaseConv):
    """Each channel by itself; kernel (*kernel_size, channels, depth_multiplier)."""

    def __init__(
        self,
        kernel_size,
        strides=1,
        padding="valid",
        depth_multiplier=1,
        data_format=None,
        dilation_rate=1,
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            bias_initializer,
            bias_regularizer,
            activity_regularizer,
            bias_constraint,
            **kwargs,
        )
        self.depth_multiplier = positive(self, "depth_multiplier", depth_multiplier)
        parse(
            self,
            depthwise_initializer=depthwise_initializer,
            depthwise_regularizer=depthwise_regularizer,
            depthwise_constraint=depthwise_constraint,
        )

    def build(self, input_shape):
        channels = self._channels(input_shape)
        self.compute_output_shape(input_shape)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self.kernel_size, channels, self.depth_multiplier),
            initializer=self.depthwise_initializer,
            regularizer=self.depthwise_regularizer,
            constraint=self.depthwise_constraint,
        )
        self._add_bias(channels * self.depth_multiplier)

    def call(self, inputs):
        return self._apply(ops.depthwise_conv, inputs, self.kernel)

    def compute_output_shape(self, input_shape):
        filters = input_shape[channel_axis(self)] * self.depth_multiplier
        return self._output_shape(input_shape, filters)

    def get_config(self):
        names = (
            "depth_multiplier",
            *self._names,
            "activation",
            "use_bias",
            "depthwise_initializer",
            "bias_initializer",
            "depthwise_regularizer",
            "bias_regularizer",
            "activity_regularizer",
            "depthwise_constraint",
            "bias_constraint",
        )
        return {**super().get_config(), **config_of(self, *names)}


class DepthwiseConv1D(_DepthwiseConv):
    """Convolution of each channel of a sequence by itself.

    Args: as `DepthwiseConv2D`'s, with one axis.
    """

    rank = 1


class DepthwiseConv2D(_DepthwiseConv):
    """Convolution of each channel of an image by itself.

    Channel c gives the output channels c * depth_multiplier .. (c + 1) * depth_multiplier - 1.

    Args:
        kernel_size: height and width of the window, or one integer for both.
        strides: steps between windows.
        padding: "valid" or "same".
        depth_multiplier: output channels per input channel.
        data_format: "channels_last" (batch, height, width, channels) or "channels_first".
        dilation_rate: pixels between the taps of a window.
        activation: name, callable or None.
        use_bias: whether a bias is added.
        depthwise_initializer, depthwise_regularizer, depthwise_constraint: of the kernel
            (height, width, channels, depth_multiplier).
        bias_initializer, bias_regularizer, bias_constraint: of the bias.
        activity_regularizer: penalty on the output.
    """

    rank = 2


class _SeparableConv(_BaseConv):
    """A depthwise convolution, then a 1 x 1 convolution across channels."""

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        depth_multiplier=1,
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        pointwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        pointwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        pointwise_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            bias_initializer,
            bias_regularizer,
            activity_regularizer,
            bias_constraint,
            **kwargs,
        )
        self.filters = positive(self, "filters", filters)
        self.depth_multiplier = positive(self, "depth_multiplier", depth_multiplier)
        parse(
            self,
            depthwise_initializer=depthwise_initializer,
            pointwise_initializer=pointwise_initializer,
            depthwise_regularizer=depthwise_regularizer,
            pointwise_regularizer=pointwise_regularizer,
            depthwise_constraint=depthwise_constraint,
            pointwise_constraint=pointwise_constraint,
        )

    def build(self, input_shape):
        channels = self._channels(input_shape)
        self.compute_output_shape(input_shape)
        self.depthwise_kernel = self.add_weight(
            name="depthwise_kernel",
            shape=(*self.kernel_size, channels, self.depth_multiplier),
            initializer=self.depthwise_initializer,
            regularizer=self.depthwise_regularizer,
            constraint=self.depthwise_constraint,
        )
        self.pointwise_kernel = self.add_weight(
            name="pointwise_kernel",
            shape=(*((1,) * self.rank), channels * self.depth_multiplier, self.filters),
            initializer=self.pointwise_initializer,
            regularizer=self.pointwise_regularizer,
            constraint=self.pointwise_constraint,
        )
        self._add_bias(self.filters)

    def call(self, inputs):
        return self._apply(
            ops.separable_conv,
            inputs,
            self.depthwise_kernel,
            pointwise_kernel=self.pointwise_kernel,
        )

    def compute_output_shape(self, input_shape):
        return self._output_shape(input_shape, self.filters)

    def get_config(self):
        names = (
            "depth_multiplier",
            "filters",
            *self._names,
            "activation",
            "use_bias",
            "depthwise_initializer",
            "pointwise_initializer",
            "bias_initializer",
            "depthwise_regularizer",
            "pointwise_regularizer",
            "bias_regularizer",
            "activity_regularizer",
            "depthwise_constraint",
            "pointwise_constraint",
            "bias_constraint",
        )
        return {**super().get_config(), **config_of(self, *names)}


class SeparableConv1D(_SeparableConv):
    """Depthwise, then pointwise convolution of a sequence.

    Args: as `SeparableConv2D`'s, with one axis.
    """

    rank = 1


class SeparableConv2D(_SeparableConv):
    """Depthwise, then pointwise convolution of an image: far fewer weights than `Conv2D`.

    Source: Chollet, 2016, arXiv:1610.02357.

    Args:
        filters: number of output channels.
        kernel_size: height and width of the window, or one integer for both.
        strides: steps between windows.
        padding: "valid" or "same".
        data_format: "channels_last" (batch, height, width, channels) or "channels_first".
        dilation_rate: pixels between the taps of a window.
        depth_multiplier: channels that the depthwise step makes of each input channel.
        activation: name, callable or None.
        use_bias: whether a bias is added.
        depthwise_initializer, depthwise_regularizer, depthwise_constraint: of the depthwise kernel
            (height, width, channels, depth_multiplier).
        pointwise_initializer, pointwise_regularizer, pointwise_constraint: of the pointwise kernel
            (1, 1, channels * depth_multiplier, filters).
        bias_initializer, bias_regularizer, bias_constraint: of the bias (filters,).
        activity_regularizer: penalty on the output.
    """

    rank = 2
