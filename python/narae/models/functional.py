"""Models made from symbolic tensors: a graph of layer calls, replayed on real tensors."""

import copy
import warnings

from narae import ops
from narae.engine import tree
from narae.engine.operation import Node, OpOperation, node_of
from narae.engine.tensor import KerasTensor, Tensor, convert_to_tensor
from narae.layers.input import Input, InputLayer
from narae.layers.input_spec import InputSpec
from narae.layers.layer import Layer, _state
from narae.models.model import Model
from narae.training.trainer import Trainer


class Functional(Model):
    """The model between symbolic inputs and outputs; made by `Model(inputs, outputs)`.

    Inputs may also be tensors from the middle of a graph: the model then shares the layers.

    Args:
        inputs: a `KerasTensor`, or a list, tuple or dict of them.
        outputs: likewise; each must be reachable from the inputs.
        name: name of the model.
        trainable: whether training changes the model.
    """

    def __init__(self, inputs, outputs, name: str | None = None, trainable=None, **kwargs):
        _check_tensors("inputs", inputs)
        _check_tensors("outputs", outputs)
        if isinstance(inputs, dict):
            for key, x in inputs.items():
                if isinstance(x, KerasTensor) and x.name != key:
                    warnings.warn(
                        f"narae.Model: expected each key of a dict of inputs to be the name of its "
                        f"tensor. Received: key '{key}' for the tensor named '{x.name}'",
                        stacklevel=3,
                    )
        if not all(node_of(x).is_input for x in tree.flatten(inputs)):
            inputs, outputs = _copy_graph(inputs, outputs)
        Layer.__init__(self, name=name, **kwargs)
        Trainer.__init__(self)
        self._inputs_struct = inputs
        self._outputs_struct = outputs
        self._inputs = tree.flatten(inputs)
        self._outputs = tree.flatten(outputs)
        self._nodes, self._operations = sort_graph(self._inputs, self._outputs)
        self._plan = _make_plan(self._nodes, self._inputs, self._outputs)
        self._path = self.name
        self.input_names = [_input_name(x) for x in self._inputs]
        self.output_names = [x.history[0].name for x in self._outputs]
        self.built = True
        self._convert_input_args = False
        if trainable is not None:
            self._trainable = bool(trainable)  # of the model alone; frozen layers stay frozen

    def build(self, input_shape=None):
        self.built = True

    @property
    def operations(self) -> list:
        """Layers and ops in the order of the graph."""
        return list(self._operations)

    @property
    def layers(self) -> list:
        return [x for x in self._operations if isinstance(x, Layer)]

    @layers.setter
    def layers(self, _):
        raise AttributeError("Model.layers is reserved: use another name for the attribute.")

    inputs = property(
        lambda self: self._inputs,
        doc="The symbolic inputs, in flat order.",
    )
    outputs = property(
        lambda self: self._outputs,
        doc="The symbolic outputs, in flat order.",
    )
    input = property(
        lambda self: self._inputs_struct,
        doc="The symbolic inputs in their structure.",
    )
    output = property(
        lambda self: self._outputs_struct,
        doc="The symbolic outputs in their structure.",
    )
    input_shape = property(
        lambda self: _one(tree.map_structure(_shape, self._inputs_struct)),
        doc="The shape of the input, or the structure of shapes.",
    )
    output_shape = property(
        lambda self: _one(tree.map_structure(_shape, self._outputs_struct)),
        doc="The shape of the output, or the structure of shapes.",
    )

    @property
    def input_spec(self):
        """The shapes of the inputs, in flat order."""
        if self.__dict__.get("_own_input_spec") is not None:
            return self._own_input_spec
        if "_inputs" not in self.__dict__:
            return None
        specs = self.__dict__.get("_input_specs")
        if specs is None:
            specs = self.__dict__["_input_specs"] = [_spec_of(x) for x in self._inputs]
        return specs

    @input_spec.setter
    def input_spec(self, value):
        self.__dict__["_own_input_spec"] = value

    def _check_input(self, inputs):
        pass  # done by _flat_inputs, which knows the names

    def add_loss(self, loss):
        raise NotImplementedError(
            "narae.Model.add_loss: a functional model has no call() to add a loss in. Add it in "
            "the call() of a layer of the model."
        )

    # Running

    def call(self, inputs, training=None, mask=None):
        flat = self._flat_inputs(inputs)
        if mask is not None:
            for x, m in zip(flat, tree.flatten(mask)):
                if m is not None:
                    x.mask = m
        outer_training = _state.training
        if training is not None:
            _state.training = training
        try:
            return self._run_plan(flat)
        finally:
            _state.training = outer_training

    def _run_plan(self, flat_inputs: list):
        steps, size, input_slots, output_slots = self._plan
        values = [None] * size
        for slot, x in zip(input_slots, flat_inputs):
            values[slot] = x
        for operation, source, node, fill, targets in steps:
            if source is not None:
                result = operation(values[source])
            else:
                args, kwargs = fill(node, values)
                result = operation(*args, **kwargs)
            if len(targets) == 1 and not isinstance(result, (list, tuple, dict)):
                values[targets[0]] = result
            else:
                leaves = [x for x in tree.flatten(result) if x is not None]
                for slot, x in zip(targets, leaves):
                    values[slot] = x
        outputs = [values[slot] for slot in output_slots]
        if isinstance(self._outputs_struct, KerasTensor):
            return outputs[0]
        return _one(tree.pack_sequence_as(self._outputs_struct, outputs))

    def _flat_inputs(self, inputs) -> list:
        """Returns the inputs as a flat list of tensors in the model's order, shapes checked."""
        if isinstance(inputs, Tensor) and len(self._inputs) == 1:
            flat = [inputs]
        else:
            flat = tree.flatten(self._match_names(inputs))
        if len(flat) != len(self._inputs):
            expected = tree.map_structure(lambda x: x.name, self._inputs_struct)
            raise ValueError(
                f"{self._who()}: expected {len(self._inputs)} input(s), structured as {expected}. "
                f"Received: {len(flat)} input(s)"
            )
        return [self._fit(x, i) for i, x in enumerate(flat)]

    def _match_names(self, inputs):
        """Turns a dict of inputs into the order of the model's inputs, by name."""
        struct = self._inputs_struct
        if not isinstance(inputs, dict):
            return inputs
        if isinstance(struct, dict):
            if set(struct) <= set(inputs):
                return {key: inputs[key] for key in struct}
            names = list(struct)
        else:
            names = self.input_names
            if set(names) <= set(inputs):
                return [inputs[name] for name in names]
        raise ValueError(
            f"{self._who()}: expected a dict of inputs with the keys {names}. "
            f"Received: keys {list(inputs)}"
        )

    def _fit(self, x, position: int):
        """Returns input `x` as a tensor of the dtype and rank that the graph expects."""
        reference = self._inputs[position]
        spec = self.input_spec[position] if self.input_spec else None
        if x is None:
            if spec is None or spec.optional:
                return None
            raise ValueError(
                f"{self._who()}: expected a tensor for input '{reference.name}', which is not "
                "optional. Received: None"
            )
        if isinstance(x, KerasTensor):
            self._check_one(spec, x, position)
            return x
        if not isinstance(x, Tensor) or x.dtype != reference.dtype:
            mask = getattr(x, "mask", None) if isinstance(x, Tensor) else None
            x = convert_to_tensor(x, reference.dtype)
            if mask is not None:
                x.mask = mask
        if x.shape[1:] == reference.shape[1:] and len(x.shape) == len(reference.shape):
            return x
        self._check_one(spec, x, position)
        if len(x.shape) == len(reference.shape) + 1:
            return ops.squeeze(x, axis=-1)
        if len(x.shape) == len(reference.shape) - 1:
            return ops.expand_dims(x, axis=-1)
        return x

    def _check_one(self, spec, x, position: int):
        if spec is not None:
            spec.check(x, self._who(), position)

    def compute_output_spec(self, inputs, training=None, mask=None):
        flat = self._flat_inputs(inputs)
        if all(x is None or x.shape == ref.shape for x, ref in zip(flat, self._inputs)):
            return tree.map_structure(lambda x: KerasTensor(x.shape, x.dtype), self._outputs_struct)
        tensors = {id(ref): x for ref, x in zip(self._inputs, flat)}
        for node in self._nodes:
            if node.is_input:
                continue
            args, kwargs = node.rebind(tensors)
            result = node.operation.compute_output_spec(*args, **kwargs)
            for ref, x in zip(node.output_tensors, tree.flatten(result)):
                tensors[id(ref)] = x
        return tree.map_structure(lambda x: tensors[id(x)], self._outputs_struct)

    def compute_output_shape(self, input_shape):
        inputs = tree.map_shape_structure(lambda s: KerasTensor(s, "float32"), input_shape)
        return tree.map_structure(_shape, self.compute_output_spec(inputs))

    # Config

    def get_config(self) -> dict:
        if not _plain_constructor(type(self)):
            return Model.get_config(self)
        return copy.deepcopy(_graph_config(self))

    get_config._is_default = True


