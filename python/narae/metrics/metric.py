"""The base of every metric: named state that `update_state` adds to and `result` reads."""

from typing import Any

import numpy as np

from narae import initializers
from narae.engine import config, naming
from narae.engine.tensor import Tensor
from narae.engine.variable import Variable


class Metric:
    """The base class of metrics.

    `update_state` is made of ops on tensors and variables only, so that a training step with it
    can be recorded and replayed; `result` gives the value so far.

    Args:
        dtype: dtype of the state and the computation; `narae.config.floatx()` by default.
        name: the metric's name; made from the class name by default.

    Example:

    >>> class Largest(narae.metrics.Metric):
    ...     def __init__(self, name="largest", **kwargs):
    ...         super().__init__(name=name, **kwargs)
    ...         self.value = self.add_weight(initializer="zeros", name="value")
    ...     def update_state(self, y_true, y_pred, sample_weight=None):
    ...         self.value.assign(narae.ops.maximum(self.value, narae.ops.max(y_pred)))
    ...     def result(self):
    ...         return self.value
    """

    # Whether larger is better ("up") or worse ("down"); callbacks in mode "auto" ask for it.
    _direction: str | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> "Metric":
        metric = super().__new__(cls)
        object.__setattr__(metric, "_variables", [])
        object.__setattr__(metric, "_metrics", [])
        return metric

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        self.name = name or naming.auto_name(type(self).__name__)
        self._dtype = getattr(dtype, "compute_dtype", dtype) or config.floatx()

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Metric) and all(value is not m for m in self._metrics):
            self._metrics.append(value)
        elif isinstance(value, Variable) and all(value is not v for v in self._variables):
            self._variables.append(value)
        super().__setattr__(name, value)

    @property
    def dtype(self) -> str:
        """The dtype of the state and of the result."""
        return self._dtype

    @property
    def variables(self) -> list[Variable]:
        """The state: own variables in the order of their making, then those of inner metrics."""
        return self._variables + [v for metric in self._metrics for v in metric.variables]

    def add_variable(
        self,
        shape: tuple[int, ...] = (),
        initializer: Any = None,
        dtype: Any = None,
        aggregation: str = "sum",
        name: str | None = None,
    ) -> Variable:
        """Adds a named state variable; zeros by default."""
        with naming.name_scope(self.name.replace("/", ">")):
            variable = Variable(
                initializers.get(initializer or "zeros"),
                shape=tuple(shape),
                dtype=dtype or self.dtype,
                trainable=False,
                aggregation=aggregation,
                name=name,
            )
        self._variables.append(variable)
        return variable

    def add_weight(
        self,
        shape: tuple[int, ...] = (),
        initializer: Any = None,
        dtype: Any = None,
        name: str | None = None,
    ) -> Variable:
        """Adds a named state variable; zeros by default."""
        return self.add_variable(shape=shape, initializer=initializer, dtype=dtype, name=name)

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Adds a batch to the state; subclasses write it."""
        raise NotImplementedError(f"{type(self).__name__} must implement update_state(...).")

    def result(self) -> Tensor:
        """Gives the metric's value so far; subclasses write it."""
        raise NotImplementedError(f"{type(self).__name__} must implement result().")

    def reset_state(self) -> None:
        """Sets the state back to zeros."""
        for variable in self.variables:
            variable.assign(Tensor(np.zeros_like(variable.array)))

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Adds a batch and gives the value so far."""
        self.update_state(*args, **kwargs)
        return self.result()

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, as plain values."""
        return {"name": self.name, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Metric":
        """Makes the object that `get_config` described."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"
