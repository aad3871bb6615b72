"""Objects to JSON and back, in the form of Keras 3, with a closed registry of classes.

A config names classes; it never names code. A class is found among narae's own public ones and
those that the program registered or passed as `custom_objects`. Nothing is imported, unpickled or
compiled because a file says so.
"""

import contextlib
import importlib
import inspect
import threading
import types
import warnings

import numpy as np

from narae.engine.naming import to_snake_case
from narae.engine.operation import OpOperation
from narae.engine.tensor import KerasTensor, Tensor, convert_to_tensor

# Public modules of narae that configs may name classes of, and what Keras calls them.
_FAMILIES = {
    "layers": "keras.layers",
    "models": "keras",
    "initializers": "keras.initializers",
    "regularizers": "keras.regularizers",
    "constraints": "keras.constraints",
    "losses": "keras.losses",
    "metrics": "keras.metrics",
    "optimizers": "keras.optimizers",
    "schedules": "keras.optimizers.schedules",
    "activations": "keras.activations",
    "dtype_policies": "keras",
    "random": "keras.random",
}
_SEARCH = tuple(name for name in _FAMILIES if name != "activations")

_custom_objects: dict = {}  # registered name -> class or function
_custom_names: dict = {}  # class or function -> registered name
_scope = threading.local()


# Registered and scoped names


def register_keras_serializable(package: str = "Custom", name: str | None = None):
    """Registers a class or function, so that saved models may refer to it.

    Args:
        package: put before the name, as `package>name`.
        name: by default the class's own.

    Returns:
        A decorator.

    >>> @register_keras_serializable("my_package")
    ... class Scale(narae.layers.Layer): ...
    """

    def decorate(target):
        if not callable(target):
            raise ValueError(
                "narae.saving.register_keras_serializable: expected a class or function. "
                f"Received: {target!r}"
            )
        if inspect.isclass(target) and not hasattr(target, "get_config"):
            raise ValueError(
                "narae.saving.register_keras_serializable: expected a class with get_config(). "
                f"Received: {target.__name__}"
            )
        registered = f"{package}>{name or target.__name__}"
        _custom_objects[registered] = target
        _custom_names[target] = registered
        return target

    return decorate


def get_custom_objects() -> dict:
    """Returns the dict of registered names; entries may be added to it."""
    return _custom_objects


def get_registered_name(obj) -> str:
    """Returns the name a class or function is registered under, or its own."""
    return _custom_names.get(obj, getattr(obj, "__name__", str(obj)))


def _scoped() -> dict:
    return getattr(_scope, "objects", {})


def get_registered_object(name, custom_objects=None, module_objects=None):
    """Returns the class or function that a name stands for, or None."""
    for objects in (_scoped(), custom_objects or {}, _custom_objects, module_objects or {}):
        if name in objects:
            return objects[name]
    return None


class CustomObjectScope:
    """Makes names known to deserialization inside a `with` block.

    Args:
        custom_objects: from name to class or function.

    >>> class Scale(layers.Layer):
    ...     def call(self, x):
    ...         return 2 * x
    >>> config = layers.serialize(Scale())
    >>> with narae.saving.custom_object_scope({"Scale": Scale}):
    ...     type(layers.deserialize(config)).__name__
    'Scale'
    """

    def __init__(self, custom_objects: dict | None = None):
        self._objects = dict(custom_objects or {})

    def __enter__(self):
        self._outer = _scoped()
        _scope.objects = {**self._outer, **self._objects}
        return self

    def __exit__(self, *_):
        _scope.objects = self._outer


custom_object_scope = CustomObjectScope


# Objects to JSON


