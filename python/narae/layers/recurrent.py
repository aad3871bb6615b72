"""Recurrent layers: cells for one step, layers for whole sequences.

`SimpleRNN`, `LSTM` and `GRU` run a whole sequence in one kernel call when their activations are
the default ones; other activations, recurrent dropout and cells of one's own run step by step.
"""

import types
from collections.abc import Sequence

from narae import activations, initializers, ops, random
from narae.engine import lookup, tree
from narae.engine.variable import Variable
from narae.layers.arguments import (
    accepts,
    config_of,
    one_of,
    parse,
    positive,
    rate_between_0_and_1,
    who,
)
from narae.layers.layer import InputSpec, Layer


class _Cell(Layer):
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


class SimpleRNNCell(_Cell):
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


class LSTMCell(_Cell):
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
    _names = (*_Cell._names, "recurrent_activation", "unit_forget_bias")

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


class GRUCell(_Cell):
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
    _names = (*_Cell._names, "recurrent_activation", "reset_after")

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


def _state_sizes(cell) -> list:
    sizes = cell.state_size
    return [sizes] if isinstance(sizes, int) else list(sizes)


def _output_size(cell) -> int:
    size = getattr(cell, "output_size", None)
    return tree.flatten(cell.state_size)[0] if size is None else size


def _initial_state(cell, batch_size: int, dtype) -> list:
    if hasattr(cell, "get_initial_state"):
        state = cell.get_initial_state(batch_size=batch_size)
        return list(state) if tree.is_nested(state) else [state]
    return [ops.zeros((batch_size, n), dtype=dtype) for n in _state_sizes(cell)]


def _check_cell(layer, cell) -> None:
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
            _check_cell(self, cell)
        self.cells = list(cells)

    @property
    def state_size(self) -> list:
        """The cells' state sizes."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> int:
        """The size of the last cell's output."""
        return _output_size(self.cells[-1])

    def get_initial_state(self, batch_size=None):
        """The cells' initial states."""
        return [_initial_state(cell, batch_size, self.compute_dtype) for cell in self.cells]

    def reset_dropout_mask(self) -> None:
        """Draws the cells' dropout masks anew at the next step."""
        for cell in self.cells:
            if hasattr(cell, "reset_dropout_mask"):
                cell.reset_dropout_mask()

    def build(self, input_shape):
        for cell in self.cells:
            if isinstance(cell, Layer) and not cell.built:
                cell.build(input_shape)
            input_shape = (input_shape[0], _output_size(cell))

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


