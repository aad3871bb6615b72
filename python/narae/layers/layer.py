"""The base class of all layers: building, the call protocol, masks, losses, dtypes and config."""

import functools
import inspect
import threading
import warnings
import weakref

import numpy as np

from narae import dtype_policies, ops, regularizers
from narae.engine import tree
from narae.engine.naming import absolute_scope, current_path, name_scope
from narae.engine.operation import (
    Node,
    Operation,
    guard_new_state,
    has_symbolic,
    infer_output_spec,
)
from narae.engine.tensor import KerasTensor, Tensor, autocast, convert_to_tensor
from narae.layers.holder import Holder


class _CallState(threading.local):
    """What nested layer calls share: the outermost layer and the value of `training`."""

    entry = None
    training = None


_state = _CallState()
_layers_with_losses: weakref.WeakSet = weakref.WeakSet()


def calls_are_watched() -> bool:
    """Returns whether a layer's call is under way, or a layer has added losses in the last one."""
    return _state.entry is not None or _state.training is not None or bool(_layers_with_losses)


def is_default(method) -> bool:
    """Returns whether a method is the base class's own, not overridden."""
    return getattr(method, "_is_default", False)


def _default(method):
    method._is_default = True
    return method


class _CallInfo:
    """What matters of the signature of one `call` method."""

    def __init__(self, function, bound: bool):
        parameters = list(inspect.signature(function).parameters.values())[int(bound) :]
        kinds = inspect.Parameter
        named = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        self.positional = tuple(p.name for p in parameters if p.kind in named)
        self.names = frozenset(
            p.name for p in parameters if p.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
        )
        self.takes_kwargs = any(p.kind is kinds.VAR_KEYWORD for p in parameters)
        self.has_training = "training" in self.names
        self.has_mask = "mask" in self.names
        self.mask_names = tuple(n for n in self.names if n.endswith("_mask"))
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        self.training_default = defaults.get("training")
        self.training_position = (
            self.positional.index("training") if "training" in self.positional else None
        )

    def tensors(self, args: tuple, kwargs: dict) -> dict:
        """Returns the tensor arguments by name (nested ones that hold only tensors too)."""
        pairs = list(zip(self.positional, args))
        pairs += [pair for pair in kwargs.items() if pair[0] in self.names]
        return {name: value for name, value in pairs if _is_tensors(value)}


@functools.cache
def _call_info(function, bound: bool) -> _CallInfo:
    return _CallInfo(function, bound)


def _is_tensors(value) -> bool:
    if isinstance(value, (Tensor, KerasTensor)):
        return True
    if not tree.is_nested(value) or not value:
        return False
    leaves = tree.flatten(value)
    return any(x is not None for x in leaves) and all(
        x is None or isinstance(x, (Tensor, KerasTensor)) for x in leaves
    )


def _mask_of(tensors):
    if isinstance(tensors, (Tensor, KerasTensor)):
        return tensors.mask if isinstance(tensors, Tensor) else None
    if tensors is None:
        return None
    masks = tree.map_structure(lambda x: getattr(x, "mask", None), tensors)
    return masks if any(m is not None for m in tree.flatten(masks)) else None


def _shape_of(x):
    return None if x is None else tuple(x.shape)


def _wrap_build(build):
    """Makes `build` open the layer's name scope, note its shapes and mark the layer as built."""

    @functools.wraps(build)
    def wrapper(self, *args, **kwargs):
        if self._building:  # a subclass's build calls its parent's
            return build(self, *args, **kwargs)
        self._building = True
        try:
            with self._scope():
                self._path = current_path()
                self._note_build_shapes(build, args, kwargs)
                result = build(self, *args, **kwargs)
        finally:
            self._building = False
        self.built = True
        guard_new_state(self._non_trainable_variables)
        return result

    return wrapper