def serialize_keras_object(obj):
    """Returns an object as plain values that JSON can hold, in Keras 3's form."""
    if obj is None or isinstance(obj, (bool, int, float, str)):
        return obj
    if isinstance(obj, dict):
        return {key: serialize_keras_object(value) for key, value in obj.items()}
    if isinstance(obj, (list, tuple)):
        items = [serialize_keras_object(x) for x in obj]
        return tuple(items) if isinstance(obj, tuple) else items
    if isinstance(obj, bytes):
        return _special("__bytes__", value=obj.decode())
    if obj is Ellipsis:
        return _special("__ellipsis__")
    if isinstance(obj, slice):
        return _special("__slice__", start=obj.start, stop=obj.stop, step=obj.step)
    if isinstance(obj, np.generic):
        return obj.item()
    if isinstance(obj, np.ndarray):
        return _special("__numpy__", value=obj.tolist(), dtype=obj.dtype.name)
    if isinstance(obj, KerasTensor):
        history = [obj.history[0].name, *obj.history[1:]] if obj.history else None
        return _special("__keras_tensor__", shape=obj.shape, dtype=obj.dtype, keras_history=history)
    if isinstance(obj, Tensor):
        if obj.ndim == 0:
            return obj.item()
        return _special("__tensor__", value=obj.numpy().tolist(), dtype=obj.dtype)
    if isinstance(obj, np.dtype):
        return obj.name
    if isinstance(obj, types.FunctionType) and obj.__name__ == "<lambda>":
        raise ValueError(
            "narae.saving: expected a named function. A lambda cannot be saved: write it as a "
            "function and register it with narae.saving.register_keras_serializable()."
        )
    if isinstance(obj, (types.FunctionType, types.BuiltinFunctionType)):
        own = obj.__module__.split(".")[0] == "narae"
        return {
            "module": "builtins",
            "class_name": "function",
            "config": obj.__name__ if own else get_registered_name(obj),
            "registered_name": "function",
        }
    if inspect.isclass(obj):
        return {
            "module": _keras_module(obj),
            "class_name": obj.__name__,
            "config": {},
            "registered_name": None if _keras_module(obj) else get_registered_name(obj),
        }
    if isinstance(obj, OpOperation):
        return _op_config(obj)
    if hasattr(obj, "get_config"):
        return _object_config(obj)
    raise TypeError(
        "narae.saving.serialize_keras_object: expected an object with get_config(), or plain "
        f"values. Received: {obj!r} of type {type(obj).__name__}"
    )


def _special(class_name: str, **config) -> dict:
    return {"class_name": class_name, "config": config}


def _object_config(obj) -> dict:
    cls = type(obj)
    module = _keras_module(cls)
    config = {
        "module": module,
        "class_name": vars(cls).get("_keras_name", cls.__name__),
        "config": serialize_keras_object(obj.get_config()),
        "registered_name": None if module else get_registered_name(cls),
    }
    if module == "keras.src.models.functional":
        config["registered_name"] = "Functional"
    if hasattr(obj, "get_build_config"):
        build_config = obj.get_build_config()
        if build_config is not None:
            config["build_config"] = serialize_keras_object(build_config)
    if hasattr(obj, "get_compile_config"):
        compile_config = obj.get_compile_config()
        if compile_config:
            config["compile_config"] = serialize_keras_object(compile_config)
    return config


def _keras_module(cls) -> str | None:
    """Returns where Keras keeps the class of this name, or None for a class that is not narae's."""
    parts = cls.__module__.split(".")
    if parts[0] != "narae" or get_registered_name(cls) != cls.__name__:
        return None
    if cls.__name__ == "Functional":
        return "keras.src.models.functional"
    family = next((part for part in reversed(parts) if part in _FAMILIES), None)
    return _FAMILIES.get(family)


# JSON to objects


def deserialize_keras_object(config, custom_objects: dict | None = None, safe_mode: bool = True):
    """Returns the object that `serialize_keras_object` described.

    Args:
        config: plain values; unknown keys are ignored.
        custom_objects: names known for this call, besides the registered ones.
        safe_mode: accepted for Keras's sake; code from files is refused either way.

    Raises:
        ValueError: a class that is neither narae's nor registered, or code in the config.
    """
    with custom_object_scope(custom_objects), _sharing():
        return _deserialize(config)


@contextlib.contextmanager
def _sharing():
    """Objects saved as shared are made once per outermost call."""
    outer = getattr(_scope, "shared", None)
    _scope.shared = {} if outer is None else outer
    try:
        yield
    finally:
        _scope.shared = outer


