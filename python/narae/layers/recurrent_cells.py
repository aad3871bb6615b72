"""Cells: one step of a recurrent layer, `call(inputs, states) -> (output, new states)`."""

from collections.abc import Sequence

from narae import activations, initializers, ops, random
from narae.engine import lookup, tree
from narae.layers.arguments import accepts, config_of, parse, positive, rate_between_0_and_1, who
from narae.layers.layer import Layer


class Cell(Layer):
    """One step of a recurrent layer: `call(inputs, states) -> (output, new states)`.

    All gates lie side by side in kernel (inputs, gates * units) and recurrent_kernel
    (units, gates * units).
    """

    gates = 1
    _names = (
        "units",
        "activation",
        "use_bias",
        "kernel_initializer",
        "recurrent_initializer",
        "bias_initializer",
        "kernel_regularizer",
        "recurrent_regularizer",
        "bias_regularizer",
        "kernel_constraint",
        "recurrent_constraint",
        "bias_constraint",
        "dropout",
        "recurrent_dropout",
        "seed",
    )

    def __init__(
        self,
        units,
        activation="tanh",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        seed=None,
        **kwargs,
    ):
        kwargs.pop("implementation", None)  # Keras's choice between two ways to the same numbers
        super().__init__(**kwargs)
        self.units = positive(self, "units", units)
        self.use_bias = use_bias
        parse(
            self,
            activation=activation,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
        )
        self.dropout = rate_between_0_and_1(self, "dropout", dropout)
        self.recurrent_dropout = rate_between_0_and_1(self, "recurrent_dropout", recurrent_dropout)
        self.seed = seed
        self.seed_generator = random.SeedGenerator(seed)
        self.state_size = self.output_size = self.units
        self.reset_dropout_mask()

    def _bias_shape(self) -> tuple[int, ...]:
        return (self.gates * self.units,)

    def _bias_initializer(self):
        return self.bias_initializer

    def build(self, input_shape):
        width = self.gates * self.units
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], width),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel",
            shape=(self.units, width),
            initializer=self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=self._bias_shape(),
                initializer=self._bias_initializer(),
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def get_initial_state(self, batch_size=None):
        return [ops.zeros((batch_size, self.units), dtype=self.compute_dtype)]

    def is_fusable(self) -> bool:
        """Whether the whole-sequence kernel computes this cell's formula."""
        return not self.recurrent_dropout and self.activation is activations.tanh

    # Dropout: one mask per sequence, the same at every step.

    def get_dropout_mask(self, step_input):
        if self._dropout_mask is None and self.dropout > 0:
            ones = ops.ones_like(step_input)
            self._dropout_mask = random.dropout(ones, self.dropout, seed=self.seed_generator)
        return self._dropout_mask

    def get_recurrent_dropout_mask(self, state):
        if self._recurrent_dropout_mask is None and self.recurrent_dropout > 0:
            ones = ops.ones_like(state)
            self._recurrent_dropout_mask = random.dropout(
                ones, self.recurrent_dropout, seed=self.seed_generator
            )
        return self._recurrent_dropout_mask

    def reset_dropout_mask(self) -> None:
        self._dropout_mask = self._recurrent_dropout_mask = None

    reset_recurrent_dropout_mask = reset_dropout_mask

    def _drop(self, inputs, h, training) -> tuple:
        """Inputs and state behind their dropout masks."""
        if training and self.dropout > 0:
            inputs = inputs * self.get_dropout_mask(inputs)
        if training and self.recurrent_dropout > 0:
            h = h * self.get_recurrent_dropout_mask(h)
        return inputs, h

    def get_config(self):
        return {**super().get_config(), **config_of(self, *self._names)}


class SimpleRNNCell(Cell):
    """One step of `SimpleRNN`: `h' = activation(x @ kernel + h @ recurrent_kernel + bias)`.

    Args: as `SimpleRNN`'s.

    Call arguments:
        inputs: (batch, features).
        states: h, or a list of it: (batch, units).
        training: whether dropout is applied.
    """

    def call(self, inputs, states, training=False):
        h = states[0] if tree.is_nested(states) else states
        inputs, h = self._drop(inputs, h, training)
        z = ops.dense(inputs, self.kernel, self.bias) + ops.matmul(h, self.recurrent_kernel)
        output = self.activation(z)
        return output, [output] if tree.is_nested(states) else output

    def run(self, x, states, mask, reverse):
        """Runs the fused kernel over all steps."""
        h0 = states[0]
        sequence, h = ops.simple_rnn(
            x, h0, self.kernel, self.recurrent_kernel, self.bias, mask=mask, reverse=reverse
        )
        return sequence, [h]


