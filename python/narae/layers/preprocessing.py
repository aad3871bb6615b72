"""Layers that prepare data: normalize, rescale, encode."""

import math
from collections.abc import Sequence

import numpy as np

from narae import ops
from narae.engine import config as engine_config
from narae.engine.tensor import Tensor
from narae.layers.arguments import config_of, one_of, positive, who
from narae.layers.layer import Layer


class Normalization(Layer):
    """Shifts and scales to mean 0 and variance 1: `(x - mean) / max(sqrt(variance), epsilon)`.

    Args:
        axis: the axis or axes that keep statistics of their own; None for one mean and variance.
        mean, variance: given statistics; otherwise `adapt(data)` finds them.
        invert: whether to turn normalized values back.

    >>> layer = narae.layers.Normalization()
    >>> layer.adapt(np.array([[0.0], [2.0]], "float32"))
    >>> layer(np.array([[3.0]], "float32")).numpy()
    array([[2.]], dtype=float32)
    """

    def __init__(
        self,
        axis: int | Sequence[int] | None = -1,
        mean=None,
        variance=None,
        invert: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if axis is None:
            axis = ()
        self.axis = (axis,) if isinstance(axis, int) else tuple(axis)
        if (mean is None) != (variance is None) or np.shape(mean) != np.shape(variance):
            raise ValueError(
                f"{who(self)}: expected mean and variance to be given together, with one shape. "
                f"Received: mean={mean}, variance={variance}"
            )
        if len(np.shape(mean)) > len(self.axis):
            raise ValueError(
                f"{who(self)}: expected mean to have at most as many axes as axis names. "
                f"Received: mean of shape {np.shape(mean)}, axis={self.axis}"
            )
        self.input_mean = mean
        self.input_variance = variance
        self.invert = invert
        self.supports_masking = True

    def build(self, input_shape):
        rank = len(input_shape)
        if any(not -rank <= axis < rank for axis in self.axis):
            raise ValueError(
                f"{who(self)}: expected axis to be within the input's {rank} axes. "
                f"Received: axis={self.axis}, inputs.shape={tuple(input_shape)}"
            )
        self._keep = sorted(axis % rank for axis in self.axis)
        shape = tuple(input_shape[axis] for axis in self._keep)
        if None in shape:
            raise ValueError(
                f"{who(self)}: expected the axes that are kept to have known sizes. "
                f"Received: axis={self.axis}, inputs.shape={tuple(input_shape)}"
            )
        self._broadcast = tuple(n if i in self._keep else 1 for i, n in enumerate(input_shape))
        if self.input_mean is None:
            self.adapt_mean = self.add_weight(
                name="mean", shape=shape, initializer="zeros", trainable=False
            )
            self.adapt_variance = self.add_weight(
                name="variance", shape=shape, initializer="ones", trainable=False
            )
            # Not used: it keeps files in step with Keras's.
            self.count = self.add_weight(
                name="count", shape=(), dtype="int32", initializer="zeros", trainable=False
            )

    def _statistics(self, dtype) -> tuple:
        """(mean, variance), shaped to broadcast over the input."""
        if self.input_mean is None:
            mean, variance = self.adapt_mean, self.adapt_variance
            return tuple(ops.reshape(v, self._broadcast) for v in (mean, variance))
        kept = [self._broadcast[axis] for axis in self._keep]
        values = (self.input_mean, self.input_variance)
        full = [np.broadcast_to(np.asarray(v, dtype), kept) for v in values]
        return tuple(ops.convert_to_tensor(v.reshape(self._broadcast)) for v in full)

    def call(self, inputs):
        x = ops.cast(inputs, self.compute_dtype)
        mean, variance = self._statistics(self.compute_dtype)
        scale = ops.maximum(ops.sqrt(variance), engine_config.epsilon())
        return mean + x * scale if self.invert else (x - mean) / scale

    def adapt(self, data) -> None:
        """Sets mean and variance to those of the data.

        Args:
            data: an array or tensor, or an iterable of batches (a `PyDataset` too; of a batch
                (x, y) the x counts).
        """
        if self.input_mean is not None:
            raise ValueError(
                f"{who(self)}.adapt: expected a layer made without mean and variance. "
                f"Received: mean={self.input_mean}"
            )
        if isinstance(data, (np.ndarray, Tensor)):
            batches = [data]
        elif hasattr(data, "iloc") or hasattr(data, "to_numpy"):  # a pandas frame
            batches = [data.to_numpy()]
        elif hasattr(data, "__len__") and hasattr(data, "__getitem__"):
            batches = (data[i] for i in range(len(data)))
        elif hasattr(data, "__iter__"):
            batches = iter(data)
        else:
            raise TypeError(
                f"{who(self)}.adapt: expected an array or an iterable of batches. "
                f"Received: {type(data).__name__}"
            )
        count, mean, squares = 0, 0.0, 0.0
        for batch in batches:
            batch = np.asarray(batch[0] if isinstance(batch, tuple) else batch, dtype="float64")
            if not self.built:
                self.build(batch.shape)
            self._check_batch(batch.shape)
            others = tuple(i for i in range(batch.ndim) if i not in self._keep)
            n = math.prod(batch.shape[i] for i in others)
            if n == 0:
                continue
            # Chan's update: means and sums of squared deviations of two sets make the union's.
            batch_mean = batch.mean(axis=others)
            deviations = ((batch - batch_mean.reshape(self._as_row(batch))) ** 2).sum(axis=others)
            shift = batch_mean - mean
            squares = squares + deviations + shift**2 * (count * n / (count + n))
            mean = mean + shift * (n / (count + n))
            count += n
        if count == 0:
            raise ValueError(f"{who(self)}.adapt: expected data. Received: no values")
        self.adapt_mean.assign(mean)
        self.adapt_variance.assign(squares / count)

    def _as_row(self, batch) -> tuple:
        return tuple(n if i in self._keep else 1 for i, n in enumerate(batch.shape))

    def _check_batch(self, shape) -> None:
        expected = [self._broadcast[axis] for axis in self._keep]
        fits = len(shape) == len(self._broadcast)
        if not fits or [shape[axis] for axis in self._keep] != expected:
            raise ValueError(
                f"{who(self)}.adapt: expected data of {len(self._broadcast)} axes with sizes "
                f"{expected} on the axes {self._keep}. Received: shape {tuple(shape)}"
            )

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        values = {"mean": self.input_mean, "variance": self.input_variance}
        values = {k: np.asarray(v).tolist() for k, v in values.items()}
        return {**super().get_config(), **config_of(self, "axis", "invert"), **values}


class Rescaling(Layer):
    """Computes `x * scale + offset`.

    Args:
        scale: number, or numbers for the channels.
        offset: number, or numbers for the channels.

    >>> narae.layers.Rescaling(1 / 255)(np.array([[0, 51, 255]])).numpy().round(3)
    array([[0. , 0.2, 1. ]], dtype=float32)
    """

    def __init__(self, scale, offset=0.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale
        self.offset = offset
        self.supports_masking = True

    def call(self, inputs):
        x = ops.cast(inputs, self.compute_dtype)
        scale, offset = (
            v if isinstance(v, (int, float)) else ops.convert_to_tensor(v, self.compute_dtype)
            for v in (self.scale, self.offset)
        )
        return x * scale + offset

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        values = {"scale": self.scale, "offset": self.offset}
        plain = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in values.items()}
        return {**super().get_config(), **plain}


class CategoryEncoding(Layer):
    """Encodes integers 0 .. num_tokens - 1 as vectors of size num_tokens.

    Args:
        num_tokens: number of categories.
        output_mode: "one_hot" (a vector per integer), "multi_hot" (a vector per sample, 1 for
            each category present) or "count" (how often each is present).

    Call arguments:
        inputs: integers, (n,) or (batch, n); one_hot takes any shape.
        count_weights: for "count", the weight of each integer, the shape of `inputs`.

    >>> narae.layers.CategoryEncoding(4, output_mode="multi_hot")(np.array([[0, 2, 2]])).numpy()
    array([[1., 0., 1., 0.]], dtype=float32)
    """

    def __init__(
        self,
        num_tokens: int | None = None,
        output_mode: str = "multi_hot",
        sparse: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        output_mode = "multi_hot" if output_mode == "binary" else output_mode
        self.output_mode = one_of(
            self, "output_mode", output_mode, ("count", "one_hot", "multi_hot")
        )
        self.num_tokens = positive(self, "num_tokens", num_tokens)
        if sparse:
            raise ValueError(f"{who(self)}: expected sparse to be False. Received: sparse=True")
        self.sparse = False

    def call(self, inputs, count_weights=None):
        if count_weights is not None and self.output_mode != "count":
            raise ValueError(
                f"{who(self)}: expected count_weights only with output_mode='count'. "
                f"Received: output_mode={self.output_mode!r}"
            )
        x = ops.cast(ops.convert_to_tensor(inputs), "int32")
        if len(x.shape) == 0:
            x = ops.reshape(x, (1,))
        if self.output_mode == "one_hot" and len(x.shape) > 1 and x.shape[-1] == 1:
            x = ops.squeeze(x, -1)
        one_hot = ops.one_hot(x, self.num_tokens, dtype=self.compute_dtype)
        if self.output_mode == "one_hot":
            return one_hot
        if self.output_mode == "multi_hot":
            return ops.max(one_hot, axis=-2)
        if count_weights is not None:
            weights = ops.convert_to_tensor(count_weights, dtype=self.compute_dtype)
            one_hot = one_hot * ops.expand_dims(weights, -1)
        return ops.sum(one_hot, axis=-2)

    def compute_output_shape(self, inputs_shape, count_weights_shape=None):
        shape = tuple(inputs_shape)
        if self.output_mode == "one_hot" and (len(shape) <= 1 or shape[-1] != 1):
            return (*shape, self.num_tokens)
        return (*shape[:-1], self.num_tokens)

    def get_config(self):
        return {**super().get_config(), **config_of(self, "num_tokens", "output_mode")}