def _deserialize(config):
    if config is None or isinstance(config, (bool, int, float)):
        return config
    if isinstance(config, str):
        found = get_registered_object(config)
        return config if found is None else found
    if isinstance(config, (list, tuple)):
        return [_deserialize(x) for x in config]
    if not isinstance(config, dict):
        return config
    if "class_name" not in config or "config" not in config:
        return {key: _deserialize(value) for key, value in config.items()}
    name, inner = config["class_name"], config["config"]
    if name in _SPECIAL:
        return _SPECIAL[name](inner)
    if name in ("__lambda__", "Lambda_code") or name == "__typespec__":
        raise ValueError(
            "narae.saving: the config holds compiled Python code, which is never run. Load the "
            "model where it was made and replace the lambda by a registered function. "
            f"Received: class_name={name!r}"
        )
    if name == "function":
        return _function(inner, config)
    shared = config.get("shared_object_id")
    if shared is not None and (name, shared) in _scope.shared:
        return _scope.shared[name, shared]
    obj = _make(config, name, inner)
    if shared is not None:
        _scope.shared[name, shared] = obj
    return obj


def _make(config: dict, name: str, inner):
    module = config.get("module")
    target = _find_class(name, module, config.get("registered_name"))
    if not hasattr(target, "from_config") or not isinstance(inner, dict):
        return target if inspect.isclass(target) and not inner else target(**(inner or {}))
    if target is OpOperation:
        return _op_from_config(name, inner)
    if target.__module__.split(".")[0] == "narae" and target.__module__.split(".")[1] != "models":
        inner = _known_arguments(target, inner)
    try:
        obj = target.from_config(inner)
    except RecursionError:
        raise ValueError("narae.saving: the config is nested too deeply.") from None
    build_config = config.get("build_config")
    if build_config and hasattr(obj, "build_from_config") and not getattr(obj, "built", True):
        obj.build_from_config(build_config)
    compile_config = config.get("compile_config")
    if compile_config and hasattr(obj, "compile_from_config"):
        obj.compile_from_config(compile_config)
    return obj


_KERAS_2_KEYS = ("jit_compile", "is_legacy_optimizer", "implementation", "time_major")


def _known_arguments(cls, config: dict) -> dict:
    """Drops keys that other versions write and this class has no use for."""
    if "fn" in config:  # a wrapped function gets the arguments that the class does not name
        return config
    known = {"name", "dtype", "trainable", "batch_input_shape"}
    for base in cls.__mro__:
        init = vars(base).get("__init__")
        if init is None:
            continue
        parameters = inspect.signature(init).parameters.values()
        known.update(p.name for p in parameters)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    ignored = {
        key: value
        for key, value in config.items()
        if value and key not in known and key not in _KERAS_2_KEYS
    }
    if ignored:
        warnings.warn(
            f"narae.saving: {cls.__name__} has no use for {ignored}, which the file holds.",
            stacklevel=2,
        )
    return {key: value for key, value in config.items() if key in known}


def _find_class(name, module, registered_name):
    for key in (registered_name, name):
        found = get_registered_object(key) if key else None
        if found is not None:
            return found
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"narae.saving: expected the name of a class. Received: {name!r}")
    found = _own_class(name, module)
    if found is not None:
        return found
    raise ValueError(
        f"narae.saving: unknown class {name!r} (module {module!r}, registered as "
        f"{registered_name!r}). If it is yours, decorate it with "
        "@narae.saving.register_keras_serializable(), or pass custom_objects={...}."
    )


def _own_class(name: str, module):
    """Finds a class among narae's own public ones; the module only says where to look first."""
    parts = str(module or "").split(".")
    if "ops" in parts:
        return OpOperation
    if parts[-1] == "functional" or name in ("Sequential", "Functional", "Model"):
        families = ["models"]
    else:
        families = [part for part in reversed(parts) if part in _SEARCH]
    if parts[0] in ("keras", "narae", "tensorflow", "keras_core", "") or not families:
        families += [family for family in _SEARCH if family not in families]
    for family in families:
        path = "narae.optimizers.schedules" if family == "schedules" else f"narae.{family}"
        # The path is one of the fixed ones above, never taken from the config.
        found = getattr(importlib.import_module(path), name, None)
        if inspect.isclass(found) and found.__module__.split(".")[0] == "narae":
            return found
    return None


def _function(name, config):
    if not isinstance(name, str):
        raise ValueError(f"narae.saving: expected the name of a function. Received: {name!r}")
    for key in (config.get("registered_name"), name):
        found = get_registered_object(key) if key and key != "function" else None
        if found is not None:
            return found
    for family in ("activations", "losses", "metrics", "ops"):
        found = getattr(importlib.import_module(f"narae.{family}"), name, None)
        if isinstance(found, types.FunctionType) and not name.startswith("_"):
            return found
    raise ValueError(
        f"narae.saving: unknown function {name!r}. If it is yours, decorate it with "
        "@narae.saving.register_keras_serializable(), or pass custom_objects={...}."
    )