class LSTMCell(Cell):
    """One step of `LSTM`.

    `i, f, o = recurrent_activation(...)`, `g = activation(...)` of
    `x @ kernel + h @ recurrent_kernel + bias`, laid out i, f, g, o;
    `c' = f * c + i * g`, `h' = o * activation(c')`.

    Args: as `LSTM`'s.

    Call arguments:
        inputs: (batch, features).
        states: [h, c], each (batch, units).
        training: whether dropout is applied.
    """

    gates = 4
    _names = (*Cell._names, "recurrent_activation", "unit_forget_bias")

    def __init__(
        self,
        units: int,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(
            units,
            activation,
            use_bias,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            kernel_regularizer,
            recurrent_regularizer,
            bias_regularizer,
            kernel_constraint,
            recurrent_constraint,
            bias_constraint,
            dropout,
            recurrent_dropout,
            seed,
            **kwargs,
        )
        parse(self, recurrent_activation=recurrent_activation)
        self.unit_forget_bias = unit_forget_bias
        self.state_size = [self.units, self.units]

    def _bias_initializer(self):
        if not self.unit_forget_bias:
            return self.bias_initializer

        def open_forget_gates(shape, dtype=None):
            draw, n = self.bias_initializer, self.units
            ones = initializers.get("ones")((n,), dtype=dtype)
            return ops.concatenate([draw((n,), dtype=dtype), ones, draw((2 * n,), dtype=dtype)], 0)

        return open_forget_gates

    def get_initial_state(self, batch_size=None):
        """Zeros for h and c, each (batch_size, units)."""
        return super().get_initial_state(batch_size) * 2

    def is_fusable(self):
        return super().is_fusable() and self.recurrent_activation is activations.sigmoid

    def call(self, inputs, states, training=False):
        h, c = states
        inputs, h = self._drop(inputs, h, training)
        z = ops.dense(inputs, self.kernel, self.bias) + ops.matmul(h, self.recurrent_kernel)
        i, f, g, o = ops.split(z, 4, axis=-1)
        c = self.recurrent_activation(f) * c + self.recurrent_activation(i) * self.activation(g)
        h = self.recurrent_activation(o) * self.activation(c)
        return h, [h, c]

    def run(self, x, states, mask, reverse):
        """Runs the fused kernel over all steps."""
        h0, c0 = states
        sequence, h, c = ops.lstm(
            x, h0, c0, self.kernel, self.recurrent_kernel, self.bias, mask=mask, reverse=reverse
        )
        return sequence, [h, c]


class GRUCell(Cell):
    """One step of `GRU`.

    `z, r = recurrent_activation(...)`, `g = activation(x_g + r * (h @ U_g + b_g))`,
    `h' = z * h + (1 - z) * g`. With `reset_after=False`, `g = activation(x_g + (r * h) @ U_g)`.

    Args: as `GRU`'s.

    Call arguments:
        inputs: (batch, features).
        states: h, or a list of it: (batch, units).
        training: whether dropout is applied.
    """

    gates = 3
    _names = (*Cell._names, "recurrent_activation", "reset_after")

    def __init__(
        self,
        units: int,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = True,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(
            units,
            activation,
            use_bias,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            kernel_regularizer,
            recurrent_regularizer,
            bias_regularizer,
            kernel_constraint,
            recurrent_constraint,
            bias_constraint,
            dropout,
            recurrent_dropout,
            seed,
            **kwargs,
        )
        parse(self, recurrent_activation=recurrent_activation)
        self.reset_after = reset_after

    def _bias_shape(self):
        width = 3 * self.units
        return (2, width) if self.reset_after else (width,)

    def is_fusable(self):
        return super().is_fusable() and self.recurrent_activation is activations.sigmoid

    def call(self, inputs, states, training=False):
        previous = states[0] if tree.is_nested(states) else states
        inputs, h = self._drop(inputs, previous, training)
        bias, recurrent_bias = self.bias, None
        if bias is not None and self.reset_after:
            bias, recurrent_bias = self.bias[0], self.bias[1]
        x_z, x_r, x_g = ops.split(ops.dense(inputs, self.kernel, bias), 3, axis=-1)
        if self.reset_after:
            inner = ops.dense(h, self.recurrent_kernel, recurrent_bias)
            h_z, h_r, h_g = ops.split(inner, 3, axis=-1)
        else:
            n = 2 * self.units
            h_z, h_r = ops.split(ops.matmul(h, self.recurrent_kernel[:, :n]), 2, axis=-1)
        z = self.recurrent_activation(x_z + h_z)
        r = self.recurrent_activation(x_r + h_r)
        if self.reset_after:
            g = self.activation(x_g + r * h_g)
        else:
            g = self.activation(x_g + ops.matmul(r * h, self.recurrent_kernel[:, n:]))
        output = z * previous + (1 - z) * g
        return output, [output] if tree.is_nested(states) else output

    def run(self, x, states, mask, reverse):
        """Runs the fused kernel over all steps."""
        sequence, h = ops.gru(
            x,
            states[0],
            self.kernel,
            self.recurrent_kernel,
            self.bias,
            mask=mask,
            reset_after=self.reset_after,
            reverse=reverse,
        )
        return sequence, [h]


def state_sizes_of(cell) -> list:
    sizes = cell.state_size
    return [sizes] if isinstance(sizes, int) else list(sizes)


def output_size_of(cell) -> int:
    size = getattr(cell, "output_size", None)
    return tree.flatten(cell.state_size)[0] if size is None else size


def initial_state_of(cell, batch_size: int, dtype) -> list:
    if hasattr(cell, "get_initial_state"):
        state = cell.get_initial_state(batch_size=batch_size)
        return list(state) if tree.is_nested(state) else [state]
    return [ops.zeros((batch_size, n), dtype=dtype) for n in state_sizes_of(cell)]


def check_cell(layer, cell) -> None:
    if not hasattr(cell, "call") or not hasattr(cell, "state_size"):
        raise ValueError(
            f"{who(layer)}: expected a cell with call(inputs, states) and state_size. "
            f"Received: {cell!r}"
        )
    sizes = cell.state_size
    if not isinstance(sizes, (int, list, tuple)):
        raise ValueError(
            f"{who(layer)}: expected the cell's state_size to be an integer or integers. "
            f"Received: state_size={sizes!r}"
        )


class StackedRNNCells(Layer):
    """Cells on top of each other, to be run as one by `RNN`.

    Args:
        cells: the cells, from the input up.
    """

    def __init__(self, cells: Sequence, **kwargs):
        super().__init__(**kwargs)
        for cell in cells:
            check_cell(self, cell)
        self.cells = list(cells)

    @property
    def state_size(self) -> list:
        """The cells' state sizes."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> int:
        """The size of the last cell's output."""
        return output_size_of(self.cells[-1])

    def get_initial_state(self, batch_size=None):
        """The cells' initial states."""
        return [initial_state_of(cell, batch_size, self.compute_dtype) for cell in self.cells]

    def reset_dropout_mask(self) -> None:
        """Draws the cells' dropout masks anew at the next step."""
        for cell in self.cells:
            if hasattr(cell, "reset_dropout_mask"):
                cell.reset_dropout_mask()

    def build(self, input_shape):
        for cell in self.cells:
            if isinstance(cell, Layer) and not cell.built:
                cell.build(input_shape)
            input_shape = (input_shape[0], output_size_of(cell))

    def call(self, inputs, states, training=False):
        new_states = []
        for cell, state in zip(self.cells, states):
            state = list(state) if tree.is_nested(state) else [state]
            kwargs = {"training": training} if accepts(cell, "training") else {}
            inputs, state = (cell if callable(cell) else cell.call)(inputs, state, **kwargs)
            new_states.append(state)
        return inputs, new_states

    def compute_output_shape(self, inputs_shape, states_shape=None):
        batch = inputs_shape[0]
        states = tree.map_structure(lambda n: (batch, n), self.state_size)
        return (batch, self.output_size), states

    def get_config(self):
        cells = [lookup.to_config(cell) for cell in self.cells]
        return {**super().get_config(), "cells": cells}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        cells = [lookup.from_config(cell, {}, custom_objects) for cell in config["cells"]]
        return super().from_config({**config, "cells": cells})
