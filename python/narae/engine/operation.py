"""The symbolic graph: operations, the nodes of their calls, and the `@op` decorator.

A call on a `KerasTensor` computes nothing. It infers the shape and dtype of the result and keeps
a `Node` that a functional model replays on real tensors.
"""

import contextlib
import functools
import inspect

import numpy as np

from narae.engine import tree
from narae.engine.naming import auto_name
from narae.engine.tensor import KerasTensor, Tensor, convert_to_tensor


class Node:
    """One symbolic call of an operation.

    Args:
        operation: the layer or op that was called.
        args, kwargs: the call's arguments; `KerasTensor`s anywhere inside are its inputs.
        outputs: the structure of `KerasTensor`s it gave. Their `history` is set to this node.
    """

    __slots__ = ("operation", "args", "kwargs", "outputs", "input_tensors", "output_tensors")

    def __init__(self, operation, args, kwargs, outputs):
        self.operation = operation
        self.args = args
        self.kwargs = kwargs
        self.outputs = outputs
        leaves = tree.flatten((args, kwargs))
        self.input_tensors = [x for x in leaves if isinstance(x, KerasTensor)]
        self.output_tensors = [x for x in tree.flatten(outputs) if isinstance(x, KerasTensor)]
        index = len(operation._inbound_nodes)
        operation._inbound_nodes.append(self)
        for position, tensor in enumerate(self.output_tensors):
            tensor.history = (operation, index, position)

    @property
    def is_input(self) -> bool:
        return not self.input_tensors

    @property
    def parent_nodes(self) -> list:
        """The nodes that made the inputs, each once, in order."""
        nodes = [node_of(x) for x in self.input_tensors]
        return list({id(node): node for node in nodes if node is not None}.values())

    def rebind(self, tensors: dict) -> tuple:
        """Returns (args, kwargs) with each `KerasTensor` replaced by `tensors[id(it)]`."""

        def replace(x):
            return tensors.get(id(x), x) if isinstance(x, KerasTensor) else x

        return tree.map_structure(replace, self.args), tree.map_structure(replace, self.kwargs)


def node_of(tensor: KerasTensor):
    """Returns the node that made a `KerasTensor`, or None."""
    if getattr(tensor, "history", None) is None:
        return None
    operation, index, _ = tensor.history
    return operation._inbound_nodes[index]


def has_symbolic(args: tuple, kwargs: dict) -> bool:
    """Returns whether any argument is a `KerasTensor`, or a list, tuple or dict that holds one."""
    for x in args:
        if isinstance(x, KerasTensor) or (isinstance(x, (list, tuple, dict)) and _holds(x)):
            return True
    if kwargs:
        for x in kwargs.values():
            if isinstance(x, KerasTensor) or (isinstance(x, (list, tuple, dict)) and _holds(x)):
                return True
    return False


def _holds(structure) -> bool:
    return any(isinstance(x, KerasTensor) for x in tree.flatten(structure))


class Operation:
    """Base of everything that can be a node of the graph: layers, models and ops.

    Subclasses implement `call`. Constructor arguments that are plain values are remembered, so
    that `get_config` works without being overridden.
    """

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls)
        if getattr(cls.get_config, "_is_default", False):
            object.__setattr__(self, "_init_arguments", (args, kwargs))
        return self

    def __init__(self, name: str | None = None):
        if name is None:
            name = auto_name(type(self).__name__)
        if not isinstance(name, str) or "/" in name:
            raise ValueError(
                f"narae.{type(self).__name__}: expected name to be a string without '/'. "
                f"Received: name={name!r}"
            )
        self.name = name
        self._inbound_nodes = []

    def __call__(self, *args, **kwargs):
        if has_symbolic(args, kwargs):
            return self.symbolic_call(*args, **kwargs)
        return self.call(*args, **kwargs)

    def call(self, *args, **kwargs):
        """Computes the outputs; to be implemented by the class."""
        raise NotImplementedError(f"{type(self).__name__} does not implement call().")

    def symbolic_call(self, *args, **kwargs):
        """Infers the outputs of a call on `KerasTensor`s and adds the node to the graph."""
        outputs = self.compute_output_spec(*args, **kwargs)
        Node(self, args, kwargs, outputs)
        return outputs

    def compute_output_spec(self, *args, **kwargs):
        """Returns `KerasTensor`s with the shapes and dtypes of what `call` gives."""
        return infer_output_spec(self.call, args, kwargs, who=self._who())

    def _who(self) -> str:
        return f"{type(self).__name__} '{self.name}'"

    def get_config(self) -> dict:
        """Returns the constructor's arguments as plain values, for `from_config`."""
        if not getattr(type(self).get_config, "_is_default", False):
            return {"name": self.name}
        return _auto_config(self)

    get_config._is_default = True

    @classmethod
    def from_config(cls, config: dict):
        """Returns an object made from the dict that `get_config` gave."""
        try:
            return cls(**config)
        except TypeError as error:
            raise TypeError(
                f"{cls.__name__}.from_config: expected a config that fits the constructor "
                f"({error}). Received: config={config}"
            ) from error

    @property
    def input(self):
        """The input tensor(s) of the first symbolic call."""
        return _one_or_list(self._first_node("input").input_tensors)

    @property
    def output(self):
        """The output tensor(s) of the first symbolic call."""
        return _one_or_list(self._first_node("output").output_tensors)

    def _first_node(self, what: str) -> Node:
        if not self._inbound_nodes:
            raise AttributeError(
                f"{self._who()} has no {what}: it was never called on a symbolic input."
            )
        return self._inbound_nodes[0]

    def __repr__(self):
        return f"<{type(self).__name__} name={self.name}>"


