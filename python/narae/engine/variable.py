"""Variable: a named Tensor that keeps its memory and changes its values."""

import numpy as np

from narae import _core
from narae.engine import dtypes, naming, recording
from narae.engine.tensor import Tensor, convert_to_tensor, to_array


class Variable(Tensor):
    """A tensor with a name whose values can be assigned: a weight, a counter, a moving average.

    Args:
        initializer: the value, or a function `initializer(shape, dtype)` that gives it.
        shape: needed with a function.
        dtype: floatx by default, or that of the value.
        trainable: whether tapes follow it and optimizers update it.
        name: last part of `path`; made unique when None.

    >>> v = narae.Variable([1.0, 2.0], name="scale")
    >>> v.assign_add([1.0, 1.0]).numpy()
    array([2., 3.], dtype=float32)
    """

    __slots__ = (
        "name", "path", "_trainable", "regularizer", "constraint", "autocast", "aggregation",
        "overwrite_with_gradient",
    )  # fmt: skip

    def __init__(
        self,
        initializer,
        shape=None,
        dtype=None,
        trainable: bool = True,
        autocast: bool = True,
        aggregation: str = "none",
        name: str | None = None,
    ):
        self.name = name or naming.auto_name("variable")
        if not isinstance(self.name, str) or "/" in self.name:
            raise ValueError(
                "narae.Variable: expected a name that is a string without '/'. "
                f"Received: name={name!r}"
            )
        scope = naming.current_path()
        self.path = f"{scope}/{self.name}" if scope else self.name
        with recording.paused():  # a variable is made once, not at every step
            super().__init__(_own(_initial_value(initializer, shape, dtype)))
        self._trainable = bool(trainable)
        self.regularizer = None
        self.constraint = None
        self.autocast = autocast
        self.aggregation = aggregation
        self.overwrite_with_gradient = False

    @property
    def value(self) -> Tensor:
        """The variable itself, which is a Tensor."""
        return self

    @property
    def trainable(self) -> bool:
        """Whether optimizers change the variable and tapes watch it."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if bool(value) != self._trainable:
            recording.invalidate()
        self._trainable = bool(value)

    def numpy(self) -> np.ndarray:
        """Returns a copy of the values."""
        return self.read("numpy()").copy()

    def assign(self, value) -> "Variable":
        """Sets the values, in place.

        Raises:
            ValueError: the shape differs.
        """
        if not isinstance(value, Tensor):
            value = Tensor(to_array(value, self.dtype, who=f"narae.Variable '{self.path}'.assign"))
        value = convert_to_tensor(value, self.dtype)
        if value.shape != self.shape:
            raise ValueError(
                f"narae.Variable '{self.path}'.assign: expected shape {self.shape}. "
                f"Received: shape {value.shape}"
            )
        _core.assign(self.array, value.array)
        return self

    def assign_add(self, value) -> "Variable":
        """Adds to the values, in place."""
        return self.assign(Tensor(self.array) + convert_to_tensor(value, self.dtype))

    def assign_sub(self, value) -> "Variable":
        """Subtracts from the values, in place."""
        return self.assign(Tensor(self.array) - convert_to_tensor(value, self.dtype))

    def move_to(self, array: np.ndarray) -> None:
        """Continues in other memory (a slice of a flat buffer), with the same values."""
        np.copyto(array, self.array)
        self.array = array
        recording.invalidate()

    def __repr__(self):
        about = f"path={self.path}, shape={self.shape}, dtype={self.dtype}"
        return f"<Variable {about}, value={self.array}>"

    def __deepcopy__(self, memo):
        copy = Variable(self.array, trainable=self._trainable, name=self.name)
        copy.path, copy.regularizer, copy.constraint = self.path, self.regularizer, self.constraint
        return copy

    def __reduce__(self):
        return _restore, (self.numpy(), self._trainable, self.name, self.path)


def _restore(value, trainable, name, path):
    variable = Variable(value, dtype=value.dtype, trainable=trainable, name=name)
    variable.path = path
    return variable


def _initial_value(initializer, shape, dtype):
    if not callable(initializer) or isinstance(initializer, Tensor):
        if isinstance(initializer, Tensor):
            initializer = initializer.array
        return to_array(initializer, dtype, who="narae.Variable")
    if shape is None:
        raise ValueError(
            "narae.Variable: expected a shape beside an initializer that is a function. "
            f"Received: initializer={initializer}, shape=None"
        )
    dtype = dtypes.standardize_dtype(dtype)
    value = to_array(initializer(tuple(shape), dtype=dtype), dtype, who="narae.Variable")
    if value.shape != tuple(shape):
        raise ValueError(
            f"narae.Variable: expected the initializer to give shape {tuple(shape)}. "
            f"Received: shape {value.shape} from {initializer}"
        )
    return value


def _own(value: np.ndarray) -> np.ndarray:
    """Returns a copy in narae's memory: a variable never shares its values with its initializer."""
    array = _core.empty(value.shape, value.dtype)
    np.copyto(array, value)
    return array
