"""Activation layers."""

import warnings
from collections.abc import Sequence
from typing import Any

from narae import activations, ops
from narae.layers.arguments import config_of, parse, who
from narae.layers.input_spec import InputSpec
from narae.layers.layer import Layer


class _Elementwise(Layer):
    """A layer without weights whose output has its input's shape."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)


def _non_negative(layer, name: str, value: Any) -> float:
    if not isinstance(value, (int, float)) or value < 0:
        raise ValueError(
            f"{who(layer)}: expected {name} to be a non-negative number. Received: {name}={value!r}"
        )
    return value


class Activation(_Elementwise):
    """Applies an activation function to its input.

    Args:
        activation: name, callable or layer.

    >>> narae.layers.Activation("relu")([-3.0, 0.0, 2.0]).numpy()
    array([0., 0., 2.], dtype=float32)
    """

    def __init__(self, activation, **kwargs):
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def call(self, inputs):
        return self.activation(inputs)

    def get_config(self):
        return {**super().get_config(), **config_of(self, "activation")}


class ReLU(_Elementwise):
    """Rectified linear unit.

    `max_value` for x >= max_value, `x` for threshold <= x < max_value,
    `negative_slope * (x - threshold)` otherwise.

    Args:
        max_value: upper bound, None for none.
        negative_slope: slope below the threshold.
        threshold: where the unit starts to let its input through.
    """

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.max_value = None if max_value is None else _non_negative(self, "max_value", max_value)
        self.negative_slope = _non_negative(self, "negative_slope", negative_slope)
        self.threshold = _non_negative(self, "threshold", threshold)

    def call(self, inputs):
        return activations.relu(
            inputs,
            negative_slope=self.negative_slope,
            max_value=self.max_value,
            threshold=self.threshold,
        )

    def get_config(self):
        return {
            **super().get_config(),
            **config_of(self, "max_value", "negative_slope", "threshold"),
        }


class LeakyReLU(_Elementwise):
    """Leaky ReLU: `x` for x >= 0, `negative_slope * x` otherwise.

    Args:
        negative_slope: slope below zero. The old name `alpha` is taken with a warning.
    """

    def __init__(self, negative_slope: float = 0.3, **kwargs):
        if "alpha" in kwargs:
            negative_slope = kwargs.pop("alpha")
            warnings.warn(
                "narae.layers.LeakyReLU: alpha is now called negative_slope.", stacklevel=2
            )
        super().__init__(**kwargs)
        self.negative_slope = _non_negative(self, "negative_slope", negative_slope)

    def call(self, inputs):
        return activations.leaky_relu(inputs, negative_slope=self.negative_slope)

    def get_config(self):
        return {**super().get_config(), **config_of(self, "negative_slope")}


class PReLU(_Elementwise):
    """Leaky ReLU with a learned slope per feature: `x` for x >= 0, `alpha * x` otherwise.

    Source: He et al., 2015, arXiv:1502.01852.

    Args:
        alpha_initializer, alpha_regularizer, alpha_constraint: of the slopes.
        shared_axes: axes along which one slope is shared, e.g. `[1, 2]` after a Conv2D.
    """

    def __init__(
        self,
        alpha_initializer="Zeros",
        alpha_regularizer=None,
        alpha_constraint=None,
        shared_axes: int | Sequence[int] | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        parse(
            self,
            alpha_initializer=alpha_initializer,
            alpha_regularizer=alpha_regularizer,
            alpha_constraint=alpha_constraint,
        )
        if shared_axes is not None:
            shared_axes = [shared_axes] if isinstance(shared_axes, int) else list(shared_axes)
        self.shared_axes = shared_axes

    def build(self, input_shape):
        shared = self.shared_axes or ()
        shape = [1 if axis in shared else n for axis, n in enumerate(input_shape)][1:]
        if None in shape:
            raise ValueError(
                f"{who(self)}: expected every axis outside shared_axes to have a known size. "
                f"Received: inputs.shape={tuple(input_shape)}, shared_axes={self.shared_axes}"
            )
        self.alpha = self.add_weight(
            shape=tuple(shape),
            name="alpha",
            initializer=self.alpha_initializer,
            regularizer=self.alpha_regularizer,
            constraint=self.alpha_constraint,
        )
        axes = {axis: n for axis, n in enumerate(input_shape) if axis and axis not in shared}
        self.input_spec = InputSpec(ndim=len(input_shape), axes=axes)

    def call(self, inputs):
        return ops.relu(inputs) - self.alpha * ops.relu(-inputs)

    def get_config(self):
        names = ("alpha_initializer", "alpha_regularizer", "alpha_constraint", "shared_axes")
        return {**super().get_config(), **config_of(self, *names)}


class ELU(_Elementwise):
    """Exponential linear unit: `x` for x > 0, `alpha * (exp(x) - 1)` otherwise.

    Source: Clevert et al., 2015, arXiv:1511.07289.

    Args:
        alpha: limit below zero, negated.
    """

    def __init__(self, alpha: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.alpha = alpha

    def call(self, inputs):
        return activations.elu(inputs, alpha=self.alpha)

    def get_config(self):
        return {**super().get_config(), **config_of(self, "alpha")}


class Softmax(_Elementwise):
    """Softmax over one or several axes: `exp(x) / sum(exp(x))`.

    Args:
        axis: integer or integers.

    Call arguments:
        inputs: logits.
        mask: boolean, of a shape that broadcasts to `inputs`; False positions get probability 0.
    """

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs, mask=None):
        if mask is not None:
            pairs = list(zip(mask.shape[::-1], inputs.shape[::-1]))
            if len(mask.shape) > len(inputs.shape) or any(m not in (1, n) for m, n in pairs):
                raise ValueError(
                    f"{who(self)}: expected mask to broadcast to the input. Received: "
                    f"mask.shape={mask.shape}, inputs.shape={inputs.shape}"
                )
            mask = ops.cast(mask, "bool")
            # Far below any logit, and still finite in float16 after the maximum is subtracted.
            lowest = -3e4 if inputs.dtype == "float16" else -1e9
            inputs = ops.where(mask, inputs, lowest)
        axes = list(self.axis) if isinstance(self.axis, (list, tuple)) else [self.axis]
        if len(axes) == 1:
            outputs = ops.softmax(inputs, axis=axes[0])
        else:
            outputs = ops.exp(inputs - ops.logsumexp(inputs, axis=axes, keepdims=True))
        # A row with nothing left would be uniform: it becomes zero.
        return outputs if mask is None else ops.where(mask, outputs, ops.zeros_like(outputs))

    def get_config(self):
        return {**super().get_config(), **config_of(self, "axis")}