class Layer(Holder, Operation):
    """A function with weights: `build` makes the weights, `call` does the work.

    `build(input_shape)` runs once, when the first input's shape is known. Variables, layers and
    metrics stored as attributes (also inside lists and dicts) belong to the layer.

    Args:
        activity_regularizer: regularizer of the layer's output, or None.
        trainable: whether the layer's variables are trained.
        dtype: a dtype or policy for weights and computation; None means the global policy.
        autocast: whether floating-point inputs are cast to the layer's compute dtype.
        name: name of the layer; by default snake_case of its class, numbered.

    >>> class Scale(Layer):
    ...     def build(self, input_shape):
    ...         self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones")
    ...     def call(self, x):
    ...         return x * self.scale
    >>> Scale()(narae.ops.ones((2, 3))).shape
    (2, 3)
    """

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls, *args, **kwargs)
        object.__setattr__(self, "_building", False)
        object.__setattr__(self, "_path", None)
        object.__setattr__(self, "_parent_path", None)
        object.__setattr__(self, "_held", None)
        return self

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "build" in cls.__dict__:
            cls.build = _wrap_build(cls.__dict__["build"])
            cls.build._is_default = False

    def __init__(
        self,
        *,
        activity_regularizer=None,
        trainable: bool = True,
        dtype=None,
        autocast: bool = True,
        name: str | None = None,
        **kwargs,
    ):
        super().__init__(name=name)
        self._take_legacy_shape(kwargs)
        if kwargs:
            raise ValueError(f"{self._who()}: unrecognized keyword arguments. Received: {kwargs}")
        if not isinstance(trainable, bool):
            raise ValueError(
                f"{self._who()}: expected trainable to be a boolean. Received: {trainable!r}"
            )
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.dtype_policy = dtype
        self.autocast = autocast
        self.built = False
        self.input_spec = None
        self._trainable = trainable
        self._weights_added = []  # (variable, trainable when added)
        self._losses = []
        self._build_shapes = None
        self._called = False
        self._convert_input_args = True
        self.supports_masking = not is_default(self.compute_mask)
        function = getattr(self.call, "__func__", self.call)
        self._call_info = _call_info(function, function is not self.call)

    def _take_legacy_shape(self, kwargs: dict) -> None:
        """Accepts Keras's old `input_shape`, `input_dim` and `batch_input_shape`."""
        given = {
            key: kwargs.pop(key)
            for key in ("input_shape", "input_dim", "batch_input_shape")
            if key in kwargs
        }
        given = {key: value for key, value in given.items() if value is not None}
        if not given:
            return
        warnings.warn(
            f"{self._who()}: prefer an `Input(shape)` object as the first layer of a Sequential "
            f"model to passing `{next(iter(given))}` to a layer.",
            stacklevel=4,
        )
        if "batch_input_shape" in given:
            shape = tuple(given["batch_input_shape"])
        elif "input_dim" in given:
            shape = (None, given["input_dim"])
        else:
            shape = given["input_shape"]
            shape = (None, *(shape if isinstance(shape, (list, tuple)) else (shape,)))
        self._legacy_batch_shape = shape

    def _who(self) -> str:
        module = type(self).__module__.split(".")
        prefix = ".".join(module[:2]) + "." if module[0] == "narae" else ""
        name = self.__dict__.get("name")
        return f"{prefix}{type(self).__name__}" + (f" '{name}'" if name else "")

    # Building

    @_default
    def build(self, input_shape):
        """Makes the layer's weights for inputs of `input_shape` (batch axis included)."""
        self.built = True

    def get_build_config(self) -> dict | None:
        """Returns what `build_from_config` needs to make the weights again."""
        if self._build_shapes is None:
            return None
        if len(self._build_shapes) == 1:
            return {"input_shape": next(iter(self._build_shapes.values()))}
        return {"shapes_dict": dict(self._build_shapes)}

    def build_from_config(self, config: dict) -> None:
        """Makes the weights from the dict that `get_build_config` gave."""
        if not config:
            return
        if config.get("input_shape") is not None:
            shape = _as_shapes(config["input_shape"])
            self.build(shape)
            self._build_shapes = self._build_shapes or {"input_shape": shape}
        elif "shapes_dict" in config:
            self.build(**{k: _as_shapes(v) for k, v in config["shapes_dict"].items()})

    def _note_build_shapes(self, build, args, kwargs):
        try:
            bound = inspect.signature(build).bind(self, *args, **kwargs)
        except TypeError:
            return  # the call that follows raises the better error
        shapes = dict(list(bound.arguments.items())[1:])
        if shapes and all(_is_shapes(value) for value in shapes.values()):
            self._build_shapes = shapes

    def _scope(self):
        if self._parent_path is None:
            self._parent_path = current_path()
        return name_scope(self.name, owner=self)

    def _maybe_build(self, args, kwargs):
        if self.built:
            return
        if is_default(self.build):
            if any(not layer.built for layer in self._layers) and has_symbolic(args, kwargs):
                return  # running call() on zeros to infer the shape builds the sub-layers
            with self._scope():
                self._path = current_path()
            shapes = self._shapes(args, kwargs)
            self._build_shapes = dict([next(iter(shapes.items()))]) if shapes else None
            self.build(next(iter(shapes.values()), None))
        else:
            shapes = self._shapes_for(self.build, args, kwargs)
            self.build(**shapes)
            self._check_input(self._first(args, kwargs))

    def _shapes(self, args, kwargs) -> dict:
        tensors = self._call_info.tensors(args, kwargs)
        return {
            f"{name}_shape": tree.map_structure(_shape_of, value)
            for name, value in tensors.items()
            if name != "mask"
        }

    def _shapes_for(self, method, args, kwargs) -> dict:
        """Matches the shapes of the call's tensors with the parameters of `method`."""
        shapes = self._shapes(args, kwargs)
        parameters = inspect.signature(method).parameters.values()
        var = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        names = [p.name for p in parameters if p.kind not in var]
        if len(names) == 1:
            return {names[0]: next(iter(shapes.values()), None)}
        for name in names:
            stem = name.removesuffix("_shape")
            if stem == name or stem not in self._call_info.names:
                raise ValueError(
                    f"{self._who()}: expected each argument of {method.__name__}() to be named "
                    f"after an argument of call(), as in `x_shape` for `x`. Received: `{name}`"
                )
        return {name: shapes[name] for name in names if name in shapes}

    # Dtypes

    @property
    def dtype_policy(self) -> dtype_policies.DTypePolicy:
        """The dtypes of weights and of computation."""
        return self._dtype_policy

    @dtype_policy.setter
    def dtype_policy(self, value):
        self._dtype_policy = dtype_policies.get(value)
        self._compute_dtype = self._dtype_policy.compute_dtype
        self._casts_float = "float" in self._compute_dtype
        mixed = self._compute_dtype != self._dtype_policy.variable_dtype
        self._variables_as = self._compute_dtype if mixed else None

    @property
    def compute_dtype(self) -> str:
        """The dtype that inputs are cast to."""
        return self._compute_dtype

    @property
    def variable_dtype(self) -> str:
        """The dtype of the weights."""
        return self._dtype_policy.variable_dtype

    @property
    def dtype(self) -> str:
        """As `variable_dtype`."""
        return self._dtype_policy.variable_dtype

    input_dtype = compute_dtype

    @property
    def path(self) -> str | None:
        """The layer's place in the name scopes; None until it is built."""
        return self._path

    # Calling

    def call(self, *args, **kwargs):
        """Computes the outputs; to be implemented by the class.

        Args:
            *args, **kwargs: tensors, and optionally `training` and `mask`, which are passed on
                from the layers around this one.
        """
        raise NotImplementedError(f"{self._who()}: expected the class to implement call(self, x).")

    def __call__(self, *args, **kwargs):
        """Runs the layer on tensors, or adds it to the graph when given `KerasTensor`s."""
        if "_call_info" not in self.__dict__:
            self._check_super_called()
        if has_symbolic(args, kwargs):
            return self._symbolic_call(args, kwargs)
        if self._convert_input_args:
            args = tuple([self._convert(x) for x in args])
            if kwargs:
                kwargs = {key: self._convert(x) for key, x in kwargs.items()}
        first = self._first(args, kwargs)
        if self.input_spec is not None:
            self._check_input(first)
        state = _state
        outer_entry, outer_training = state.entry, state.training
        if outer_entry is None:
            state.entry = self
            if _layers_with_losses:
                self._clear_losses()
        try:
            if not self._called:
                return self._first_call(first, args, kwargs)
            self._pass_training(args, kwargs)
            return self._run(first, args, kwargs)
        finally:
            state.entry, state.training = outer_entry, outer_training

    def _first_call(self, first, args, kwargs):
        with self._reopened_scope():
            self._maybe_build(args, kwargs)
            self._pass_training(args, kwargs)
            outputs = self._run(first, args, kwargs)
        self.built = self._called = True
        return outputs

    def _reopened_scope(self):
        """The scope of the layer's first call or build, wherever it is called from later."""
        if self._parent_path is None:
            return self._scope()
        path = f"{self._parent_path}/{self.name}" if self._parent_path else self.name
        return absolute_scope(path, owner=self)

    def _run(self, first, args, kwargs):
        """`call` with the masks passed in, and what comes after it: losses and masks."""
        info = self._call_info
        if kwargs or len(args) != 1:
            tensors = info.tensors(args, kwargs)
            if len(tensors) > 1:
                for name, value in tensors.items():
                    key = f"{name}_mask"
                    given = kwargs.get(key) is not None or key in info.positional[: len(args)]
                    if key in info.mask_names and not given:
                        kwargs[key] = _mask_of(value)
            single = len(tensors) == 1
        else:
            single = True
        mask = _mask_of(first)
        if info.has_mask:
            position = info.positional.index("mask") if "mask" in info.positional else len(args)
            if position < len(args):
                mask = args[position]
            elif kwargs.get("mask") is not None:
                mask = kwargs["mask"]
            elif single and mask is not None:
                kwargs["mask"] = mask
        outputs = self._autocast_call(*args, **kwargs)
        if self.activity_regularizer is not None:
            self._add_activity_loss(outputs)
        if mask is not None or not is_default(self.compute_mask):
            self._set_masks(first, outputs, mask)
        return outputs

    def _autocast_call(self, *args, **kwargs):
        """`call`, in which variables are read in the compute dtype."""
        outer, autocast.dtype = autocast.dtype, self._variables_as if self.autocast else None
        try:
            return self.call(*args, **kwargs)
        finally:
            autocast.dtype = outer

    def _call_on_zeros(self, *args, **kwargs):
        """What a call on tensors comes to, for the dtypes of its outputs."""
        if self._convert_input_args:
            args = [self._convert(x) for x in args]
            kwargs = {key: self._convert(x) for key, x in kwargs.items()}
        return self._autocast_call(*args, **kwargs)

    def _pass_training(self, args, kwargs):
        """Settles `training`: the argument, else the caller's, else call()'s own default."""
        info, state = self._call_info, _state
        position = info.training_position
        if position is not None and position < len(args):
            state.training = args[position]
            return
        value = kwargs.pop("training", None) if "training" in kwargs else None
        if value is None:
            value = state.training
            if value is None:
                value = info.training_default
        state.training = value
        if value is not None and info.has_training:
            kwargs["training"] = value

    def _first(self, args, kwargs):
        if args:
            return args[0]
        positional = self._call_info.positional
        return kwargs.get(positional[0]) if positional else None

    def _convert(self, x):
        """Turns arrays into tensors and casts floating-point ones to the compute dtype."""
        if isinstance(x, Tensor):
            if not self.autocast or x.dtype == self._compute_dtype or not self._casts_float:
                return x
            if "float" not in x.dtype:
                return x
            y = ops.cast(x, self._compute_dtype)
            y.mask = x.mask
            return y
        if isinstance(x, (list, tuple, dict)):
            return tree.map_structure(self._convert, x)
        if hasattr(x, "__array__") and not isinstance(x, KerasTensor):
            kind = np.dtype(x.dtype).kind if hasattr(x, "dtype") else "b"
            cast = self.autocast and self._casts_float and kind in "fV"  # V: bfloat16
            return convert_to_tensor(x, self._compute_dtype if cast else None)
        return x

    def _check_input(self, inputs):
        if self.input_spec is None:
            return
        specs = tree.flatten(self.input_spec)
        inputs = tree.flatten(inputs)
        if len(specs) != len(inputs):
            raise ValueError(
                f"{self._who()}: expected {len(specs)} input(s). Received: {len(inputs)}"
            )
        for position, (spec, x) in enumerate(zip(specs, inputs)):
            if spec is not None:
                spec.check(x, self._who(), position)

    def _symbolic_call(self, args, kwargs):
        state = _state
        outer_entry, outer_training = state.entry, state.training
        call_kwargs = dict(kwargs)
        state.entry = outer_entry or self
        try:
            with self._reopened_scope():
                self._check_input(self._first(args, kwargs))
                self._maybe_build(args, kwargs)
                self._pass_training(args, call_kwargs)
                outputs = self.compute_output_spec(*args, **call_kwargs)
                self.built = True
        finally:
            state.entry, state.training = outer_entry, outer_training
        Node(self, args, kwargs, outputs)
        return outputs

    def symbolic_call(self, *args, **kwargs):
        """Returns the symbolic outputs for symbolic inputs."""
        return self.compute_output_spec(*args, **kwargs)

    def compute_output_spec(self, *args, **kwargs):
        """Returns `KerasTensor`s with the shapes and dtypes of the layer's outputs."""
        if is_default(self.compute_output_shape):
            outputs = infer_output_spec(
                self._call_on_zeros, args, kwargs, who=self._who(), variables=self.variables
            )
            if not self.built and is_default(self.build):
                self.build(next(iter(self._shapes(args, kwargs).values()), None))
            return outputs
        shape = self.compute_output_shape(
            **self._shapes_for(self.compute_output_shape, args, kwargs)
        )
        return tree.map_shape_structure(lambda s: KerasTensor(s, self._compute_dtype), shape)

    @_default
    def compute_output_shape(self, *args, **kwargs):
        """Returns the shape of the output for inputs of the given shape(s)."""
        inputs = tree.map_shape_structure(
            lambda s: KerasTensor(s, self._compute_dtype), args[0] if args else kwargs
        )
        args, kwargs = ((inputs,), {}) if args else ((), _without_suffix(inputs))
        outputs = infer_output_spec(
            self.__call__, args, kwargs, who=self._who(), variables=self.variables
        )
        return tree.map_structure(_shape_of, outputs)

    def stateless_call(self, trainable_variables, non_trainable_variables, *args, **kwargs):
        """Runs the layer with the given values of its variables and leaves its own unchanged.

        Returns:
            (outputs, values of the non-trainable variables after the call)
        """
        mine = [*self.trainable_variables, *self.non_trainable_variables]
        values = [*trainable_variables, *non_trainable_variables]
        if len(mine) != len(values):
            raise ValueError(
                f"{self._who()}.stateless_call: expected {len(mine)} values, one per variable. "
                f"Received: {len(values)}"
            )
        saved = [v.numpy() for v in mine]
        try:
            for variable, value in zip(mine, values):
                variable.assign(value)
            outputs = self(*args, **kwargs)
            return outputs, [v.numpy() for v in self.non_trainable_variables]
        finally:
            for variable, value in zip(mine, saved):
                variable.assign(value)

    # Masks

    @_default
    def compute_mask(self, inputs, previous_mask):
        """Returns the mask of the outputs, given the inputs and their mask."""
        return previous_mask

    def _set_masks(self, inputs, outputs, previous_mask):
        if not self.supports_masking:
            if previous_mask is not None:
                warnings.warn(
                    f"{self._who()}: the input has a mask, which this layer does not pass on. "
                    "Layers after it will not see the mask.",
                    stacklevel=4,
                )
            return
        flat = [x for x in tree.flatten(outputs) if isinstance(x, Tensor)]
        if all(x.mask is not None for x in flat):
            return
        masks = self.compute_mask(inputs, previous_mask)
        if masks is None:
            return
        for tensor, mask in zip(flat, tree.flatten(masks)):
            if tensor.mask is None and mask is not None:
                tensor.mask = mask

    # Losses

    def add_loss(self, loss) -> None:
        """Adds a scalar tensor (or a list of them) to the loss that training minimizes."""
        for value in tree.flatten(loss):
            if not isinstance(value, (Tensor, KerasTensor, int, float, np.generic, np.ndarray)):
                raise ValueError(
                    f"{self._who()}.add_loss: expected a tensor or a number. Received: {value!r}"
                )
            if isinstance(value, KerasTensor):
                raise ValueError(
                    f"{self._who()}.add_loss: expected a value, not a symbolic tensor. Call "
                    "add_loss() inside the call() of a layer."
                )
            self._losses.append(convert_to_tensor(value))
        _layers_with_losses.add(self)

    def _add_activity_loss(self, outputs):
        for y in tree.flatten(outputs):
            if isinstance(y, Tensor):
                loss = self.activity_regularizer(y)
                self.add_loss(loss / max(y.shape[0], 1) if y.ndim else loss)

    @property
    def losses(self) -> list:
        """What `add_loss` collected in the last call, and the weights' regularization."""
        losses = [loss for layer in self._flatten_layers() for loss in layer._losses]
        for variable in self.trainable_weights:
            if variable.regularizer is not None:
                losses.append(variable.regularizer(variable))
        return losses

    def _clear_losses(self) -> None:
        if not _layers_with_losses:
            return
        for layer in self._flatten_layers():
            if layer in _layers_with_losses:
                layer._losses = []
                _layers_with_losses.discard(layer)

    # Config

    @_default
    def get_config(self) -> dict:
        """Returns the constructor's arguments as plain values, for `from_config`."""
        config = super().get_config()
        config["trainable"] = self.trainable
        config["dtype"] = dtype_policies.serialize(self.dtype_policy)
        if self.activity_regularizer is not None:
            config["activity_regularizer"] = regularizers.serialize(self.activity_regularizer)
        return config

    @classmethod
    def from_config(cls, config: dict):
        """Returns a layer made from the dict that `get_config` gave."""
        config = dict(config)
        if isinstance(config.get("dtype"), dict):
            config["dtype"] = dtype_policies.deserialize(config["dtype"]).name
        parameters = inspect.signature(cls.__init__).parameters
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            for key in ("trainable", "dtype", "name"):
                if key not in parameters:
                    config.pop(key, None)
        return super().from_config(config)

    def _check_super_called(self):
        if "_call_info" not in self.__dict__:
            raise RuntimeError(
                f"{type(self).__name__}: expected __init__() to call super().__init__() first."
            )

    def __repr__(self):
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


def _is_shapes(value) -> bool:
    if tree.is_shape(value):
        return True
    return tree.is_nested(value) and all(_is_shapes(x) for x in _values(value))


def _values(structure):
    return structure.values() if isinstance(structure, dict) else structure


def _as_shapes(value):
    """Turns the lists of a JSON config back into shape tuples."""
    return tree.map_shape_structure(tuple, value) if _is_shapes(value) else value


def _without_suffix(shapes: dict) -> dict:
    return {key.removesuffix("_shape"): value for key, value in shapes.items()}
