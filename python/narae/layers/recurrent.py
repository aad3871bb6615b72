"""Recurrent layers: a cell run along whole sequences.

`SimpleRNN`, `LSTM` and `GRU` run a whole sequence in one kernel call when their activations are
the default ones; other activations, recurrent dropout and cells of one's own run step by step.
"""

import types

from narae import ops
from narae.engine import lookup, tree
from narae.engine.variable import Variable
from narae.layers.arguments import accepts, config_of, one_of, who
from narae.layers.input_spec import InputSpec
from narae.layers.layer import Layer
from narae.layers.recurrent_cells import (
    Cell,
    GRUCell,
    LSTMCell,
    SimpleRNNCell,
    StackedRNNCells,
    check_cell,
    initial_state_of,
    output_size_of,
    state_sizes_of,
)


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
        check_cell(self, cell)
        self.cell = cell
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.stateful = stateful
        self.unroll = unroll
        self.zero_output_for_mask = zero_output_for_mask
        self.supports_masking = True
        self.state_size = state_sizes_of(cell)
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
        return initial_state_of(self.cell, batch_size, self.compute_dtype)

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
        initial_state = tree.map_structure(
            lambda x: ops.convert_to_tensor(x, dtype=self.compute_dtype), initial_state
        )
        # The memory of a stateful layer is overwritten before the gradients read what it was.
        return tree.map_structure(ops.copy, initial_state) if self.stateful else initial_state

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
        output = (*output, output_size_of(self.cell))
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

    def __init__(self, cell: Cell, activity_regularizer=None, **kwargs):
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
