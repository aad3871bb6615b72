"""Regularizers: penalties on weights or activations that are added to the loss."""

import math
from typing import Any

from narae import ops
from narae.engine import lookup, naming
from narae.engine.tensor import Tensor


def _penalty(owner: str, name: str, value: Any) -> float:
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ValueError(
            f"narae.regularizers.{owner}: expected {name} to be a non-negative float. "
            f"Received: {name}={value!r}"
        )
    return float(value)


class Regularizer:
    """The base class of regularizers: called with a weight, it gives a scalar penalty.

    >>> class Cubes(narae.regularizers.Regularizer):
    ...     def __call__(self, x):
    ...         return 0.1 * narae.ops.sum(narae.ops.abs(x) ** 3)
    """

    def __call__(self, x: Any) -> Any:
        """Gives the penalty of `x`, of any shape."""
        return 0.0

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, as plain values."""
        raise NotImplementedError(f"{type(self).__name__} must implement get_config().")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Regularizer":
        """Makes the object that `get_config` described."""
        return cls(**config)


class L1L2(Regularizer):
    """The penalty `l1 * sum(|x|) + l2 * sum(x^2)`.

    Args:
        l1: factor of the absolute values.
        l2: factor of the squares.
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1 = _penalty("L1L2", "l1", 0.0 if l1 is None else l1)
        self.l2 = _penalty("L1L2", "l2", 0.0 if l2 is None else l2)

    def __call__(self, x: Any) -> Tensor:
        penalty = ops.zeros((), dtype=x.dtype)
        if self.l1:
            penalty = penalty + self.l1 * ops.sum(ops.abs(x))
        if self.l2:
            penalty = penalty + self.l2 * ops.sum(ops.square(x))
        return penalty

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1, "l2": self.l2}


class L1(Regularizer):
    """The penalty `l1 * sum(|x|)`, which drives weights to exactly zero.

    Args:
        l1: factor of the absolute values.
    """

    def __init__(self, l1: float = 0.01) -> None:
        self.l1 = _penalty("L1", "l1", 0.01 if l1 is None else l1)

    def __call__(self, x: Any) -> Tensor:
        return self.l1 * ops.sum(ops.abs(x))

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1}


class L2(Regularizer):
    """The penalty `l2 * sum(x^2)` (without a factor 1/2), which keeps weights small.

    Args:
        l2: factor of the squares.

    >>> round(float(narae.regularizers.L2(0.1)(narae.ops.ones((2, 3)))), 3)
    0.6
    """

    def __init__(self, l2: float = 0.01) -> None:
        self.l2 = _penalty("L2", "l2", 0.01 if l2 is None else l2)

    def __call__(self, x: Any) -> Tensor:
        return self.l2 * ops.sum(ops.square(x))

    def get_config(self) -> dict[str, Any]:
        return {"l2": self.l2}


class OrthogonalRegularizer(Regularizer):
    """The mean absolute cosine between pairs of rows (or columns) of a matrix, times `factor`.

    Args:
        factor: factor of the penalty.
        mode: `"rows"` or `"columns"`.
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows") -> None:
        self.factor = _penalty("OrthogonalRegularizer", "factor", factor)
        if mode not in ("rows", "columns"):
            raise ValueError(
                "narae.regularizers.OrthogonalRegularizer: expected mode to be 'rows' or "
                f"'columns'. Received: mode={mode!r}"
            )
        self.mode = mode

    def __call__(self, x: Any) -> Tensor:
        if len(x.shape) != 2:
            raise ValueError(
                "narae.regularizers.OrthogonalRegularizer: expected a matrix. "
                f"Received: x.shape={tuple(x.shape)}"
            )
        if self.mode == "columns":
            x = ops.transpose(x)
        x = ops.normalize(x, axis=1)
        n = x.shape[0]
        cosines = ops.abs(ops.matmul(x, ops.transpose(x))) * (1.0 - ops.eye(n, dtype=x.dtype))
        return ops.sum(cosines) * (self.factor / max(n * (n - 1.0), 1.0))

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, "mode": self.mode}


def l1(l1: float = 0.01) -> L1:
    """Makes an `L1`."""
    return L1(l1)


def l2(l2: float = 0.01) -> L2:
    """Makes an `L2`."""
    return L2(l2)


def l1_l2(l1: float = 0.0, l2: float = 0.0) -> L1L2:
    """Makes an `L1L2`."""
    return L1L2(l1, l2)


orthogonal_regularizer = OrthogonalRegularizer

_CLASSES = (Regularizer, L1, L2, L1L2, OrthogonalRegularizer)
_OBJECTS: dict[str, Any] = {naming.to_snake_case(cls.__name__): cls for cls in _CLASSES}
_OBJECTS |= {cls.__name__: cls for cls in _CLASSES} | {"l1_l2": L1L2}


def get(identifier: Any) -> Any:
    """Finds a regularizer by name (`"l2"`), config, class or function.

    >>> narae.regularizers.get("l2").l2
    0.01
    """
    return lookup.find("regularizers", identifier, _OBJECTS)


def serialize(regularizer: Any) -> Any:
    """Gives the config of a regularizer."""
    return lookup.to_config(regularizer)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """Makes a regularizer from what `serialize` gave, or from a name."""
    return lookup.find("regularizers", config, _OBJECTS, custom_objects=custom_objects)
