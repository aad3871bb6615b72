"""A plain stack of layers."""

from narae import dtype_policies
from narae.engine import tree
from narae.engine.tensor import KerasTensor
from narae.layers.input import InputLayer
from narae.layers.layer import Layer, _mask_of
from narae.models.functional import Functional
from narae.models.model import Model


class Sequential(Model):
    """Layers one after another, each with one input and one output.

    The weights are made as soon as the input shape is known: from an `Input` in front, from the
    first data, or by `build(input_shape)`.

    Args:
        layers: the layers in order; may begin with an `Input`.
        trainable: whether the layers are trained.
        name: name of the model.

    >>> model = Sequential([Input((4,)), layers.Dense(8, activation="relu"), layers.Dense(3)])
    >>> model.output_shape
    (None, 3)
    """

    def __init__(self, layers=None, trainable: bool = True, name: str | None = None):
        super().__init__(trainable=trainable, name=name)
        self._stack = []
        self._functional = None
        self._path = self.name
        for layer in layers or ():
            self.add(layer, rebuild=False)
        if self._stack:
            self._rebuild()

    def add(self, layer, rebuild: bool = True) -> None:
        """Puts a layer on top of the stack."""
        if not self._stack and getattr(layer, "_legacy_batch_shape", None) is not None:
            self._stack.append(InputLayer(batch_shape=layer._legacy_batch_shape))
        if isinstance(layer, KerasTensor) and layer.history is not None:
            layer = layer.history[0]
        if not isinstance(layer, Layer):
            raise ValueError(
                f"narae.Sequential.add: expected a layer. Received: {layer!r} of type "
                f"{type(layer).__name__}"
            )
        if any(other.name == layer.name and other is not layer for other in self._stack):
            raise ValueError(
                f"narae.Sequential.add: expected every layer to have a name of its own. "
                f"Received: a second layer named '{layer.name}'"
            )
        if isinstance(layer, InputLayer) and self._stack:
            raise ValueError(
                "narae.Sequential.add: expected an Input only as the first layer. "
                f"Received: '{layer.name}' after {len(self._stack)} layer(s)"
            )
        self._stack.append(layer)
        if rebuild:
            self._rebuild()
        else:
            self._forget()

    def pop(self, rebuild: bool = True) -> Layer:
        """Takes the last layer off the stack and returns it."""
        if not self._stack:
            raise TypeError("narae.Sequential.pop: expected a model with layers; it has none.")
        layer = self._stack.pop()
        self._forget()
        if rebuild and self._stack:
            self._rebuild()
        return layer

    def _forget(self):
        self.built = False
        self._functional = None
        self._called = False
        self._drop_recordings()

    def _rebuild(self):
        self._forget()
        first = self._stack[0]
        if len(self._stack) > 1:
            if isinstance(first, InputLayer):
                self.build(first.batch_shape)
            elif getattr(first, "input_shape", None) is not None and first.built:
                self.build(first.input_shape)

    def build(self, input_shape=None):
        """Makes the weights for inputs of `input_shape` (batch axis included)."""
        if not tree.is_shape(input_shape):
            return
        input_shape = tuple(input_shape)
        if not self._stack:
            raise ValueError(f"{self._who()}.build: expected at least one layer; add() one first.")
        first = self._stack[0]
        if isinstance(first, InputLayer):
            if tuple(first.batch_shape) != input_shape:
                raise ValueError(
                    f"{self._who()}.build: expected the shape of the model's Input, "
                    f"{first.batch_shape}. Received: input_shape={input_shape}"
                )
        else:
            first = InputLayer(batch_shape=input_shape, dtype=first.compute_dtype)
            self._stack.insert(0, first)
        x = first.output
        for layer in self._stack[1:]:
            x = layer(x)
        self._functional = Functional(first.output, x)

    def call(self, inputs, training=None, mask=None):
        if self._functional is not None:
            return self._functional.call(inputs, training=training, mask=mask)
        x = inputs
        for layer in self.layers:
            kwargs = {}
            if layer._call_info.has_mask and mask is not None:
                kwargs["mask"] = mask
            if layer._call_info.has_training and training is not None:
                kwargs["training"] = training
            x = layer(x, **kwargs)
            mask = _mask_of(x)
        return x

    def _maybe_build(self, args, kwargs):
        if self.built and self._functional is not None:
            return
        shape = getattr(self._first(args, kwargs), "shape", None)
        if self._functional is None and shape is not None:
            symbolic = isinstance(self._first(args, kwargs), KerasTensor)
            self.build(tuple(shape) if symbolic else (None, *shape[1:]))

    def compute_output_spec(self, inputs, training=None, mask=None):
        if self._functional is not None:
            return self._functional.compute_output_spec(inputs)
        x = inputs
        for layer in self.layers:
            x = layer.compute_output_spec(x)
        return x

    def compute_output_shape(self, input_shape):
        if self._functional is not None:
            return self._functional.compute_output_shape(input_shape)
        for layer in self.layers:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    @property
    def layers(self) -> list:
        """The layers that were added, without the Input."""
        return [layer for layer in self._stack if not isinstance(layer, InputLayer)]

    @layers.setter
    def layers(self, _):
        raise AttributeError("Sequential.layers is reserved: use add() and pop().")

    def _built_part(self, what: str) -> Functional:
        if self._functional is None:
            raise AttributeError(
                f"{self._who()} has no {what} yet: its input shape is not known. Begin with an "
                "Input, call build(input_shape), or call the model on data."
            )
        return self._functional

    inputs = property(
        lambda self: self._built_part("inputs").inputs,
        doc="The symbolic inputs, in flat order.",
    )
    outputs = property(
        lambda self: self._built_part("outputs").outputs,
        doc="The symbolic outputs, in flat order.",
    )
    input = property(
        lambda self: self._built_part("input").input,
        doc="The symbolic inputs in their structure.",
    )
    output = property(
        lambda self: self._built_part("output").output,
        doc="The symbolic outputs in their structure.",
    )
    input_shape = property(
        lambda self: self._built_part("input shape").input_shape,
        doc="The shape of the input, or the structure of shapes.",
    )
    output_shape = property(
        lambda self: self._built_part("output shape").output_shape,
        doc="The shape of the output, or the structure of shapes.",
    )

    @property
    def input_dtype(self) -> str:
        """The dtype of the first layer's input."""
        first = self._stack[0] if self._stack else None
        return first.dtype if isinstance(first, InputLayer) else self.compute_dtype

    def _convert(self, x):
        # The Input says which dtype it wants; integers and floats are cast to it.
        if self._functional is not None:
            return x
        return super()._convert(x)

    def get_config(self) -> dict:
        from narae.saving.registry import serialize_keras_object

        config = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": dtype_policies.serialize(self.dtype_policy),
            "layers": [serialize_keras_object(layer) for layer in self._stack],
        }
        if self._functional is not None:
            config["build_input_shape"] = self._stack[0].batch_shape
        return config

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "Sequential":
        from narae.saving.registry import deserialize_keras_object

        if isinstance(config, list):  # the form of Keras 1
            config = {"name": None, "layers": config}
        model = cls(name=config.get("name"), trainable=config.get("trainable", True))
        for layer_config in config["layers"]:
            layer = deserialize_keras_object(layer_config, custom_objects=custom_objects)
            model.add(layer, rebuild=False)
        if model._stack:
            model._rebuild()
        shape = config.get("build_input_shape")
        if model._functional is None and shape and tree.is_shape(shape):
            model.build(tuple(shape))
        return model
