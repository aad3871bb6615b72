"""The layers that nearly every model starts from."""

import base64
import inspect
import marshal
import math
import os
import re
import types
from collections.abc import Callable
from typing import Any

from narae import initializers, ops
from narae.engine import lookup, tree
from narae.layers.arguments import config_of, parse, positive, split_activation, who
from narae.layers.input_spec import InputSpec
from narae.layers.layer import Layer


class Identity(Layer):
    """Hands its input on unchanged."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        return inputs

    def compute_output_shape(self, input_shape):
        return input_shape


class Dense(Layer):
    """Fully connected layer on the last axis: `y = activation(x @ kernel + bias)`.

    Args:
        units: number of outputs.
        activation: name, callable or None; a built-in one is computed inside the kernel.
        use_bias: whether a bias is added.
        kernel_initializer, kernel_regularizer, kernel_constraint: of the kernel
            (inputs, units).
        bias_initializer, bias_regularizer, bias_constraint: of the bias (units,).
        activity_regularizer: penalty on the output.
        lora_rank, lora_alpha, quantization_config: not supported; must be None.

    Input: (batch, ..., inputs). Output: (batch, ..., units).

    Raises:
        ValueError: units that are not a positive integer.

    >>> layer = narae.layers.Dense(4, activation="relu")
    >>> layer(narae.ops.ones((2, 3))).shape
    (2, 4)
    >>> [w.shape for w in layer.weights]
    [(3, 4), (4,)]
    """

    def __init__(
        self,
        units: int,
        activation=None,
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        _no_adapters(self, lora_rank, lora_alpha, quantization_config)
        self.units = positive(self, "units", units)
        self.use_bias = use_bias
        parse(
            self,
            activation=activation,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )
        self.quantization_config = None
        self.input_spec = InputSpec(min_ndim=2)
        self.supports_masking = True

    def build(self, input_shape):
        inputs = input_shape[-1]
        if inputs is None:
            raise ValueError(
                f"{who(self)}: expected the last axis of the input to have a known size. "
                f"Received: inputs.shape={tuple(input_shape)}"
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(inputs, self.units),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.units,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.input_spec = InputSpec(min_ndim=2, axes={-1: inputs})

    def call(self, inputs):
        fused, after = split_activation(self.activation)
        y = ops.dense(inputs, self.kernel, self.bias, activation=fused)
        return y if after is None else after(y)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        names = (
            "units",
            "activation",
            "use_bias",
            "kernel_initializer",
            "bias_initializer",
            "kernel_regularizer",
            "bias_regularizer",
            "kernel_constraint",
            "bias_constraint",
            "quantization_config",
        )
        return {**super().get_config(), **config_of(self, *names)}


def _no_adapters(layer, lora_rank, lora_alpha, quantization_config) -> None:
    """Refuses what Keras's signature offers and narae does not have yet."""
    for name, value in (
        ("lora_rank", lora_rank),
        ("lora_alpha", lora_alpha),
        ("quantization_config", quantization_config),
    ):
        if value is not None:
            raise NotImplementedError(
                f"{who(layer)}: expected {name} to be None, it is not supported yet. "
                f"Received: {name}={value!r}"
            )


_EQUATION = re.compile(r"(\.\.\.)?([a-zA-Z]+)(\.\.\.)?,([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)(\.\.\.)?")


