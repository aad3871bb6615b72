"""The start of a functional graph."""

from narae.engine import config
from narae.engine.operation import Node
from narae.engine.tensor import KerasTensor
from narae.layers.layer import Layer


class InputLayer(Layer):
    """The place where a batch enters a model.

    Args:
        shape: shape of one sample, with None for unknown sizes.
        batch_size: number of samples in a batch, or None.
        dtype: dtype of the input; by default `floatx()`.
        batch_shape: the whole shape, instead of `shape` and `batch_size`.
        input_tensor: a `KerasTensor` to use, instead of a new one.
        optional: whether None may be passed for this input.
        name: name of the layer and of its tensor.
    """

    def __init__(
        self,
        shape=None,
        batch_size: int | None = None,
        dtype: str | None = None,
        sparse: bool | None = None,
        ragged: bool | None = None,
        batch_shape=None,
        input_tensor: KerasTensor | None = None,
        optional: bool = False,
        name: str | None = None,
        **kwargs,
    ):
        shape = kwargs.pop("input_shape", shape)
        batch_shape = kwargs.pop("batch_input_shape", batch_shape)
        super().__init__(name=name, **kwargs)
        if sparse or ragged:
            raise ValueError(
                f"{self._who()}: expected a dense input; sparse and ragged tensors are not "
                f"supported. Received: sparse={sparse}, ragged={ragged}"
            )
        if input_tensor is not None:
            batch_shape, dtype = input_tensor.shape, input_tensor.dtype
        elif (shape is None) == (batch_shape is None):
            raise ValueError(
                f"{self._who()}: expected either shape or batch_shape. "
                f"Received: shape={shape}, batch_shape={batch_shape}"
            )
        elif batch_shape is not None and batch_size is not None:
            raise ValueError(
                f"{self._who()}: expected either batch_size or batch_shape. "
                f"Received: batch_size={batch_size}, batch_shape={batch_shape}"
            )
        elif shape is not None:
            batch_shape = (batch_size, *_shape(shape, self._who()))
        self.batch_shape = _shape(batch_shape, self._who())
        self._input_dtype = str(dtype or config.floatx())
        self.optional = optional
        if input_tensor is None:
            input_tensor = KerasTensor(self.batch_shape, self._input_dtype, name=name)
        self._path = self.name
        self.built = True
        Node(self, (), {}, input_tensor)

    def call(self):
        return None

    @property
    def dtype(self) -> str:
        """The dtype of the input."""
        return self._input_dtype

    def get_config(self) -> dict:
        return {
            "batch_shape": self.batch_shape,
            "dtype": self.dtype,
            "sparse": False,
            "ragged": False,
            "name": self.name,
            "optional": self.optional,
        }

    @classmethod
    def from_config(cls, config: dict) -> "InputLayer":
        config = dict(config)
        if isinstance(config.get("dtype"), dict):
            config["dtype"] = config["dtype"]["config"]["name"]
        return super().from_config(config)


def _shape(shape, who: str) -> tuple:
    shape = tuple(shape) if hasattr(shape, "__iter__") else (shape,)
    for size in shape:
        if size is not None and (not hasattr(size, "__index__") or size < 0):
            raise ValueError(f"{who}: expected a shape of sizes and Nones. Received: shape={shape}")
    return tuple(None if size is None else int(size) for size in shape)


def Input(
    shape=None,
    batch_size: int | None = None,
    dtype: str | None = None,
    sparse: bool | None = None,
    ragged: bool | None = None,
    batch_shape=None,
    name: str | None = None,
    tensor: KerasTensor | None = None,
    optional: bool = False,
) -> KerasTensor:
    """Returns the symbolic tensor that stands for an input of a functional model.

    Args:
        shape: shape of one sample, with None for unknown sizes.
        batch_size: number of samples in a batch, or None.
        dtype: dtype of the input; by default `floatx()`.
        batch_shape: the whole shape, instead of `shape` and `batch_size`.
        name: name of the input, by which dicts of inputs are matched.
        tensor: a `KerasTensor` to make an input of.
        optional: whether None may be passed for this input.

    >>> x = Input((3,))
    >>> x.shape
    (None, 3)
    """
    layer = InputLayer(
        shape=shape,
        batch_size=batch_size,
        dtype=dtype,
        sparse=sparse,
        ragged=ragged,
        batch_shape=batch_shape,
        input_tensor=tensor,
        optional=optional,
        name=name,
    )
    return layer.output
