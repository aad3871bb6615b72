"""Tensor: a thin object around an array, with a place for a gradient node. KerasTensor: its symbol.

The array of a Tensor is always C-contiguous, aligned, in native byte order and of a dtype that
narae has kernels for. `convert_to_tensor` is the one gate through which foreign data comes in.
"""

import operator
import threading

import numpy as np

from narae import _core
from narae.engine import config, dtypes


class _Operators:
    """Python's operators, given by the functions of `narae.ops` (see `install_operators`)."""

    __slots__ = ()
    __array_priority__ = 1000  # NumPy leaves `array + tensor` to us
    __hash__ = object.__hash__


_NAMES = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "mod": "mod",
    "floordiv": "floor_divide", "pow": "power", "matmul": "matmul", "eq": "equal",
    "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
    "and": "logical_and", "or": "logical_or", "xor": "logical_xor",
}  # fmt: skip
_UNARY = {"neg": "negative", "abs": "abs", "invert": "logical_not"}
_REFLECTED = (
    "add",
    "sub",
    "mul",
    "truediv",
    "mod",
    "floordiv",
    "pow",
    "matmul",
    "and",
    "or",
    "xor",
)
_functions: dict = {}  # the ops that the engine itself needs: add, cast, ones_like ...


def install_operators(functions: dict) -> None:
    """Called once by `narae.ops`, so that arrows keep pointing down: name -> function."""
    _functions.update(functions)

    def binary(function):
        return lambda self, other: function(self, other)

    def reflected(function):
        return lambda self, other: function(other, self)

    def unary(function):
        return lambda self: function(self)

    for symbol, name in _NAMES.items():
        setattr(_Operators, f"__{symbol}__", binary(functions[name]))
    for symbol in _REFLECTED:
        setattr(_Operators, f"__r{symbol}__", reflected(functions[_NAMES[symbol]]))
    for symbol, name in _UNARY.items():
        setattr(_Operators, f"__{symbol}__", unary(functions[name]))
    _Operators.__getitem__ = lambda self, index: functions["get_item"](self, index)


def function(name: str):
    """Returns an op by name, for the few places where the engine computes (sums of gradients)."""
    return _functions[name]


class Tensor(_Operators):
    """An array of numbers that gradients can flow through.

    Made by `narae.ops.convert_to_tensor(x)` and by every op. It is immutable: ops return new
    tensors. `x.numpy()` gives the array; `float(x)`, `int(x)` and `bool(x)` the only value of a
    tensor of size one.

    Attributes:
        shape: tuple of ints.
        dtype: name of the dtype, such as `"float32"`.
        mask: the Keras mask that layers pass on with the values, or None.

    >>> x = narae.ops.convert_to_tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> (x @ x).numpy()
    array([[ 7., 10.],
           [15., 22.]], dtype=float32)
    """

    __slots__ = ("array", "mask", "node", "__weakref__")

    def __init__(self, array: np.ndarray):
        self.array = array
        self.mask = None
        self.node = None  # how it was computed; see tape.py

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self.array.shape

    @property
    def dtype(self) -> str:
        """Name of the dtype, such as "float32"."""
        return dtypes.name_of(self.array.dtype)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.array.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.array.size

    @property
    def T(self):
        """The tensor with its axes in reverse order."""
        return _functions["transpose"](self)

    def read(self, how: str) -> np.ndarray:
        """Returns the array for Python to look at.

        A step that looks at a value cannot be replayed: a recording under way is abandoned, and
        the step runs eagerly.
        """
        if _core.is_recording():
            _core.abandon_recording(f"{how} reads the value of a tensor inside the step")
        return self.array

    def numpy(self) -> np.ndarray:
        """Returns the values as a NumPy array that shares the tensor's memory."""
        return self.read("numpy()")

    def __array__(self, dtype=None, copy=None):
        array = self.read("numpy.asarray()")
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **kwargs):
        return self.read("DLPack").__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __float__(self):
        return float(self.read("float()").item())

    def __int__(self):
        return int(self.read("int()").item())

    def __index__(self):
        return operator.index(self.read("an index").item())

    def __bool__(self):
        return bool(self.read("bool()"))

    def item(self):
        """Returns the only value as a Python number."""
        return self.read("item()").item()

    def tolist(self) -> list:
        """Returns the values as nested Python lists."""
        return self.read("tolist()").tolist()

    def astype(self, dtype):
        """Returns the tensor in another dtype, as `ops.cast`."""
        return _functions["cast"](self, dtype)

    def reshape(self, *shape):
        """Returns the tensor in another shape, as `ops.reshape`."""
        shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return _functions["reshape"](self, shape)

    def __len__(self):
        if not self.shape:
            raise TypeError("narae.Tensor: len() of a tensor without dimensions")
        return self.shape[0]

    def __iter__(self):
        if not self.shape:
            raise TypeError("narae.Tensor: iteration over a tensor without dimensions")
        return (self[i] for i in range(len(self)))

    def __format__(self, spec):
        return format(self.item(), spec) if spec else repr(self)

    def __repr__(self):
        values = np.array2string(self.array, separator=", ", prefix="narae.Tensor(")
        return f"narae.Tensor({values}, shape={self.shape}, dtype={self.dtype})"

    def __copy__(self):
        return Tensor(self.array)

    def __deepcopy__(self, memo):
        return Tensor(self.array.copy())

    def __reduce__(self):
        return convert_to_tensor, (self.read("pickle"),)


