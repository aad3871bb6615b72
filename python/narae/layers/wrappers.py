"""Layers around one other layer."""

from narae import ops
from narae.engine import lookup, tree
from narae.layers.arguments import accepts, one_of, who
from narae.layers.layer import Layer


class Wrapper(Layer):
    """Base of layers that change what another layer does.

    Args:
        layer: the layer inside.
    """

    def __init__(self, layer: Layer, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(layer, Layer):
            raise TypeError(f"{who(self)}: expected a layer. Received: layer={layer!r}")
        self.layer = layer

    def build(self, input_shape=None):
        if not self.layer.built:
            self.layer.build(input_shape)

    def get_config(self):
        return {**super().get_config(), "layer": lookup.to_config(self.layer)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        layer = lookup.from_config(config["layer"], {}, custom_objects)
        return super().from_config({**config, "layer": layer})


class TimeDistributed(Wrapper):
    """Applies a layer to each timestep: (batch, steps, ...) to (batch, steps, ...).

    The steps join the batch for one call of the layer.

    Args:
        layer: the layer to apply.

    >>> layer = narae.layers.TimeDistributed(narae.layers.Dense(8))
    >>> layer(narae.ops.ones((2, 5, 3))).shape
    (2, 5, 8)
    """

    def __init__(self, layer: Layer, **kwargs):
        if not isinstance(layer, Layer):
            raise ValueError(f"{who(self)}: expected a layer. Received: layer={layer!r}")
        super().__init__(layer, **kwargs)
        self.supports_masking = True

    def _step_shape(self, input_shape) -> tuple:
        if len(input_shape) < 3:
            raise ValueError(
                f"{who(self)}: expected an input (batch, steps, ...) of 3 or more dimensions. "
                f"Received: inputs.shape={tuple(input_shape)}"
            )
        return (input_shape[0], *input_shape[2:])

    def build(self, input_shape):
        super().build(self._step_shape(input_shape))

    def call(self, inputs, training=None, mask=None):
        batch, steps = inputs.shape[:2]

        def fold(x):
            return ops.reshape(x, (batch * steps, *x.shape[2:]))

        kwargs = {}
        if mask is not None:
            if tuple(mask.shape[:2]) != (batch, steps):
                raise ValueError(
                    f"{who(self)}: expected mask to start with the input's batch and steps. "
                    f"Received: mask.shape={mask.shape}, inputs.shape={inputs.shape}"
                )
            if accepts(self.layer, "mask"):
                kwargs["mask"] = fold(mask)
        if accepts(self.layer, "training"):
            kwargs["training"] = training
        outputs = self.layer(fold(inputs), **kwargs)
        return tree.map_structure(lambda y: ops.reshape(y, (batch, steps, *y.shape[1:])), outputs)

    def compute_output_shape(self, input_shape):
        shape = self.layer.compute_output_shape(self._step_shape(input_shape))
        return (shape[0], input_shape[1], *shape[1:])


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