class RNN(Layer):
    """Runs a cell along the steps of (batch, steps, features).

    Args:
        cell: an object with `call(inputs, states) -> (output, new states)` and `state_size`, and
            optionally `output_size` and `get_initial_state(batch_size)`; or a list of such cells.
        return_sequences: whether to return every step's output, not only the last.
        return_state: whether to return the final states after the output.
        go_backwards: whether to run from the last step to the first; the outputs stay in the
            order in which they were computed.
        stateful: whether the final states are the next batch's initial states.
        unroll: accepted for Keras's sake; the result is the same.
        zero_output_for_mask: whether masked steps give zeros, not the previous output.

    Call arguments:
        sequences: (batch, steps, features).
        initial_state: list of states, each (batch, size); zeros by default.
        mask: boolean (batch, steps); False steps leave the state as it is.
        training: whether dropout is applied.
    """

    def __init__(
        self,
        cell,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if isinstance(cell, (list, tuple)):
            cell = StackedRNNCells(cell)
        _check_cell(self, cell)
        self.cell = cell
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.stateful = stateful
        self.unroll = unroll
        self.zero_output_for_mask = zero_output_for_mask
        self.supports_masking = True
        self.state_size = _state_sizes(cell)
        # The states of a stateful layer are memory, not weights: they hide from tracking.
        self._memory = types.SimpleNamespace(states=None)

    @property
    def states(self) -> list | None:
        """The state variables of a stateful layer."""
        return self._memory.states

    def build(self, sequences_shape, initial_state_shape=None):
        if isinstance(self.cell, Layer) and not self.cell.built:
            self.cell.build((sequences_shape[0], *sequences_shape[2:]))
        if self.stateful and self.states is None:
            if sequences_shape[0] is None:
                raise ValueError(
                    f"{who(self)}: expected a fixed batch size with stateful=True, as from "
                    f"Input(batch_shape=...). Received: sequences.shape={tuple(sequences_shape)}"
                )
            self._memory.states = tree.map_structure(
                lambda x: Variable(x, trainable=False, name="rnn_state"),
                self.get_initial_state(sequences_shape[0]),
            )

    def get_initial_state(self, batch_size: int) -> list:
        """The states before the first step: zeros, unless the cell says otherwise."""
        return _initial_state(self.cell, batch_size, self.compute_dtype)

    def reset_state(self) -> None:
        """Sets the states of a stateful layer back to zero."""
        for state in tree.flatten(self.states or []):
            state.assign(ops.zeros_like(state))

    reset_states = reset_state

    def call(self, sequences, initial_state=None, mask=None, training=False):
        states = self._first_states(sequences, initial_state)
        mask = sequences.mask if mask is None else tree.flatten(mask)[0]
        if mask is not None:
            mask = ops.cast(mask, "bool")
            mask = ops.any(mask, axis=-1) if len(mask.shape) == 3 else mask
        if hasattr(self.cell, "reset_dropout_mask"):
            self.cell.reset_dropout_mask()
        outputs, states = self._run_steps(sequences, states, mask, training)
        if self.stateful:
            for variable, state in zip(tree.flatten(self.states), tree.flatten(states)):
                variable.assign(ops.stop_gradient(state))
        output = outputs if self.return_sequences else outputs[:, -1]
        return (output, *states) if self.return_state else output

    def _first_states(self, sequences, initial_state) -> list:
        batch = sequences.shape[0]
        if sequences.shape[1] == 0:
            raise ValueError(
                f"{who(self)}: expected at least one step. "
                f"Received: sequences.shape={sequences.shape}"
            )
        if self.stateful:
            expected = tree.flatten(self.states)[0].shape[0]
            if batch != expected:
                raise ValueError(
                    f"{who(self)}: expected batches of {expected} samples, as the first one, with "
                    f"stateful=True. Received: sequences.shape={sequences.shape}"
                )
        if initial_state is None:
            initial_state = self.states if self.stateful else self.get_initial_state(batch)
        initial_state = list(initial_state) if tree.is_nested(initial_state) else [initial_state]
        if len(initial_state) != len(self.state_size):
            raise ValueError(
                f"{who(self)}: expected {len(self.state_size)} initial states. "
                f"Received: {len(initial_state)}"
            )
        return tree.map_structure(
            lambda x: ops.convert_to_tensor(x, dtype=self.compute_dtype), initial_state
        )

    def _run_steps(self, sequences, states, mask, training) -> tuple:
        """(outputs of all steps in the order of computation, final states)."""
        kwargs = {"training": training} if accepts(self.cell, "training") else {}
        steps = ops.unstack(sequences, axis=1)
        kept = [None] * len(steps) if mask is None else ops.unstack(mask, axis=1)
        order = range(len(steps) - 1, -1, -1) if self.go_backwards else range(len(steps))
        outputs = []
        for t in order:
            output, new_states = self.cell(steps[t], states, **kwargs)
            new_states = tree.pack_sequence_as(states, tree.flatten(new_states))
            if kept[t] is not None:
                # What a masked step hands out: the state as it was, which is the last output.
                last = states[-1][0] if tree.is_nested(states[0]) else states[0]
                output = _keep(kept[t], output, None if self.zero_output_for_mask else last)
                new_states = tree.map_structure(
                    lambda new, old, m=kept[t]: _keep(m, new, old), new_states, states
                )
            outputs.append(output)
            states = new_states
        return ops.stack(outputs, axis=1), states

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        batch, steps = sequences_shape[:2]
        output = (batch, steps) if self.return_sequences else (batch,)
        output = (*output, _output_size(self.cell))
        if not self.return_state:
            return output
        return (output, *tree.map_structure(lambda n: (batch, n), self.state_size))

    def compute_mask(self, inputs, mask=None):
        mask = tree.flatten(mask)[0] if self.return_sequences else None
        return [mask, *(None for _ in self.state_size)] if self.return_state else mask

    def get_config(self):
        names = (
            "return_sequences",
            "return_state",
            "go_backwards",
            "stateful",
            "unroll",
            "zero_output_for_mask",
        )
        cell = lookup.to_config(self.cell)
        return {**super().get_config(), **config_of(self, *names), "cell": cell}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        cell = lookup.from_config(config["cell"], {}, custom_objects)
        return super().from_config({**config, "cell": cell})


def _keep(mask, new, old):
    """`new` where the step counts, `old` (or zeros) where it is masked."""
    while len(mask.shape) < len(new.shape):
        mask = ops.expand_dims(mask, -1)
    return ops.where(mask, new, ops.zeros_like(new) if old is None else old)


class _CellLayer(RNN):
    """An `RNN` with a cell of its own, whose arguments and weights lie in `cell`."""

    def __init__(self, cell: _Cell, activity_regularizer=None, **kwargs):
        super().__init__(cell, activity_regularizer=activity_regularizer, **kwargs)
        self.input_spec = InputSpec(ndim=3)

    def __getattr__(self, name):
        # units, activation, kernel_initializer, dropout ... live in the cell
        cell = self.__dict__.get("cell")
        if cell is None or name not in cell._names:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(cell, name)

    def _run_steps(self, sequences, states, mask, training):
        cell = self.cell
        if not cell.is_fusable():
            return super()._run_steps(sequences, states, mask, training)
        if training and cell.dropout > 0:
            sequences = sequences * ops.expand_dims(cell.get_dropout_mask(sequences[:, 0]), 1)
        outputs, states = cell.run(sequences, states, mask, self.go_backwards)
        if self.go_backwards:
            outputs = ops.flip(outputs, axis=1)
            mask = None if mask is None else ops.flip(mask, axis=1)
        if mask is not None and self.zero_output_for_mask:
            outputs = _keep(mask, outputs, None)
        return outputs, states

    def get_config(self):
        config = super().get_config()
        del config["cell"]
        config["activity_regularizer"] = config_of(self, "activity_regularizer")[
            "activity_regularizer"
        ]
        return {**config, **config_of(self.cell, *self.cell._names)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return super(RNN, cls).from_config(config)


class SimpleRNN(_CellLayer):
    """Fully connected recurrence.

    `h[t] = activation(x[t] @ kernel + h[t-1] @ recurrent_kernel + bias)`.

    Args:
        units: size of the state.
        activation: name, callable or None.
        use_bias: whether a bias is added.
        kernel_initializer, kernel_regularizer, kernel_constraint: of the kernel (features, units).
        recurrent_initializer, recurrent_regularizer, recurrent_constraint: of the recurrent
            kernel (units, units).
        bias_initializer, bias_regularizer, bias_constraint: of the bias (units,).
        activity_regularizer: penalty on the output.
        dropout, recurrent_dropout: fractions of inputs and of states to drop while training, the
            same ones at every step.
        return_sequences, return_state, go_backwards, stateful, unroll: as `RNN`'s.
        seed: integer for repeatable dropout.

    >>> narae.layers.SimpleRNN(4)(narae.ops.ones((2, 5, 3))).shape
    (2, 4)
    """

    def __init__(
        self,
        units: int,
        activation="tanh",
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        seed: int | None = None,
        **kwargs,
    ):
        cell = SimpleRNNCell(
            units,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
            name="simple_rnn_cell",
        )
        super().__init__(
            cell,
            activity_regularizer=activity_regularizer,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            **kwargs,
        )

    def get_config(self):
        config = super().get_config()
        del config["seed"]  # as Keras writes it
        return config


class LSTM(_CellLayer):
    """Long short-term memory, Hochreiter and Schmidhuber 1997.

    Gates i, f, o and candidate g come from `x[t] @ kernel + h[t-1] @ recurrent_kernel + bias`,
    laid out i, f, g, o; `c[t] = f * c[t-1] + i * g`, `h[t] = o * activation(c[t])`.

    Args:
        units: size of the state.
        activation: of candidate and output.
        recurrent_activation: of the gates.
        use_bias: whether a bias is added.
        kernel_initializer, kernel_regularizer, kernel_constraint: of the kernel
            (features, 4 * units).
        recurrent_initializer, recurrent_regularizer, recurrent_constraint: of the recurrent
            kernel (units, 4 * units).
        bias_initializer, bias_regularizer, bias_constraint: of the bias (4 * units,).
        unit_forget_bias: whether the forget gate's bias starts at 1.
        activity_regularizer: penalty on the output.
        dropout, recurrent_dropout: fractions of inputs and of states to drop while training, the
            same ones at every step.
        seed: integer for repeatable dropout.
        return_sequences, return_state, go_backwards, stateful, unroll: as `RNN`'s; the states
            are [h, c].
        use_cudnn: accepted for Keras's sake.

    >>> narae.layers.LSTM(4, return_sequences=True)(narae.ops.ones((2, 5, 3))).shape
    (2, 5, 4)
    """

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
        activity_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        use_cudnn="auto",
        **kwargs,
    ):
        cell = LSTMCell(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            unit_forget_bias=unit_forget_bias,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
            implementation=kwargs.pop("implementation", None),
            name="lstm_cell",
        )
        super().__init__(
            cell,
            activity_regularizer=activity_regularizer,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            **kwargs,
        )
        self.use_cudnn = one_of(self, "use_cudnn", use_cudnn, ("auto", True, False))


class GRU(_CellLayer):
    """Gated recurrent unit, Cho et al. 2014.

    Update and reset gates z, r and candidate g come from `x[t] @ kernel` and
    `h[t-1] @ recurrent_kernel`, laid out z, r, g; `h[t] = z * h[t-1] + (1 - z) * g`.

    Args:
        units: size of the state.
        activation: of the candidate.
        recurrent_activation: of the gates.
        use_bias: whether a bias is added.
        kernel_initializer, kernel_regularizer, kernel_constraint: of the kernel
            (features, 3 * units).
        recurrent_initializer, recurrent_regularizer, recurrent_constraint: of the recurrent
            kernel (units, 3 * units).
        bias_initializer, bias_regularizer, bias_constraint: of the bias, (2, 3 * units) with
            `reset_after` (inputs' and states'), else (3 * units,).
        activity_regularizer: penalty on the output.
        dropout, recurrent_dropout: fractions of inputs and of states to drop while training, the
            same ones at every step.
        seed: integer for repeatable dropout.
        return_sequences, return_state, go_backwards, stateful, unroll: as `RNN`'s.
        reset_after: whether the reset gate works after the product with the recurrent kernel
            (as cuDNN's) or before it.
        use_cudnn: accepted for Keras's sake.

    >>> narae.layers.GRU(4)(narae.ops.ones((2, 5, 3))).shape
    (2, 4)
    """

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
        activity_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        reset_after: bool = True,
        use_cudnn="auto",
        **kwargs,
    ):
        cell = GRUCell(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            reset_after=reset_after,
            seed=seed,
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
            implementation=kwargs.pop("implementation", None),
            name="gru_cell",
        )
        super().__init__(
            cell,
            activity_regularizer=activity_regularizer,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            **kwargs,
        )
        self.use_cudnn = one_of(self, "use_cudnn", use_cudnn, ("auto", True, False))