class KerasTensor(_Operators):
    """The symbol of a tensor in a functional model: a shape (None where unknown) and a dtype.

    Attributes:
        history: `(operation, node_index, tensor_index)` of the call that made it, or None.
    """

    def __init__(self, shape, dtype: str = "float32", name: str | None = None, history=None, **_):
        self.shape = tuple(shape)
        self.dtype = dtypes.standardize_dtype(dtype)
        self.name = name
        self.history = history
        self.mask = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def T(self):
        """The tensor with its axes in reverse order."""
        return _functions["transpose"](self)

    def reshape(self, *shape):
        """Returns the tensor in another shape, as `ops.reshape`."""
        shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return _functions["reshape"](self, shape)

    def astype(self, dtype):
        """Returns the tensor in another dtype, as `ops.cast`."""
        return _functions["cast"](self, dtype)

    def _no_value(self, *_, **__):
        """Raises: a symbolic tensor has no value."""
        raise TypeError(
            "narae.KerasTensor: expected a tensor with values. Received: a symbolic tensor, which "
            "stands for the input or output of a layer in a functional model and has none; "
            "use narae.ops or a layer on it."
        )

    __array__ = __float__ = __int__ = __bool__ = __len__ = __iter__ = numpy = _no_value

    def __repr__(self):
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype}, name={self.name}>"


def is_tensor(x) -> bool:
    """Returns whether `x` is a narae Tensor (or Variable)."""
    return isinstance(x, Tensor)


def is_keras_tensor(x) -> bool:
    """Returns whether `x` is symbolic."""
    return isinstance(x, KerasTensor)


class _Autocast(threading.local):
    """The dtype in which floating-point variables are read; None: in their own.

    A layer sets it around its call, when its policy computes in another dtype than its weights'.
    """

    dtype = None


autocast = _Autocast()


def autocast_dtype(x: Tensor) -> str | None:
    """Returns the dtype that `x` is to be read in inside the layer under way, if not in its own."""
    wanted = autocast.dtype
    if wanted is None or not getattr(x, "autocast", False):  # which only a Variable may have
        return None
    return wanted if dtypes.is_float(x.dtype) else None


def convert_to_tensor(x, dtype=None) -> Tensor:
    """Returns `x` as a Tensor; memory is shared when dtype and layout fit.

    Args:
        x: a Tensor, a NumPy array or anything that becomes one, or has DLPack.
        dtype: the dtype wanted. By default Python floats become floatx and Python ints int32,
            while arrays keep theirs.

    Raises:
        TypeError: strings, objects, complex numbers, ragged lists.

    >>> narae.ops.convert_to_tensor([1, 2, 3]).dtype
    'int32'
    """
    if isinstance(x, Tensor):
        if dtype is None:
            dtype = autocast.dtype and autocast_dtype(x)
        if dtype is None or x.dtype == dtype:
            return x
        return _functions["cast"](x, dtype)
    if isinstance(x, KerasTensor):
        x._no_value()
    return Tensor(to_array(x, dtype))


def to_array(x, dtype=None, who: str = "narae.ops.convert_to_tensor") -> np.ndarray:
    """Returns `x` as an array fit for a Tensor (see the top of this file)."""
    wanted = None if dtype is None else dtypes.standardize_dtype(dtype)
    weak = not hasattr(x, "dtype")
    if hasattr(x, "__dlpack__") and not hasattr(x, "__array__"):
        x = np.from_dlpack(x)
    elif isinstance(x, (list, tuple)):
        weak = _is_weak(x)
        x = _without_tensors(x)
    try:
        array = np.asarray(x)
    except (ValueError, TypeError) as error:
        raise TypeError(f"{who}: expected numbers in a regular grid ({error})") from None
    storage = dtypes.storage_dtype(array.dtype)
    if storage is None:
        raise TypeError(
            f"{who}: expected bool, integer or real numbers. Received: {array.dtype} "
            f"values in a {type(x).__name__}"
        )
    if wanted is None:
        wanted = _default_dtype(array) if weak else storage
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise OverflowError(f"{who}: expected integers below 2**63. Received: {array.max()}")
    array = np.asarray(array, dtype=wanted, order="C")
    if not (array.flags.aligned and array.flags.c_contiguous):
        array = np.array(array, order="C")
    return array


def _is_weak(values) -> bool:
    """Returns whether nested lists hold Python numbers only, whose dtype is ours to choose."""
    if isinstance(values, (list, tuple)):
        return all(map(_is_weak, values))
    return isinstance(values, (bool, int, float)) and not isinstance(values, np.generic)


def _without_tensors(values):
    if isinstance(values, (list, tuple)):
        return [_without_tensors(v) for v in values]
    return values.read("a list of tensors") if isinstance(values, Tensor) else values


def _default_dtype(array: np.ndarray) -> str:
    if array.dtype.kind == "f":
        return config.floatx()
    if array.dtype.kind == "i":
        limits = np.iinfo(np.int32)
        fits = not array.size or (limits.min <= array.min() and array.max() <= limits.max)
        return "int32" if fits else "int64"
    return dtypes.storage_dtype(array.dtype)