def _tensor_from_config(config):
    return convert_to_tensor(np.array(config["value"], dtype=config["dtype"]))


_SPECIAL = {
    "__bytes__": lambda c: c["value"].encode(),
    "__ellipsis__": lambda c: Ellipsis,
    "__slice__": lambda c: slice(*(_deserialize(c.get(key)) for key in ("start", "stop", "step"))),
    "__tuple__": lambda c: tuple(_deserialize(x) for x in c["value"]),
    "__numpy__": lambda c: np.array(c["value"], dtype=c["dtype"]),
    "__tensor__": _tensor_from_config,
    "__keras_tensor__": lambda c: KerasTensor(c["shape"], c["dtype"]),
}


# Ops in functional graphs. Keras has a class per op: `Sum(axis, keepdims)` called on tensors.


def _words(text: str) -> frozenset:
    return frozenset(text.split())


# Parameters that Keras passes in the call; all others belong to the op's config.
_CALL_PARAMETERS = _words(
    "x x1 x2 x3 xs y a b v inputs condition key indices values start query value mask target "
    "output kernel weights operands data updates sorted_sequence values1 values2"
)
_KERAS_NN_OPS = _words(
    "relu relu6 sigmoid softplus softsign silu log_sigmoid leaky_relu hard_sigmoid hard_silu elu "
    "selu gelu celu glu tanh_shrink hard_tanh hard_shrink threshold soft_shrink squareplus "
    "softmax log_softmax sparsemax max_pool average_pool conv depthwise_conv separable_conv "
    "conv_transpose one_hot multi_hot binary_crossentropy categorical_crossentropy "
    "sparse_categorical_crossentropy moments batch_normalization layer_normalization "
    "rms_normalization normalize dot_product_attention"
)
_KERAS_CORE_OPS = _words("cast shape slice slice_update scatter scatter_update unstack")
_KERAS_MATH_OPS = _words(
    "segment_sum segment_max top_k in_top_k logsumexp erf erfinv rsqrt fft2 extract_sequences "
    "norm logdet qr"
)


def _op_module(name: str) -> str:
    kinds = (("nn", _KERAS_NN_OPS), ("core", _KERAS_CORE_OPS), ("math", _KERAS_MATH_OPS))
    kind = next((kind for kind, names in kinds if name in names), "numpy")
    return f"keras.src.ops.{'linalg' if name == 'norm' else kind}"


def split_op_call(node) -> tuple:
    """Splits the arguments of an op's node as Keras does.

    Returns:
        (args, kwargs, config): what the call gets, and what the op's constructor gets.
    """
    function = getattr(node.operation.function, "__wrapped__", node.operation.function)
    static = node.operation.static
    parameters = inspect.signature(function).parameters
    bound = inspect.signature(function).bind(*node.args, **{**static, **node.kwargs})
    bound.apply_defaults()
    args, config = [], {}
    for name, value in bound.arguments.items():
        if parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
            args.extend(value)
        elif name in _CALL_PARAMETERS or _holds_symbol(value):
            args.append(value)
        else:
            config[name] = value
    return args, {}, config


def _holds_symbol(value) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_symbol, value))
    return isinstance(value, KerasTensor)


def _op_config(operation: OpOperation) -> dict:
    name = operation.function.__name__
    class_name = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    config = split_op_call(operation._inbound_nodes[0])[2] if operation._inbound_nodes else {}
    return {
        "module": _op_module(name),
        "class_name": class_name,
        "config": {"name": operation.name, **serialize_keras_object(config)},
        "registered_name": class_name,
    }


def _op_from_config(class_name: str, config: dict) -> OpOperation:
    ops = importlib.import_module("narae.ops")
    config = dict(config)
    own_name = config.pop("name", None)
    function = getattr(ops, to_snake_case(class_name), None)
    if not isinstance(function, types.FunctionType):
        raise ValueError(f"narae.saving: unknown op {class_name!r}: narae.ops has none like it.")
    parameters = inspect.signature(function).parameters
    static = {
        key: _as_tuple(_deserialize(value)) for key, value in config.items() if key in parameters
    }
    return OpOperation(function, name=own_name, static=static)


def _as_tuple(value):
    return tuple(value) if isinstance(value, list) else value
