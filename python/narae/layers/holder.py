"""What a layer holds: variables, sub-layers, metrics and random generators.

All are attributes, also inside lists and dicts. They are looked for when they are asked for, and
remembered until an attribute changes.
"""

import types

import numpy as np

from narae import constraints, initializers, regularizers
from narae.engine.random import SeedGenerator
from narae.engine.variable import Variable
from narae.metrics import Metric

_PLAIN = (str, bytes, int, float, bool, type(None), type, np.ndarray, types.FunctionType)
# Attributes that hold layers, variables or metrics which belong to the layer in other ways.
_UNTRACKED = frozenset(
    [
        "_inbound_nodes", "_init_arguments", "_losses", "_build_shapes", "_weights_added",
        "_functional", "_loss_tracker", "_compile_arguments", "_held", "loss",
    ]
)  # fmt: skip

_trainable_changes = 0  # grows when any layer's `trainable` is set; recordings look at it


def trainable_changes() -> int:
    """Returns a number that grows each time a layer's `trainable` is set."""
    return _trainable_changes


class Holder:
    """The part of a `Layer` that keeps what it holds, and weights above all."""

    def add_weight(
        self,
        shape: tuple | None = None,
        initializer=None,
        dtype: str | None = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer=None,
        constraint=None,
        aggregation: str = "none",
        overwrite_with_gradient: bool = False,
        name: str | None = None,
    ) -> Variable:
        """Makes a variable that belongs to the layer.

        Args:
            shape: shape without None; `()` by default.
            initializer: initializer, its name or a value; by default glorot_uniform for
                floating-point variables and zeros otherwise.
            dtype: dtype; by default the layer's variable dtype.
            trainable: whether training changes the variable.
            regularizer: adds a penalty to the layer's `losses`.
            constraint: projection applied after each update.
            name: last part of the variable's path.

        Returns:
            The `Variable`.
        """
        self._check_super_called()
        if isinstance(shape, str):
            raise ValueError(
                f"{self._who()}.add_weight: expected a shape first; pass the name as "
                f"`name={shape!r}`. Received: shape={shape!r}"
            )
        shape = () if shape is None else shape
        dtype = dtype or self.variable_dtype
        if initializer is None:
            initializer = "glorot_uniform" if "float" in str(dtype) else "zeros"
        self._weights_added = self._own_variables()  # keeps creation order with assigned ones
        with self._scope():
            variable = Variable(
                initializers.get(initializer),
                shape=(shape,) if isinstance(shape, int) else tuple(shape),
                dtype=dtype,
                trainable=trainable,
                autocast=autocast,
                aggregation=aggregation,
                name=name,
            )
        variable.regularizer = regularizers.get(regularizer)
        variable.constraint = constraints.get(constraint)
        self._weights_added.append((variable, trainable))
        if not self._trainable:
            variable.trainable = False
        return variable

    add_variable = add_weight

    def __setattr__(self, name, value):
        fields = self.__dict__
        if fields.get("_held") is not None and not (
            isinstance(value, _PLAIN) and isinstance(fields.get(name), _PLAIN)
        ):
            fields["_held"] = None
        super().__setattr__(name, value)

    def __delattr__(self, name):
        self.__dict__["_held"] = None
        value = self.__dict__.get(name)
        if isinstance(value, Variable):
            self._weights_added = [p for p in self._weights_added if p[0] is not value]
        super().__delattr__(name)

    def _objects(self) -> list:
        """The objects held by attributes, in the order the attributes were first set."""
        held = self.__dict__.get("_held")
        if held is None:
            held = self.__dict__["_held"] = [
                value
                for key, value in self.__dict__.items()
                if isinstance(value, (*_HELD, list, tuple, dict))
                and key not in _UNTRACKED
                and not (isinstance(value, tuple) and all(isinstance(x, _PLAIN) for x in value))
            ]
        found = []
        for value in held:
            _collect(value, found)
        return found

    @property
    def _layers(self) -> list:
        return _unique(x for x in self._objects() if isinstance(x, Holder) and x is not self)

    @property
    def _metrics(self) -> list:
        return _unique(x for x in self._objects() if isinstance(x, Metric))

    @property
    def _seed_generators(self) -> list:
        return _unique(x for x in self._objects() if isinstance(x, SeedGenerator))

    def _own_variables(self) -> list:
        """Pairs (variable, trainable when it was made)."""
        pairs = list(self._weights_added)
        known = {id(variable) for variable, _ in pairs}
        for x in self._objects():
            if isinstance(x, Variable) and id(x) not in known:
                known.add(id(x))
                declared = self.__dict__.setdefault("_declared_trainable", {})
                pairs.append((x, declared.setdefault(id(x), x.trainable)))
        return pairs

    @property
    def _trainable_variables(self) -> list:
        return [variable for variable, trainable in self._own_variables() if trainable]

    @property
    def _non_trainable_variables(self) -> list:
        return [variable for variable, trainable in self._own_variables() if not trainable]

    def _flatten_layers(self, include_self: bool = True, recursive: bool = True) -> list:
        """The layer and its sub-layers, depth first, each once."""
        found, seen = [], set()

        def visit(layer, deeper):
            if id(layer) in seen:
                return
            seen.add(id(layer))
            found.append(layer)
            if deeper:
                for child in layer._layers:
                    visit(child, recursive)

        visit(self, True)
        return found if include_self else found[1:]

    @property
    def weights(self) -> list:
        """Own trainable, then own non-trainable variables, then those of the sub-layers."""
        own = self._own_variables()
        variables = [v for v, t in own if t] + [v for v, t in own if not t]
        for layer in self._layers:
            variables.extend(layer.weights)
        return _unique(variables)

    @property
    def variables(self) -> list:
        """`weights` and the states of the random generators."""
        own = self._own_variables()
        variables = [v for v, t in own if t] + [v for v, t in own if not t]
        variables.extend(generator.state for generator in self._seed_generators)
        for layer in self._layers:
            variables.extend(layer.variables)
        return _unique(variables)

    @property
    def trainable_weights(self) -> list:
        """The weights that training changes; none when `trainable` is False."""
        return [v for v in self.weights if v.trainable] if self.trainable else []

    @property
    def non_trainable_weights(self) -> list:
        """The weights that training leaves alone; all when `trainable` is False."""
        return [v for v in self.weights if not v.trainable] if self.trainable else self.weights

    @property
    def trainable_variables(self) -> list:
        """As `trainable_weights`."""
        return [v for v in self.variables if v.trainable] if self.trainable else []

    @property
    def non_trainable_variables(self) -> list:
        """`non_trainable_weights` and the states of the random generators."""
        return [v for v in self.variables if not v.trainable] if self.trainable else self.variables

    @property
    def metrics(self) -> list:
        """The metrics held by the layer and its sub-layers."""
        found = list(self._metrics)
        for layer in self._layers:
            found.extend(layer.metrics)
        return _unique(found)

    @property
    def metrics_variables(self) -> list:
        """The variables of the layer's metrics."""
        return [v for metric in self.metrics for v in metric.variables]

    @property
    def trainable(self) -> bool:
        """Whether the layer's variables are trained; setting it sets the sub-layers too."""
        return self._trainable

    @trainable.setter
    def trainable(self, value):
        global _trainable_changes
        _trainable_changes += 1
        self._trainable = bool(value)
        for variable in self._trainable_variables:
            variable.trainable = self._trainable
        for layer in self._layers:
            layer.trainable = value

    def get_weights(self) -> list:
        """Returns the values of `weights` as NumPy arrays (copies)."""
        return [v.numpy() for v in self.weights]

    def set_weights(self, weights: list) -> None:
        """Sets the values of `weights` from a list of arrays in the same order."""
        variables = self.weights
        if len(variables) != len(weights):
            raise ValueError(
                f"{self._who()}.set_weights: expected {len(variables)} arrays, one per weight. "
                f"Received: {len(weights)}"
            )
        for variable, value in zip(variables, weights):
            if tuple(variable.shape) != tuple(np.shape(value)):
                raise ValueError(
                    f"{self._who()}.set_weights: expected an array of shape {variable.shape} for "
                    f"'{variable.path}'. Received: shape={np.shape(value)}"
                )
        for variable, value in zip(variables, weights):
            variable.assign(value)

    def count_params(self) -> int:
        """Returns the number of scalars in the weights."""
        if not self.built:
            raise ValueError(
                f"{self._who()}.count_params: expected a built layer. Call it on data or "
                "call build(input_shape) first."
            )
        return sum(int(np.prod(v.shape)) for v in self.weights)

    def save_own_variables(self, store) -> None:
        """Writes the layer's own variables into a dict-like store under '0', '1', ..."""
        for i, variable in enumerate(self._trainable_variables + self._non_trainable_variables):
            store[str(i)] = variable

    def load_own_variables(self, store) -> None:
        """Reads the layer's own variables from a dict-like store."""
        variables = self._trainable_variables + self._non_trainable_variables
        if len(store.keys()) != len(variables):
            raise ValueError(
                f"{self._who()}: expected {len(variables)} variables "
                f"({', '.join(v.name for v in variables)}). Received: {len(store.keys())} in the "
                "file" + ("" if self.built else "; the layer is not built")
            )
        for i, variable in enumerate(variables):
            variable.assign(store[str(i)])


_HELD = (Holder, Variable, Metric, SeedGenerator)


def _collect(value, found: list) -> None:
    """Appends the objects that a container holds: layers, variables, metrics, generators."""
    if isinstance(value, _HELD):
        found.append(value)
    elif isinstance(value, (list, tuple)):
        if value and not isinstance(value[0], (str, int, float)):
            for item in value:
                _collect(item, found)
    elif isinstance(value, dict):
        for item in list(value.values()):
            _collect(item, found)


def _unique(objects) -> list:
    objects = list(objects)
    return objects if len(objects) < 2 else list({id(x): x for x in objects}.values())
