"""Convolutions over one to three spatial axes: plain, depthwise, separable, transposed.

Forward, input gradient and filter gradient are the three derivatives of one trilinear form,
sum x * w * dy, so each has the other two as its own gradients, to any order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from narae import _core
from narae.engine import Tensor, config, convert_to_tensor, is_tracked, op, record
from narae.engine.dtypes import is_float, result_type
from narae.ops.activation import activation_backward
from narae.ops.elementwise import cast
from narae.ops.gemm import _FUSED
from narae.ops.reduce import sum
from narae.ops.shape import reshape, transpose

__all__ = ["conv", "conv_transpose", "depthwise_conv", "separable_conv"]

Sizes = int | Sequence[int]  # one value for all spatial axes, or one for each
Padding = str | Sequence[tuple[int, int]]


def sizes(who: str, name: str, value, rank: int, lowest: int = 1) -> tuple[int, ...]:
    """Returns one int for each spatial axis, out of an int or a sequence."""
    given = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    try:
        given = tuple(int(v) for v in given if int(v) == v)
    except (TypeError, ValueError):
        given = ()
    if len(given) != rank or min(given) < lowest:
        kind = "a positive integer" if lowest == 1 else f"an integer of at least {lowest}"
        raise ValueError(
            f"narae.ops.{who}: expected {name} to be {kind} or a tuple of {rank}. "
            f"Received: {name}={value!r}"
        )
    return given


def pad_widths(who, padding, size, reach, strides) -> list[tuple[int, int]]:
    """Returns (before, after) for each spatial axis of the given size.

    "same" gives ceil(size / stride) outputs, the odd cell after; "causal" looks at the past only;
    pairs are taken as they are. `reach` is the number of cells from the first to the last tap.
    """
    rank = len(size)
    if isinstance(padding, (tuple, list)) and len(padding) == rank:
        try:
            pairs = [(int(before), int(after)) for before, after in padding]
        except (TypeError, ValueError):
            pairs = [(-1, -1)]
        if all(min(pair) >= 0 for pair in pairs):
            return pairs
    mode = padding.lower() if isinstance(padding, str) else padding
    if mode == "valid":
        return [(0, 0)] * rank
    if mode == "same":
        total = [max((-(-n // s) - 1) * s + r - n, 0) for n, r, s in zip(size, reach, strides)]
        return [(t // 2, t - t // 2) for t in total]
    if mode == "causal" and rank == 1:
        return [(reach[0] - 1, 0)]
    raise ValueError(
        f'narae.ops.{who}: expected padding to be "valid", "same", "causal" (one axis) or '
        f"{rank} pairs of cells before and after. Received: padding={padding!r}"
    )


def output_sizes(who, inputs, window, size, reach, strides, widths) -> list[int]:
    """Returns the number of places where a window fits along each axis, at least one each."""
    outs = [
        (n + before + after - r) // s + 1
        for n, r, s, (before, after) in zip(size, reach, strides, widths)
    ]
    if min(outs) < 1:
        raise ValueError(
            f"narae.ops.{who}: expected inputs at least as large as the window, padding included. "
            f"Received: inputs.shape={inputs.shape}, {window}"
        )
    return outs


def channels_last(who: str, data_format) -> bool:
    """Returns whether data_format (None: the configured one) is channels_last."""
    data_format = config.image_data_format() if data_format is None else data_format
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            f'narae.ops.{who}: expected data_format to be "channels_last" or "channels_first". '
            f"Received: data_format={data_format!r}"
        )
    return data_format == "channels_last"


def to_last(x: Tensor) -> Tensor:
    """(N, C, *S) -> (N, *S, C)."""
    return transpose(x, (0, *range(2, x.ndim), 1))


def to_first(x: Tensor) -> Tensor:
    """(N, *S, C) -> (N, C, *S)."""
    return transpose(x, (0, x.ndim - 1, *range(1, x.ndim - 1)))


def spatial(who: str, inputs, *more) -> tuple[Tensor, ...]:
    """Returns the arguments as float Tensors of one dtype; inputs must have 1 to 3 spatial axes."""
    tensors = [convert_to_tensor(x) for x in (inputs, *more)]
    dtype = result_type(*(x.dtype for x in tensors))
    dtype = dtype if is_float(dtype) else config.floatx()
    tensors = [x if x.dtype == dtype else cast(x, dtype) for x in tensors]
    if not 3 <= tensors[0].ndim <= 5:
        raise ValueError(
            f"narae.ops.{who}: expected inputs with a batch axis, one to three spatial axes and "
            f"channels. Received: inputs.shape={tensors[0].shape}"
        )
    return tuple(tensors)


@dataclass(frozen=True)
class _Plan:
    """The shapes of a convolution: x (N, *in, C), w (*kernel, C / groups, F), y (N, *out, F)."""

    in_size: tuple[int, ...]
    out_size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    before: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def forward(self, x, w, bias=None, activation=None):
        b = None if bias is None else bias.array
        window = (self.strides, self.before, self.dilation)
        y = _core.conv_forward(x.array, w.array, self.out_size, *window, b, activation or "")
        gradients = self.input_gradient, self.filter_gradient
        return _record(y, self.forward, (x, w, bias), gradients, activation)

    def input_gradient(self, dy, w, bias=None, activation=None):
        b = None if bias is None else bias.array
        window = (self.strides, self.before, self.dilation, self.groups)
        dx = _core.conv_input_gradient(
            dy.array, w.array, self.in_size, *window, b, activation or ""
        )
        gradients = self.forward, lambda dy, ddx: self.filter_gradient(ddx, dy)
        return _record(dx, self.input_gradient, (dy, w, bias), gradients, activation)

    def filter_gradient(self, x, dy):
        window = (self.strides, self.before, self.dilation, self.groups)
        dw = _core.conv_filter_gradient(x.array, dy.array, self.kernel_size, *window)
        gradients = lambda ddw, dy: self.input_gradient(dy, ddw), self.forward
        return _record(dw, self.filter_gradient, (x, dy), gradients)


def _record(y, function, inputs, gradients, activation=None):
    """Notes y = act(f(a, b) + bias) for inputs (a, b[, bias]); gradients(dy, b) and (a, dy)."""
    a, b, bias = *inputs, *(None,) * (3 - len(inputs))
    inputs = (a, b) if bias is None else (a, b, bias)
    wanted = [is_tracked(t) for t in inputs]

    def backward(dy):
        dz = dy
        if activation:
            if is_tracked(dy) or any(is_tracked(t) for t in inputs):  # a second derivative
                dz = activation_backward(activation, dy, function(*inputs), y)
            else:
                dz = Tensor(getattr(_core, f"{activation}_backward")(dy.array, y))
        da = gradients[0](dz, b) if wanted[0] else None
        db = gradients[1](a, dz) if wanted[1] else None
        if bias is None:
            return da, db
        return da, db, sum(dz, axis=tuple(range(dz.ndim - 1))) if wanted[2] else None

    return record(Tensor(y), inputs, backward)


def _check_kernel(who, inputs, x, w, expected):
    if w.ndim != x.ndim or 0 in w.shape[: w.ndim - 2]:
        raise ValueError(
            f"narae.ops.{who}: expected a kernel of shape {expected} for inputs of {x.ndim} "
            f"dimensions. Received: inputs.shape={inputs.shape}, kernel.shape={w.shape}"
        )


def _check_bias(who, bias, filters):
    if bias is not None and bias.shape != (filters,):
        raise ValueError(
            f"narae.ops.{who}: expected bias of shape ({filters},). "
            f"Received: bias.shape={bias.shape}"
        )


def _fused(who, activation) -> tuple[str | None, Callable | None]:
    """Returns the activation for the kernel to apply, or one to call afterwards, or neither."""
    if activation is None or callable(activation):
        return None, activation
    if activation not in _FUSED:
        raise ValueError(
            f"narae.ops.{who}: expected activation to be None, a function or one of {_FUSED}. "
            f"Received: activation={activation!r}"
        )
    return activation, None


def _reach(kernel, dilation):
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation))


def _conv(
    who, inputs, kernel, strides, padding, data_format, dilation_rate, bias, activation, depthwise
):
    fused, after = _fused(who, activation)
    given, w, *rest = spatial(who, inputs, kernel, *([] if bias is None else [bias]))
    last = channels_last(who, data_format)
    x = given if last else to_last(given)
    rank, channels = x.ndim - 2, x.shape[-1]
    if depthwise:
        _check_kernel(who, given, x, w, "(*kernel_size, channels, depth_multiplier)")
        if w.shape[-2] != channels:
            raise ValueError(
                f"narae.ops.{who}: expected kernel with as many channels as inputs ({channels}). "
                f"Received: inputs.shape={given.shape}, kernel.shape={w.shape}"
            )
        w = reshape(w, (*w.shape[:rank], 1, channels * w.shape[-1]))
    else:
        _check_kernel(who, given, x, w, "(*kernel_size, channels / groups, filters)")
    depth, filters = w.shape[-2:]
    if depth == 0 or channels % depth or filters % (channels // depth or 1):
        raise ValueError(
            f"narae.ops.{who}: expected kernel with in_channels equal to inputs' channels "
            f"({channels}), or to an equal part of them with filters in as many groups. "
            f"Received: inputs.shape={given.shape}, kernel.shape={kernel_shape(kernel)}"
        )
    strides = sizes(who, "strides", strides, rank)
    dilation = sizes(who, "dilation_rate", dilation_rate, rank)
    reach = _reach(w.shape[:rank], dilation)
    size = x.shape[1:-1]
    widths = pad_widths(who, padding, size, reach, strides)
    window = f"kernel.shape={kernel_shape(kernel)}, padding={padding!r}, dilation_rate={dilation}"
    outs = output_sizes(who, given, window, size, reach, strides, widths)
    bias = rest[0] if rest else None
    _check_bias(who, bias, filters)
    before = tuple(pair[0] for pair in widths)
    plan = _Plan(size, tuple(outs), w.shape[:rank], strides, before, dilation, channels // depth)
    y = plan.forward(x, w, bias, fused)
    y = y if last else to_first(y)
    return y if after is None else after(y)


def kernel_shape(kernel) -> tuple[int, ...]:
    return tuple(getattr(kernel, "shape", ()))


@op
def conv(
    inputs: Any,
    kernel: Any,
    strides: Sizes = 1,
    padding: Padding = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
    bias: Any = None,
    activation: str | Callable | None = None,
) -> Tensor:
    """Convolves inputs with a kernel over one to three spatial axes.

    `y[n, o, f] = act(sum_k,c x[n, o * stride + k * dilation - before, c] * w[k, c, f] + b[f])`

    Args:
        inputs: (N, *S, C), or (N, C, *S) with channels_first.
        kernel: (*kernel_size, C / groups, F); the groups follow from the shapes.
        strides: step between windows, an int or one for each axis.
        padding: `"valid"`, `"same"`, `"causal"` (one axis), or (before, after) for each axis.
        data_format: `"channels_last"` or `"channels_first"`; None is the configured one.
        dilation_rate: distance between the kernel's taps, an int or one for each axis.
        bias: (F,), or None.
        activation: `"relu"`, `"sigmoid"` or `"tanh"`, which the kernel applies, or a function.

    Returns:
        (N, *O, F), or (N, F, *O).

    Raises:
        ValueError: shapes that do not fit, or a kernel larger than the inputs.

    >>> narae.ops.conv(narae.ops.ones((1, 5, 5, 3)), narae.ops.ones((3, 3, 3, 8))).shape
    (1, 3, 3, 8)
    """
    args = (strides, padding, data_format, dilation_rate)
    return _conv("conv", inputs, kernel, *args, bias, activation, False)


@op
def depthwise_conv(
    inputs: Any,
    kernel: Any,
    strides: Sizes = 1,
    padding: Padding = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
    bias: Any = None,
    activation: str | Callable | None = None,
) -> Tensor:
    """Convolves each channel by itself; results of a channel lie side by side.

    Args:
        inputs: (N, *S, C), or (N, C, *S) with channels_first.
        kernel: (*kernel_size, C, M): M results for each channel.
        strides, padding, data_format, dilation_rate, bias, activation: as in `conv`.

    Returns:
        (N, *O, C * M), or (N, C * M, *O).
    """
    args = (strides, padding, data_format, dilation_rate)
    return _conv("depthwise_conv", inputs, kernel, *args, bias, activation, True)


@op
def separable_conv(
    inputs: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: Sizes = 1,
    padding: Padding = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
    bias: Any = None,
    activation: str | Callable | None = None,
) -> Tensor:
    """A depthwise convolution, then a 1 x 1 convolution that mixes the channels.

    Args:
        inputs: (N, *S, C), or (N, C, *S) with channels_first.
        depthwise_kernel: (*kernel_size, C, M).
        pointwise_kernel: (1, ..., C * M, F).
        strides, padding, data_format, dilation_rate: of the depthwise step, as in `conv`.
        bias, activation: of the result, as in `conv`.

    Returns:
        (N, *O, F), or (N, F, *O).
    """
    args = (strides, padding, data_format, dilation_rate)
    x = _conv("separable_conv", inputs, depthwise_kernel, *args, None, None, True)
    args = (1, "valid", data_format, 1)
    return _conv("separable_conv", x, pointwise_kernel, *args, bias, activation, False)


def transpose_extent(size, reach, stride, padding, output_padding) -> tuple[int, int]:
    """Returns (output size, cells cut off before the first) of one axis of `conv_transpose`."""
    if padding == "valid":
        extra = max(stride - reach, 0) if output_padding is None else output_padding
        return (size - 1) * stride + reach + extra, 0
    beyond = stride - 1 if output_padding is None else reach % 2 + output_padding - 1
    kept = min((beyond + reach) // 2, reach - 1)
    return (size - 1) * stride + 1 + beyond, reach - 1 - kept


@op
def conv_transpose(
    inputs: Any,
    kernel: Any,
    strides: Sizes = 1,
    padding: str = "valid",
    output_padding: Sizes | None = None,
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
    bias: Any = None,
    activation: str | Callable | None = None,
) -> Tensor:
    """The gradient of a convolution as an operation of its own: it upsamples by `strides`.

    `y[n, i * stride + k * dilation - cut, f] += x[n, i, c] * w[k, f, c]`, then bias and activation.

    Args:
        inputs: (N, *S, C), or (N, C, *S) with channels_first.
        kernel: (*kernel_size, F, C): filters before channels.
        strides: cells of the output from one input cell to the next.
        padding: `"valid"` keeps everything; `"same"` cuts the output to size * stride.
        output_padding: cells added at the end of each axis, less than the stride; None is what
            the padding calls for.
        data_format, dilation_rate, bias, activation: as in `conv`.

    Returns:
        (N, *O, F), or (N, F, *O).

    >>> x, w = narae.ops.ones((1, 4, 4, 3)), narae.ops.ones((3, 3, 8, 3))
    >>> narae.ops.conv_transpose(x, w, strides=2, padding="same").shape
    (1, 8, 8, 8)
    """
    who = "conv_transpose"
    fused, after = _fused(who, activation)
    given, w, *rest = spatial(who, inputs, kernel, *([] if bias is None else [bias]))
    last = channels_last(who, data_format)
    x = given if last else to_last(given)
    rank = x.ndim - 2
    _check_kernel(who, given, x, w, "(*kernel_size, filters, channels)")
    if w.shape[-1] != x.shape[-1]:
        raise ValueError(
            f"narae.ops.{who}: expected kernel with as many channels as inputs ({x.shape[-1]}) on "
            f"its last axis. Received: inputs.shape={given.shape}, kernel.shape={w.shape}"
        )
    if not isinstance(padding, str) or padding.lower() not in ("valid", "same"):
        raise ValueError(
            f'narae.ops.{who}: expected padding to be "valid" or "same". '
            f"Received: padding={padding!r}"
        )
    strides = sizes(who, "strides", strides, rank)
    dilation = sizes(who, "dilation_rate", dilation_rate, rank)
    extra = (None,) * rank
    if output_padding is not None:
        extra = sizes(who, "output_padding", output_padding, rank, 0)
        if any(e >= s for e, s in zip(extra, strides)):
            raise ValueError(
                f"narae.ops.{who}: expected output_padding less than strides. "
                f"Received: output_padding={output_padding!r}, strides={strides}"
            )
    reach = _reach(w.shape[:rank], dilation)
    extents = [
        transpose_extent(n, r, s, padding.lower(), e)
        for n, r, s, e in zip(x.shape[1:-1], reach, strides, extra)
    ]
    outs, cut = (tuple(values) for values in zip(*extents))
    bias = rest[0] if rest else None
    _check_bias(who, bias, w.shape[-2])
    plan = _Plan(outs, x.shape[1:-1], w.shape[:rank], strides, cut, dilation)
    y = plan.input_gradient(x, w, bias, fused)
    y = y if last else to_first(y)
    return y if after is None else after(y)