class Bidirectional(Layer):
    """Runs a recurrent layer forwards and a copy of it backwards, and merges the outputs.

    Args:
        layer: a recurrent layer (`RNN`, `LSTM`, `GRU` ...); both directions are made from its
            config.
        merge_mode: "concat", "sum", "mul", "ave", or None for both outputs.
        weights: initial weights, forward's then backward's.
        backward_layer: a layer of one's own for the backward direction, with go_backwards=True.

    >>> narae.layers.Bidirectional(narae.layers.LSTM(4))(narae.ops.ones((2, 5, 3))).shape
    (2, 8)
    """

    def __init__(
        self,
        layer: Layer,
        merge_mode: str | None = "concat",
        weights=None,
        backward_layer: Layer | None = None,
        **kwargs,
    ):
        for name, value in (("layer", layer), ("backward_layer", backward_layer or layer)):
            if not isinstance(value, Layer) or not hasattr(value, "go_backwards"):
                raise ValueError(
                    f"{who(self)}: expected {name} to be a recurrent layer. "
                    f"Received: {name}={value!r}"
                )
        super().__init__(**kwargs)
        self.merge_mode = one_of(
            self, "merge_mode", merge_mode, ("sum", "mul", "ave", "concat", None)
        )
        self.forward_layer = _copy(layer, "forward_")
        self.backward_layer = backward_layer or _copy(
            layer, "backward_", go_backwards=not layer.go_backwards
        )
        pair = (self.forward_layer, self.backward_layer)
        if pair[0].go_backwards == pair[1].go_backwards:
            raise ValueError(
                f"{who(self)}: expected the two layers to go in different directions. "
                f"Received: go_backwards={pair[0].go_backwards} for both"
            )
        for name in ("stateful", "return_sequences", "return_state"):
            values = [getattr(one, name) for one in pair]
            if values[0] != values[1]:
                raise ValueError(
                    f"{who(self)}: expected both layers to have the same {name}. "
                    f"Received: {values[0]} forwards, {values[1]} backwards"
                )
        for one in pair:
            if hasattr(one, "zero_output_for_mask"):
                one.zero_output_for_mask = one.return_sequences
        self._initial_weights = weights
        self.stateful = layer.stateful
        self.return_sequences = layer.return_sequences
        self.return_state = layer.return_state
        self.supports_masking = True
        self.input_spec = layer.input_spec

    def build(self, sequences_shape, initial_state_shape=None):
        for layer in (self.forward_layer, self.backward_layer):
            if not layer.built:
                layer.build(sequences_shape)
        if self._initial_weights:
            self.set_weights(self._initial_weights)

    def call(self, sequences, initial_state=None, mask=None, training=None):
        kwargs = {"mask": sequences.mask if mask is None else mask, "training": training}
        forward_state = backward_state = None
        if initial_state is not None:
            half = len(initial_state) // 2
            forward_state, backward_state = initial_state[:half], initial_state[half:]
        y = self.forward_layer(sequences, initial_state=forward_state, **kwargs)
        z = self.backward_layer(sequences, initial_state=backward_state, **kwargs)
        states = ()
        if self.return_state:
            states = (*y[1:], *z[1:])
            y, z = y[0], z[0]
        if self.return_sequences:
            z = ops.flip(z, axis=1)
        output = self._merge(y, z)
        if not self.return_state:
            return output
        return (*output, *states) if self.merge_mode is None else (output, *states)

    def _merge(self, y, z):
        if self.merge_mode == "concat":
            return ops.concatenate([y, z], axis=-1)
        if self.merge_mode == "sum":
            return y + z
        if self.merge_mode == "ave":
            return (y + z) / 2
        return y * z if self.merge_mode == "mul" else (y, z)

    @property
    def states(self) -> list | None:
        """The state variables of a stateful layer, forward's then backward's."""
        if not self.forward_layer.states:
            return None
        return [*self.forward_layer.states, *self.backward_layer.states]

    def reset_state(self) -> None:
        """Sets the states of a stateful layer back to zero."""
        if not self.stateful:
            raise AttributeError(f"{who(self)}: expected a stateful layer to reset.")
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    reset_states = reset_state

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        shape = self.forward_layer.compute_output_shape(sequences_shape)
        shape, *states = shape if self.return_state else (shape,)
        outputs = [tuple(shape)]
        if self.merge_mode == "concat":
            outputs = [(*shape[:-1], 2 * shape[-1])]
        elif self.merge_mode is None:
            outputs = [tuple(shape)] * 2
        outputs = (*outputs, *states, *states)
        return outputs if len(outputs) > 1 else outputs[0]

    def compute_mask(self, inputs, mask=None):
        mask = tree.flatten(mask)[0] if self.return_sequences else None
        masks = [mask, mask] if self.merge_mode is None else [mask]
        if self.return_state:
            masks += [None] * 2 * len(self.forward_layer.state_size)
        return masks if len(masks) > 1 else masks[0]

    def get_config(self):
        return {
            **super().get_config(),
            "merge_mode": self.merge_mode,
            "layer": lookup.to_config(self.forward_layer),
            "backward_layer": lookup.to_config(self.backward_layer),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        for name in ("layer", "backward_layer"):
            if config.get(name) is not None:
                config[name] = lookup.from_config(config[name], {}, custom_objects)
        return super().from_config(config)


def _copy(layer: Layer, prefix: str, **changes) -> Layer:
    """A fresh layer of the same configuration; its name gets the prefix."""
    config = {**layer.get_config(), **changes}
    config["name"] = prefix + layer.name.removeprefix(prefix)
    return type(layer).from_config(config)
