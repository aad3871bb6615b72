"""New models of the same architecture with weights of their own."""

from narae.engine import tree
from narae.engine.tensor import KerasTensor
from narae.layers.input import Input, InputLayer
from narae.layers.layer import Layer
from narae.models.functional import Functional
from narae.models.model import Model
from narae.models.sequential import Sequential


def clone_model(
    model: Model,
    input_tensors=None,
    clone_function=None,
    call_function=None,
    recursive: bool = False,
) -> Model:
    """Returns a copy of a model's architecture with newly initialized weights.

    Args:
        model: the model to copy. One that is neither Sequential nor functional is made again
            from its config.
        input_tensors: symbolic tensor(s) to build the copy on; new Inputs by default.
        clone_function: makes the copy of one layer; by default from the layer's config.
        call_function: calls a copied layer, `call_function(layer, *args, **kwargs)`
            (functional models only).
        recursive: whether inner models are cloned by `clone_model` too.

    Returns:
        The new model, compiled as the old one was.

    Raises:
        ValueError: if an argument does not fit the kind of model.
    """
    clone = _cloner(clone_function, call_function, recursive, {})
    if isinstance(model, Sequential):
        if call_function is not None:
            raise ValueError(
                "narae.models.clone_model: expected no call_function for a Sequential model."
            )
        copy = _clone_sequential(model, clone, input_tensors)
    elif isinstance(model, Functional):
        copy = _clone_functional(model, clone, call_function, input_tensors)
    elif clone_function or call_function or input_tensors is not None:
        raise ValueError(
            "narae.models.clone_model: expected a Sequential or functional model with "
            "clone_function, call_function or input_tensors. "
            f"Received: {type(model).__name__}"
        )
    else:
        copy = type(model).from_config(model.get_config())
    if model.compiled:
        copy.compile_from_config(model.get_compile_config())
    return copy


def _cloner(clone_function, call_function, recursive: bool, cache: dict):
    """Returns the function that copies each layer once."""
    make = clone_function or (lambda layer: type(layer).from_config(layer.get_config()))

    def clone(layer):
        if id(layer) not in cache:
            if recursive and isinstance(layer, Sequential):
                cache[id(layer)] = _clone_sequential(layer, clone, None)
            elif recursive and isinstance(layer, Functional):
                cache[id(layer)] = _clone_functional(layer, clone, call_function, None)
            else:
                cache[id(layer)] = make(layer)
        return cache[id(layer)]

    return clone


def _clone_sequential(model: Sequential, clone, input_tensors) -> Sequential:
    layers = [clone(layer) for layer in model.layers]
    first = model._stack[0] if model._stack else None
    if input_tensors is not None:
        tensors = tree.flatten(input_tensors)
        if len(tensors) != 1 or not isinstance(tensors[0], KerasTensor):
            raise ValueError(
                "narae.models.clone_model: expected input_tensors to be one symbolic tensor. "
                f"Received: {input_tensors!r}"
            )
        layers.insert(0, Input(tensor=tensors[0], name=getattr(first, "name", None)))
    elif isinstance(first, InputLayer):
        layers.insert(0, InputLayer.from_config(first.get_config()))
    return Sequential(layers, name=model.name, trainable=model.trainable)


def _clone_functional(model: Functional, clone, call_function, input_tensors) -> Functional:
    if input_tensors is None:
        new_inputs = [
            InputLayer.from_config(x.history[0].get_config()).output for x in model.inputs
        ]
    else:
        new_inputs = tree.flatten(input_tensors)
        if len(new_inputs) != len(model.inputs):
            raise ValueError(
                f"narae.models.clone_model: expected {len(model.inputs)} input tensor(s). "
                f"Received: {len(new_inputs)}"
            )
    tensors = {id(old): new for old, new in zip(model.inputs, new_inputs)}
    for node in model._nodes:
        if node.is_input:
            continue
        layer = clone(node.operation) if isinstance(node.operation, Layer) else node.operation
        args, kwargs = node.rebind(tensors)
        if not isinstance(node.operation, Layer):
            outputs = node.operation.function(*args, **kwargs)
        elif call_function is not None:
            outputs = call_function(layer, *args, **kwargs)
        else:
            outputs = layer(*args, **kwargs)
        for old, new in zip(node.output_tensors, tree.flatten(outputs)):
            tensors[id(old)] = new
    inputs = tree.pack_sequence_as(model._inputs_struct, new_inputs)
    outputs = tree.map_structure(lambda x: tensors[id(x)], model._outputs_struct)
    return Functional(inputs, outputs, name=model.name)
