"""Layers around one other layer."""

from narae import ops
from narae.engine import lookup, tree
from narae.layers.arguments import accepts, who
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