def _one_or_list(tensors: list):
    return tensors[0] if len(tensors) == 1 else tensors


def _auto_config(self) -> dict:
    """Builds a config from the constructor arguments, when they are plain values."""
    args, kwargs = getattr(self, "_init_arguments", ((), {}))
    signature = inspect.signature(type(self).__init__)
    parameters = list(signature.parameters.values())
    bound = signature.bind(self, *args, **kwargs)
    bound.apply_defaults()
    config, plain = {}, True
    for parameter in parameters[1:]:
        value = bound.arguments.get(parameter.name)
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            config.update(value)
        elif parameter.kind in (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.POSITIONAL_ONLY,
        ):
            plain = plain and not value
        else:
            config[parameter.name] = value
    for key in ("name", "trainable", "dtype", "activity_regularizer", "autocast"):
        config.pop(key, None)  # `get_config` of the base classes adds them
    leaves = tree.flatten(config)
    if not plain or not all(isinstance(x, (str, int, float, bool, type(None))) for x in leaves):
        raise NotImplementedError(
            f"{type(self).__name__}: expected get_config() to be implemented, because the "
            "constructor takes values that are not plain numbers, strings or None. Example:\n"
            "    def get_config(self):\n"
            "        return {**super().get_config(), 'units': self.units}"
        )
    names = [p.name for p in parameters]
    if "name" in names or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        config["name"] = self.name
    return config


class OpOperation(Operation):
    """The graph operation of one function in `narae.ops`.

    Args:
        function: the op.
        name: name in the graph.
        static: arguments for every call, from a saved config.
    """

    def __init__(self, function, name: str | None = None, static: dict | None = None):
        super().__init__(name=name or auto_name(function.__name__))
        self.function = function
        self.static = static or {}

    def call(self, *args, **kwargs):
        return self.function(*args, **self.static, **kwargs)

    def compute_output_spec(self, *args, **kwargs):
        return infer_output_spec(self.call, args, kwargs, who=f"narae.ops.{self.function.__name__}")


def op(function):
    """Lets a function of `narae.ops` take `KerasTensor`s.

    With one among the arguments, the call becomes a node of the graph; otherwise the function is
    called straight away.
    """

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        for x in args:
            if type(x) is Tensor:  # most are
                continue
            if isinstance(x, KerasTensor) or (isinstance(x, (list, tuple)) and _holds(x)):
                return OpOperation(wrapper).symbolic_call(*args, **kwargs)
        if kwargs and has_symbolic((), kwargs):
            return OpOperation(wrapper).symbolic_call(*args, **kwargs)
        return function(*args, **kwargs)

    return wrapper


# Sizes tried in place of unknown dimensions: (first axis, other axes) for each of two runs. An
# output dimension that differs between the two runs is unknown. The later pairs serve functions
# that need larger or equal sizes.
_PLACEHOLDERS = (((2, 12), (3, 24)), ((12, 12), (24, 24)), ((120, 120), (240, 240)))

_guards: list = []  # one list of (variable, value) per inference under way


def infer_output_spec(function, args: tuple, kwargs: dict, who: str, variables=()):
    """Returns the structure of `KerasTensor`s that `function` would give.

    The function runs on zeros, with two placeholder sizes for unknown dimensions. State that it
    changes (moving statistics, random counters) is put back.

    Args:
        function: what to run.
        args, kwargs: its arguments; `KerasTensor`s stand for tensors.
        who: the name for error messages.
        variables: variables whose values must survive the run.
    """
    symbolic = [x for x in tree.flatten((args, kwargs)) if isinstance(x, KerasTensor)]
    known = all(None not in x.shape for x in symbolic)
    error = None
    for sizes in _PLACEHOLDERS:
        try:
            with _guarded(variables):
                first = _run_on_zeros(function, args, kwargs, sizes[0])
                if known:
                    return tree.map_structure(_spec, first, first)
                second = _run_on_zeros(function, args, kwargs, sizes[1])
            return tree.map_structure(_spec, first, second)
        except Exception as problem:
            error = error or problem
            if known:
                break
    shapes = ", ".join(str(x.shape) for x in symbolic)
    message = f"{error}\n(while inferring the output shape of {who} for inputs of shape {shapes})"
    try:
        explained = type(error)(message)
    except Exception:
        raise error from None
    raise explained.with_traceback(error.__traceback__) from None


def guard_new_state(variables) -> None:
    """Called when variables are made: values made during an inference survive it unchanged."""
    if _guards:
        _guards[-1].extend((v, v.numpy()) for v in variables if not v.trainable)


@contextlib.contextmanager
def _guarded(variables):
    saved = [(v, v.numpy()) for v in variables if not v.trainable]
    _guards.append(saved)
    try:
        yield
    finally:
        _guards.pop()
        for variable, value in saved:
            variable.assign(value)
        if _guards:
            _guards[-1].extend(saved)


def _run_on_zeros(function, args, kwargs, sizes):
    def concrete(x):
        if not isinstance(x, KerasTensor):
            return x
        shape = tuple(
            (sizes[0] if axis == 0 else sizes[1]) if size is None else size
            for axis, size in enumerate(x.shape)
        )
        try:
            return convert_to_tensor(np.zeros(shape, x.dtype))
        except TypeError:  # a dtype numpy does not know, such as bfloat16
            return convert_to_tensor(np.zeros(shape, "float32"), x.dtype)

    args, kwargs = tree.map_structure(concrete, (args, kwargs))
    return function(*args, **kwargs)


def _spec(a, b):
    if isinstance(a, Tensor):
        shape = tuple(m if m == n else None for m, n in zip(a.shape, b.shape))
        return KerasTensor(shape, a.dtype)
    return a if a is b or (isinstance(a, (int, float, str)) and a == b) else None
