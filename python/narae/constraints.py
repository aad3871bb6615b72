"""Constraints: what a weight is projected to after every update."""

from typing import Any

from narae import ops
from narae.engine import config, lookup, naming
from narae.engine.tensor import Tensor


def _norm(w: Tensor, axis: Any) -> Tensor:
    return ops.sqrt(ops.sum(ops.square(w), axis=axis, keepdims=True))


class Constraint:
    """The base class of constraints: called with a weight, it gives the weight to keep.

    Constraints are made of ops, so that a training step with them can be recorded.

    >>> class UpToOne(narae.constraints.Constraint):
    ...     def __call__(self, w):
    ...         return narae.ops.minimum(w, 1.0)
    """

    def __call__(self, w: Any) -> Any:
        """Gives the projected weight, of w's shape."""
        return w

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, as plain values."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Constraint":
        """Makes the object that `get_config` described."""
        return cls(**config)


class MaxNorm(Constraint):
    """Shrinks vectors longer than `max_value`: `w * min(|w|, max_value) / (|w| + epsilon)`.

    Args:
        max_value: the largest norm allowed.
        axis: the axes of a vector; 0 for the inputs of a Dense kernel, (0, 1, 2) for Conv2D.
    """

    def __init__(self, max_value: float = 2, axis: Any = 0) -> None:
        self.max_value = max_value
        self.axis = axis

    def __call__(self, w: Any) -> Tensor:
        w = ops.convert_to_tensor(w)
        norm = _norm(w, self.axis)
        return w * (ops.clip(norm, 0.0, float(self.max_value)) / (norm + config.epsilon()))

    def get_config(self) -> dict[str, Any]:
        return {"max_value": self.max_value, "axis": self.axis}


class NonNeg(Constraint):
    """Sets negative weights to zero: `max(w, 0)`."""

    def __call__(self, w: Any) -> Tensor:
        return ops.maximum(ops.convert_to_tensor(w), 0.0)


class UnitNorm(Constraint):
    """Scales vectors to length one: `w / (|w| + epsilon)`.

    Args:
        axis: the axes of a vector; 0 for the inputs of a Dense kernel, (0, 1, 2) for Conv2D.
    """

    def __init__(self, axis: Any = 0) -> None:
        self.axis = axis

    def __call__(self, w: Any) -> Tensor:
        w = ops.convert_to_tensor(w)
        return w / (_norm(w, self.axis) + config.epsilon())

    def get_config(self) -> dict[str, Any]:
        return {"axis": self.axis}


class MinMaxNorm(Constraint):
    """Moves the length of vectors into `[min_value, max_value]`, by the part `rate` of the way.

    Args:
        min_value: the smallest norm wanted.
        max_value: the largest norm wanted.
        rate: 1 for the whole way, less for a softer constraint.
        axis: the axes of a vector; 0 for the inputs of a Dense kernel, (0, 1, 2) for Conv2D.
    """

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Any = 0
    ) -> None:
        self.min_value = min_value
        self.max_value = max_value
        self.rate = rate
        self.axis = axis

    def __call__(self, w: Any) -> Tensor:
        w = ops.convert_to_tensor(w)
        norm = _norm(w, self.axis)
        wanted = ops.clip(norm, float(self.min_value), float(self.max_value))
        wanted = self.rate * wanted + (1.0 - self.rate) * norm
        return w * (wanted / (norm + config.epsilon()))

    def get_config(self) -> dict[str, Any]:
        return {
            "min_value": self.min_value,
            "max_value": self.max_value,
            "rate": self.rate,
            "axis": self.axis,
        }


max_norm, min_max_norm, non_neg, unit_norm = MaxNorm, MinMaxNorm, NonNeg, UnitNorm

_CLASSES = (Constraint, MaxNorm, MinMaxNorm, NonNeg, UnitNorm)
_OBJECTS: dict[str, Any] = {naming.to_snake_case(cls.__name__): cls for cls in _CLASSES}
_OBJECTS |= {cls.__name__: cls for cls in _CLASSES}


def get(identifier: Any) -> Any:
    """Finds a constraint by name (`"non_neg"`), config, class or function.

    >>> narae.constraints.get("max_norm").max_value
    2
    """
    return lookup.find("constraints", identifier, _OBJECTS)


def serialize(constraint: Any) -> Any:
    """Gives the config of a constraint."""
    return lookup.to_config(constraint)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """Makes a constraint from what `serialize` gave, or from a name."""
    return lookup.find("constraints", config, _OBJECTS, custom_objects=custom_objects)