def _check_tensors(what: str, structure) -> None:
    leaves = tree.flatten(structure)
    if not leaves:
        raise ValueError(f"narae.Model: expected at least one tensor in {what}.")
    for x in leaves:
        if not isinstance(x, KerasTensor):
            raise ValueError(
                f"narae.Model: expected {what} to be symbolic tensors, made by Input() or by "
                f"layers called on them. Received: {x!r}"
            )


def _input_name(x: KerasTensor) -> str:
    operation = x.history[0]
    return operation.name if isinstance(operation, InputLayer) else x.name


def _spec_of(x: KerasTensor) -> InputSpec:
    operation = x.history[0]
    return InputSpec(
        shape=(None, *x.shape[1:]) if x.shape else (),
        allow_last_axis_squeeze=True,
        name=operation.name,
        optional=getattr(operation, "optional", False),
    )


def _shape(x) -> tuple:
    return x.shape


def _one(x):
    return x[0] if isinstance(x, (list, tuple)) and len(x) == 1 else x


def _plain_constructor(cls) -> bool:
    """Returns whether the class can be made again by (inputs, outputs) alone."""
    if cls.__init__ in (Functional.__init__, Model.__init__):
        return True
    import inspect

    kinds = {p.kind for p in inspect.signature(cls.__init__).parameters.values()}
    return {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= kinds


# Graph walks


def sort_graph(inputs: list, outputs: list) -> tuple[list, list]:
    """Returns (nodes, operations) between inputs and outputs, in an order they can run in.

    Operations are sorted by their distance from the outputs, then by when a depth-first walk from
    the outputs meets them: the order of a model's `layers` and weights.
    """
    nodes, first_seen = _walk(inputs, outputs)
    inside = {id(node) for node in nodes}
    depths, operation_depths = {id(node): 0 for node in nodes}, {}
    for node in reversed(nodes):
        key = id(node.operation)
        depth = max(depths[id(node)], operation_depths.get(key, 0))
        depths[id(node)] = operation_depths[key] = depth
        for parent in node.parent_nodes:
            if id(parent) in inside:
                depths[id(parent)] = max(depths[id(parent)], depth + 1)
    operations = {id(node.operation): node.operation for node in nodes}
    for x in inputs:  # an input that no output depends on
        node = node_of(x)
        if id(node.operation) not in operations and node.is_input:
            operations[id(node.operation)] = node.operation
            operation_depths[id(node.operation)] = 0
            first_seen[id(node.operation)] = -1
            nodes.insert(0, node)
    ordered = sorted(operations, key=lambda key: (-operation_depths[key], first_seen[key]))
    _check_connected(nodes, inputs)
    operations = [operations[key] for key in ordered]
    names = [operation.name for operation in operations]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(
            "narae.Model: expected every layer of a model to have a name of its own. "
            f"Received: more than one layer named {', '.join(repeated)}"
        )
    return nodes, operations


def _walk(inputs: list, outputs: list) -> tuple[list, dict]:
    """Depth-first walk from the outputs: nodes with parents first, and when each op was met."""
    stop = {id(x) for x in inputs}
    nodes, first_seen = [], {}
    done, open_ = set(), set()
    stack = [(x, False) for x in reversed(outputs)]
    while stack:  # a stack of our own, because graphs can be deeper than Python's
        x, leaving = stack.pop()
        node = x if leaving else node_of(x)
        if leaving:
            open_.discard(id(node))
            done.add(id(node))
            nodes.append(node)
            continue
        if node is None or id(node) in done:
            continue
        if id(x) in stop and not node.is_input:
            continue
        if id(node) in open_:
            raise ValueError(f"narae.Model: tensor {x!r} is part of a cycle.")
        first_seen.setdefault(id(node.operation), len(first_seen))
        open_.add(id(node))
        stack.append((node, True))
        stack.extend((parent, False) for parent in reversed(node.input_tensors))
    return nodes, first_seen


def _check_connected(nodes: list, inputs: list) -> None:
    known = {id(x) for x in inputs}
    for node in nodes:
        if node.is_input:
            missing = [x for x in node.output_tensors if id(x) not in known]
            if missing:
                raise ValueError(
                    f"narae.Model: expected every output to depend on the inputs only. It also "
                    f"needs input '{node.operation.name}', which is not among the inputs."
                )
        for x in node.input_tensors:
            if id(x) not in known:
                raise ValueError(
                    f"narae.Model: expected the graph to be connected. Layer "
                    f"'{node.operation.name}' needs a tensor that the inputs do not lead to: {x!r}"
                )
        known.update(id(x) for x in node.output_tensors)


def _make_plan(nodes: list, inputs: list, outputs: list) -> tuple:
    """Turns the graph into a list of steps over numbered slots, quick to run."""
    slots = {}

    def slot(x):
        return slots.setdefault(id(x), len(slots))

    input_slots = [slot(x) for x in inputs]
    steps = []
    for node in nodes:
        if node.is_input:
            continue
        simple = len(node.args) == 1 and isinstance(node.args[0], KerasTensor) and not node.kwargs
        source = slot(node.args[0]) if simple else None
        places = {id(x): slot(x) for x in node.input_tensors}
        targets = [slot(x) for x in node.output_tensors]
        steps.append((node.operation, source, node, _filler(places), targets))
    for x in outputs:
        if id(x) not in slots:
            raise ValueError(f"narae.Model: output {x!r} does not depend on the inputs.")
    return steps, len(slots), input_slots, [slots[id(x)] for x in outputs]


def _filler(places: dict):
    def fill(node, values):
        return node.rebind({key: values[slot] for key, slot in places.items()})

    return fill


def _copy_graph(inputs, outputs) -> tuple:
    """Copies the nodes between tensors in the middle of a graph, starting at new Inputs."""
    flat_inputs = tree.flatten(inputs)
    nodes, _ = _walk(flat_inputs, tree.flatten(outputs))
    copies, replaced = {}, set()
    for x in flat_inputs:
        if node_of(x).is_input:
            copies[id(x)] = x
            continue
        new = Input(batch_shape=x.shape, dtype=x.dtype, name=f"{x.name}_input")
        copies[id(x)] = new
        replaced.add(id(node_of(x)))

    def copied(x):
        if not isinstance(x, KerasTensor):
            return x
        if id(x) not in copies:
            copies[id(x)] = KerasTensor(x.shape, x.dtype, name=x.name)
        return copies[id(x)]

    for node in nodes:
        if node.is_input or id(node) in replaced:
            continue
        args, kwargs = tree.map_structure(copied, (node.args, node.kwargs))
        Node(node.operation, args, kwargs, tree.map_structure(copied, node.outputs))
    return tree.map_structure(copied, inputs), tree.map_structure(copied, outputs)


# Config of the graph, in the form of Keras 3


def _graph_config(model: Functional) -> dict:
    from narae.saving.registry import serialize_keras_object

    inside = {id(node) for node in model._nodes}
    numbers = {}  # node -> its number among the operation's nodes that belong to the model
    for operation in model._operations:
        # Keras counts the node that links a functional model's own inputs and outputs.
        count = 1 if isinstance(operation, Functional) else 0
        for node in operation._inbound_nodes:
            if id(node) in inside:
                numbers[id(node)] = count
                count += 1

    def reference(x):
        operation, index, position = x.history
        return [operation.name, numbers[id(operation._inbound_nodes[index])], position]

    def tensor_config(x):
        if not isinstance(x, KerasTensor):
            return x
        name, index, position = reference(x)
        if isinstance(x.history[0], Functional):
            index -= 1
        config = {
            "shape": list(x.shape),
            "dtype": x.dtype,
            "keras_history": [name, index, position],
        }
        return {"class_name": "__keras_tensor__", "config": config}

    layers = []
    for operation in model._operations:
        nodes = [n for n in operation._inbound_nodes if id(n) in inside and not n.is_input]
        calls = []
        for node in nodes:
            args, kwargs = _split_call(node)
            args, kwargs = tree.map_structure(tensor_config, (list(args), kwargs))
            calls.append(
                {
                    "args": serialize_keras_object(args),
                    "kwargs": serialize_keras_object(kwargs),
                }
            )
        config = serialize_keras_object(operation)
        config["name"] = operation.name
        config["inbound_nodes"] = calls
        layers.append(config)
    return {
        "name": model.name,
        "trainable": model.trainable,
        "layers": layers,
        "input_layers": tree.map_structure(reference, model._inputs_struct),
        "output_layers": tree.map_structure(reference, model._outputs_struct),
    }


def _split_call(node: Node) -> tuple:
    """The arguments of a node without those that belong to an op's config."""
    if isinstance(node.operation, OpOperation):
        from narae.saving.registry import split_op_call

        return split_op_call(node)[:2]
    return node.args, node.kwargs


def functional_from_config(cls, config: dict, custom_objects: dict | None = None) -> Model:
    """Makes the layers of a functional config and calls them again on each other's outputs."""
    from narae.saving.registry import deserialize_keras_object

    config = dict(config)
    layer_configs = config.pop("layers")
    input_layers, output_layers = config.pop("input_layers"), config.pop("output_layers")
    layers, waiting = {}, []
    for layer_config in layer_configs:
        layer = deserialize_keras_object(layer_config, custom_objects=custom_objects)
        layers[layer_config.get("name", layer.name)] = layer
        waiting.extend((layer, call) for call in layer_config.get("inbound_nodes", ()))
    names = {id(layer): name for name, layer in layers.items()}
    offsets = {
        name: len(x._inbound_nodes) - isinstance(x, InputLayer) for name, x in layers.items()
    }

    def tensor(name, index, position):
        if name not in layers:
            raise ValueError(f"narae.Model.from_config: expected a layer '{name}' in the config.")
        nodes = layers[name]._inbound_nodes
        index += offsets[name]
        if index >= len(nodes):
            raise LookupError(name)
        return nodes[index].output_tensors[position]

    while waiting:
        later, blocked = [], set()
        for layer, call in waiting:
            # The calls of one layer keep their order, since tensors refer to them by number.
            if id(layer) in blocked:
                later.append((layer, call))
                continue
            try:
                args, kwargs = _call_arguments(call, tensor, custom_objects)
            except LookupError:
                blocked.add(id(layer))
                later.append((layer, call))
                continue
            if isinstance(layer, OpOperation):  # JSON has no tuples; keys and shapes are
                args = tuple(_without_lists(x) for x in args)
            layer(*args, **kwargs)
        if len(later) == len(waiting):
            stuck = sorted({names[id(layer)] for layer, _ in later})
            raise ValueError(
                "narae.Model.from_config: expected a graph without loops and gaps. The inputs of "
                f"these layers are never made: {', '.join(stuck)}"
            )
        waiting = later

    def output(name, index, position):
        return tensor(name, index - isinstance(layers.get(name), Functional), position)

    inputs, outputs = _map_references(output, input_layers), _map_references(output, output_layers)
    return cls(inputs, outputs, **{k: v for k, v in config.items() if k != "dtype"})


def _without_lists(value):
    plain = isinstance(value, list) and not any(isinstance(x, KerasTensor) for x in value)
    return tuple(value) if plain else value


def _map_references(function, structure):
    if isinstance(structure, (list, tuple)):
        if len(structure) == 3 and isinstance(structure[0], str):
            return function(*structure)
        return type(structure)(_map_references(function, x) for x in structure)
    return {key: _map_references(function, x) for key, x in structure.items()}


def _call_arguments(call, tensor, custom_objects) -> tuple:
    """Returns (args, kwargs) of one call in a config, with its tensors found."""
    if isinstance(call, list):  # the form of Keras 2: [[name, node, tensor, kwargs], ...]
        if call and isinstance(call[0], str):
            call = [call]
        tensors = [tensor(*entry[:3]) for entry in call]
        kwargs = call[0][3] if call and len(call[0]) > 3 else {}
        kwargs = {
            key: tensor(*value) if _is_reference(value) else value for key, value in kwargs.items()
        }
        return (_one(tensors),), kwargs
    from narae.saving.registry import deserialize_keras_object

    def revive(value):
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            return tensor(*value["config"]["keras_history"])
        if isinstance(value, dict) and "class_name" in value:
            return deserialize_keras_object(value, custom_objects=custom_objects)
        if isinstance(value, dict):
            return {key: revive(x) for key, x in value.items()}
        if isinstance(value, (list, tuple)):
            return [revive(x) for x in value]
        return value

    return tuple(revive(x) for x in call["args"]), revive(call["kwargs"])


def _is_reference(value) -> bool:
    return isinstance(value, list) and len(value) == 3 and isinstance(value[0], str)