class EinsumDense(Layer):
    """Dense layer whose product is an einsum: `y = activation(einsum(equation, x, kernel) + bias)`.

    Args:
        equation: two operands, as `"ab,bc->ac"`, `"...x,xy->...y"` or `"abc...,cd->abd..."`.
        output_shape: sizes of the output without batch and ellipsis; None takes the input's.
        activation: name, callable or None.
        bias_axes: the output's letters that the bias has, e.g. `"d"`; None for no bias.
        kernel_initializer, kernel_regularizer, kernel_constraint: of the kernel.
        bias_initializer, bias_regularizer, bias_constraint: of the bias.

    >>> layer = narae.layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 5), bias_axes="de")
    >>> layer(narae.ops.ones((4, 3, 6))).shape
    (4, 3, 2, 5)
    """

    def __init__(
        self,
        equation: str,
        output_shape,
        activation=None,
        bias_axes: str | None = None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        gptq_unpacked_column_size=None,
        quantization_config=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        _no_adapters(self, lora_rank, lora_alpha, quantization_config)
        match = _EQUATION.fullmatch(equation.replace(" ", ""))
        ellipses = () if match is None else (match[1], match[3], match[5], match[7])
        if match is None or ellipses[:2] != ellipses[2:] or all(ellipses[:2]):
            raise ValueError(
                f"{who(self)}: expected an equation of the form 'ab,bc->ac', '...ab,bc->...ac' or "
                f"'ab...,bc->ac...'. Received: equation={equation!r}"
            )
        self.equation = equation
        self._x, self._w, self._y = match[2], match[4], match[6]
        self._elided_left = match[1] is not None
        self._elides = self._elided_left or match[3] is not None
        self.partial_output_shape = (
            (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
        )
        self.bias_axes = bias_axes
        parse(
            self,
            activation=activation,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )
        self.quantization_config = None

    def _sizes(self, input_shape) -> tuple[tuple, dict[str, Any], int]:
        """(output shape, size of each letter, number of elided axes)."""
        elided = len(input_shape) - len(self._x)
        left = elided if self._elided_left else 0
        x_shape = input_shape[left : left + len(self._x)]
        head, tail = tuple(input_shape[:left]), tuple(input_shape[left + len(self._x) :])
        # The partial shape leaves out the batch axis, which is the first one, elided or not.
        batch = () if head else input_shape[:1]
        y_shape = (*batch, *self.partial_output_shape)
        fits = elided >= 0 if self._elides else elided == 0
        if not fits or len(y_shape) != len(self._y):
            raise ValueError(
                f"{who(self)}: expected input and output_shape to have the equation's ranks. "
                f"Received: equation={self.equation!r}, inputs.shape={tuple(input_shape)}, "
                f"output_shape={self.partial_output_shape}"
            )
        sizes = dict(zip(self._x, x_shape))
        for letter, n in zip(self._y, y_shape):
            if letter not in self._x + self._w:
                raise ValueError(
                    f"{who(self)}: expected every letter of the output among the operands'. "
                    f"Received: equation={self.equation!r}"
                )
            if n is not None and sizes.get(letter) not in (None, n):
                raise ValueError(
                    f"{who(self)}: expected input and output to agree on axis {letter!r}. "
                    f"Received: inputs.shape={tuple(input_shape)}, "
                    f"output_shape={self.partial_output_shape}"
                )
            sizes[letter] = sizes.get(letter) if n is None else n
        return (*head, *(sizes[letter] for letter in self._y), *tail), sizes, elided

    def build(self, input_shape):
        _, sizes, elided = self._sizes(input_shape)
        unknown = [letter for letter in self._w if sizes.get(letter) is None]
        if unknown or not set(self.bias_axes or "") <= set(self._y):
            raise ValueError(
                f"{who(self)}: expected the kernel's axes to have known sizes, and bias_axes to be "
                f"letters of the output. Received: equation={self.equation!r}, "
                f"inputs.shape={tuple(input_shape)}, output_shape={self.partial_output_shape}, "
                f"bias_axes={self.bias_axes!r}"
            )
        initializer = self.kernel_initializer
        if isinstance(initializer, initializers.VarianceScaling) and initializer.input_axes is None:
            # Fans follow the equation: contracted axes come in, the others go out.
            config = {**initializer.get_config(), "seed": initializer.seed}
            config["input_axes"] = [i for i, c in enumerate(self._w) if c not in self._y]
            config["output_axes"] = [i for i, c in enumerate(self._w) if c in self._y]
            initializer = type(initializer).from_config(config)
        self.kernel = self.add_weight(
            name="kernel",
            shape=tuple(sizes[letter] for letter in self._w),
            initializer=initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.bias_axes:
            first = min(self._y.index(letter) for letter in self.bias_axes)
            shape = [sizes[c] if c in self.bias_axes else 1 for c in self._y[first:]]
            self.bias = self.add_weight(
                name="bias",
                shape=(*shape, *([1] * (0 if self._elided_left else elided))),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.input_spec = InputSpec(ndim=len(input_shape))
        self._contracted = self._dense_axes(elided)

    def _dense_axes(self, elided: int) -> int:
        """How many axes a plain dense product would contract; 0 if the einsum is not one.

        It is one when x = batch + in, kernel = in + out, y = batch + out, bias = out.
        """
        contracted = [c for c in self._w if c not in self._y]
        n = len(contracted)
        batch, out = self._x[: len(self._x) - n], self._w[n:]
        plain = (
            n > 0
            and out
            and self._x[len(batch) :] == self._w[:n]
            and self._y == batch + out
            and len(set(self._x + out)) == len(self._x + out)
            and (self._elided_left or elided == 0)
            and (self.bias is None or self.bias.shape == self.kernel.shape[n:])
        )
        return n if plain else 0

    def call(self, inputs):
        fused, after = split_activation(self.activation)
        n = self._contracted
        if n:
            rows, columns = self.kernel.shape[:n], self.kernel.shape[n:]
            x = ops.reshape(inputs, (*inputs.shape[:-n], math.prod(rows))) if n > 1 else inputs
            w = ops.reshape(self.kernel, (math.prod(rows), math.prod(columns)))
            b = None if self.bias is None else ops.reshape(self.bias, (math.prod(columns),))
            y = ops.dense(x, w, b, activation=fused)
            if len(columns) > 1:
                y = ops.reshape(y, (*inputs.shape[:-n], *columns))
            return y if after is None else after(y)
        y = ops.einsum(self.equation, inputs, self.kernel)
        if self.bias is not None:
            y = y + self.bias
        return self.activation(y)

    def compute_output_shape(self, input_shape):
        return self._sizes(input_shape)[0]

    def get_config(self):
        names = (
            "equation",
            "activation",
            "bias_axes",
            "kernel_initializer",
            "bias_initializer",
            "kernel_regularizer",
            "bias_regularizer",
            "activity_regularizer",
            "kernel_constraint",
            "bias_constraint",
            "quantization_config",
        )
        return {
            **super().get_config(),
            "output_shape": self.partial_output_shape,
            **config_of(self, *names),
        }


class Embedding(Layer):
    """Looks up a row of a learned table for each integer: `y[..., :] = embeddings[x[...]]`.

    Args:
        input_dim: number of rows; inputs are 0 .. input_dim - 1 (negative ones count from the
            end).
        output_dim: length of a row.
        embeddings_initializer, embeddings_regularizer, embeddings_constraint: of the table.
        mask_zero: whether input 0 means padding, to be masked downstream.
        weights: initial table (input_dim, output_dim).
        lora_rank, lora_alpha, quantization_config: not supported; must be None.

    Raises:
        IndexError: at a call, an integer outside the table.

    >>> narae.layers.Embedding(1000, 64)(narae.ops.array([[4, 20, 7]])).shape
    (1, 3, 64)
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer="uniform",
        embeddings_regularizer=None,
        embeddings_constraint=None,
        mask_zero: bool = False,
        weights=None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config=None,
        **kwargs,
    ):
        kwargs.pop("input_length", None)  # Keras 2's; the length is read off the input.
        super().__init__(**kwargs)
        _no_adapters(self, lora_rank, lora_alpha, quantization_config)
        self.input_dim = positive(self, "input_dim", input_dim)
        self.output_dim = positive(self, "output_dim", output_dim)
        parse(
            self,
            embeddings_initializer=embeddings_initializer,
            embeddings_regularizer=embeddings_regularizer,
            embeddings_constraint=embeddings_constraint,
        )
        self.mask_zero = mask_zero
        self.supports_masking = mask_zero
        self.autocast = False
        self.quantization_config = None
        if weights is not None:
            self.build()
            self.set_weights(weights if isinstance(weights, list) else [weights])

    def build(self, input_shape=None):
        if getattr(self, "embeddings", None) is not None:
            return
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.input_dim, self.output_dim),
            initializer=self.embeddings_initializer,
            regularizer=self.embeddings_regularizer,
            constraint=self.embeddings_constraint,
        )
        self.built = True

    def call(self, inputs):
        if inputs.dtype not in ("int32", "int64"):
            inputs = ops.cast(inputs, "int32")
        return ops.cast(ops.embedding(self.embeddings, inputs), self.compute_dtype)

    def compute_mask(self, inputs, mask=None):
        return ops.not_equal(inputs, 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.output_dim)

    def get_config(self):
        names = (
            "input_dim",
            "output_dim",
            "embeddings_initializer",
            "embeddings_regularizer",
            "activity_regularizer",
            "embeddings_constraint",
            "mask_zero",
            "quantization_config",
        )
        return {**super().get_config(), **config_of(self, *names)}


class Masking(Layer):
    """Masks the timesteps whose features all equal `mask_value`, and sets them to 0.

    Args:
        mask_value: the value that marks padding.

    Input and output: (batch, steps, features).
    """

    def __init__(self, mask_value: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.mask_value = mask_value
        self.supports_masking = True

    def compute_mask(self, inputs, mask=None):
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1)

    def call(self, inputs):
        kept = ops.any(ops.not_equal(inputs, self.mask_value), axis=-1, keepdims=True)
        return ops.where(kept, inputs, ops.zeros_like(inputs))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **config_of(self, "mask_value")}


# Lambdas whose config this process wrote, by token: reading such a config back (clone_model) finds
# the function itself. A config of another process stays closed: its code is never run.
_LAMBDAS: dict[str, Callable] = {}
_PROCESS = os.urandom(16).hex()


def _serialize_function(function: Callable) -> dict:

    if isinstance(function, types.LambdaType) and function.__name__ == "<lambda>":
        token = f"{_PROCESS}-{id(function)}"
        _LAMBDAS[token] = function
        code = base64.b64encode(marshal.dumps(function.__code__)).decode("ascii")
        closure = [cell.cell_contents for cell in function.__closure__ or ()]
        config = {"code": code, "defaults": function.__defaults__, "closure": closure or None}
        return {"class_name": "__lambda__", "config": {**config, "token": token}}
    return lookup.to_config(function)


def _deserialize_function(config, custom_objects) -> Callable:

    if isinstance(config, dict) and config.get("class_name") == "__lambda__":
        function = _LAMBDAS.get(config["config"].get("token"))
        if function is None:
            raise ValueError(
                "narae.layers.Lambda: expected a named function. Received: a Python lambda stored "
                "as code in a config, which narae never runs. Use a function registered with "
                "narae.saving.register_keras_serializable, or a Layer of your own."
            )
        return function
    if callable(config):
        return config
    return lookup.from_config(config, {}, custom_objects)


class Lambda(Layer):
    """Makes a layer of a function without weights.

    Args:
        function: takes the input, and `mask` or `training` if its signature has them.
        output_shape: shape without the batch axis, or a function of the input shape; by default
            found by running the function.
        mask: the output's mask, or a function `(inputs, mask) -> mask`.
        arguments: further keyword arguments for the function.

    A Python lambda can be used and cloned, not loaded from a file: loading never runs code.

    >>> narae.layers.Lambda(lambda x: x * 2)(narae.ops.ones((1, 2))).numpy()
    array([[2., 2.]], dtype=float32)
    """

    def __init__(
        self,
        function: Callable,
        output_shape=None,
        mask=None,
        arguments: dict[str, Any] | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not callable(function):
            raise TypeError(
                f"{who(self)}: expected function to be callable. Received: function={function!r}"
            )
        self.function = function
        self.arguments = arguments or {}
        self.mask = mask
        self.supports_masking = mask is not None
        self._output_shape = output_shape
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):  # some built-ins have no signature
            parameters = {}
        self._takes = [name for name in ("mask", "training") if name in parameters]

    def call(self, inputs, mask=None, training=None):
        given = {"mask": mask, "training": training}
        return self.function(inputs, **self.arguments, **{k: given[k] for k in self._takes})

    def compute_mask(self, inputs, mask=None):
        return self.mask(inputs, mask) if callable(self.mask) else self.mask

    def compute_output_shape(self, input_shape):
        if self._output_shape is None:
            return super().compute_output_shape(input_shape)
        if callable(self._output_shape):
            return self._output_shape(input_shape)
        return (tree.flatten(input_shape)[0], *self._output_shape)

    def get_config(self):
        config = {"function": _serialize_function(self.function)}
        for name, value in (("output_shape", self._output_shape), ("mask", self.mask)):
            if value is not None:
                config[name] = _serialize_function(value) if callable(value) else value
        return {**super().get_config(), **config, **config_of(self, "arguments")}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        for name in ("function", "output_shape", "mask"):
            if isinstance(config.get(name), dict):
                config[name] = _deserialize_function(config[name], custom_objects)
        return cls(**config)
