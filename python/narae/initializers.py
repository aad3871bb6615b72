"""Initializers: what a weight holds before training."""

import math
from typing import Any

import numpy as np

from narae import ops, random
from narae.engine import config, lookup, naming
from narae.engine.random import SeedGenerator, draw_seed
from narae.engine.tensor import Tensor, convert_to_tensor

# The standard deviation of a normal variable cut at two standard deviations.
_TRUNCATED_STDDEV = 0.87962566103423978


class Initializer:
    """The base class of initializers: called with a shape and dtype, it gives the values.

    >>> class Twos(narae.initializers.Initializer):
    ...     def __call__(self, shape, dtype=None):
    ...         return narae.ops.full(shape, 2.0, dtype=dtype)
    """

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """Gives values of `shape` and `dtype` (`narae.config.floatx()` by default)."""
        raise NotImplementedError(f"{type(self).__name__} must implement __call__(shape, dtype).")

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, as plain values."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Initializer":
        """Makes the object that `get_config` described."""
        return cls(**config)

    def clone(self) -> "Initializer":
        """Makes an initializer with the same arguments."""
        return self.from_config(self.get_config())


class Zeros(Initializer):
    """All zeros."""

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        return ops.zeros(shape, dtype=dtype or config.floatx())


class Ones(Initializer):
    """All ones."""

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        return ops.ones(shape, dtype=dtype or config.floatx())


class Constant(Initializer):
    """One value everywhere.

    Args:
        value: a number, or an array that broadcasts to the shape.
    """

    def __init__(self, value: Any = 0.0) -> None:
        self.value = value

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        value = convert_to_tensor(self.value, dtype=dtype or config.floatx())
        return ops.broadcast_to(value, tuple(shape))

    def get_config(self) -> dict[str, Any]:
        return {"value": lookup.to_config(self.value)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Constant":
        value = config.get("value", 0.0)
        if isinstance(value, dict):
            from narae.saving.registry import deserialize_keras_object

            value = deserialize_keras_object(value)
        return cls(value)


class Identity(Initializer):
    """The identity matrix times `gain`; for matrices only.

    Args:
        gain: the value on the diagonal.
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        if len(shape) != 2:
            raise ValueError(
                "narae.initializers.Identity: expected the shape of a matrix. "
                f"Received: shape={tuple(shape)}"
            )
        return self.gain * ops.eye(*shape, dtype=dtype or config.floatx())

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain}


class RandomInitializer(Initializer):
    """The base class of random initializers: the same seed gives the same values every time.

    Args:
        seed: an integer, a `narae.random.SeedGenerator` (whose next calls differ), or `None` for
            a seed drawn from the global generator.
    """

    def __init__(self, seed: Any = None) -> None:
        self._init_seed = seed
        if seed is None:
            seed = draw_seed()
        elif isinstance(seed, dict):
            from narae.saving.registry import deserialize_keras_object

            seed = deserialize_keras_object(seed)
        elif isinstance(seed, bool) or not isinstance(seed, (int, np.integer, SeedGenerator)):
            raise ValueError(
                f"narae.initializers.{type(self).__name__}: expected seed to be an integer, a "
                f"SeedGenerator or None. Received: seed={seed!r}"
            )
        self.seed = seed

    def get_config(self) -> dict[str, Any]:
        return {"seed": lookup.to_config(self._init_seed)}


class RandomNormal(RandomInitializer):
    """Normal values.

    Args:
        mean: the mean.
        stddev: the standard deviation.
        seed: an integer or `SeedGenerator`.

    >>> narae.initializers.RandomNormal(seed=1)((2, 2)).shape
    (2, 2)
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None) -> None:
        self.mean = mean
        self.stddev = stddev
        super().__init__(seed)

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        return random.normal(shape, self.mean, self.stddev, dtype=dtype, seed=self.seed)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mean": self.mean, "stddev": self.stddev}


class TruncatedNormal(RandomNormal):
    """Normal values, those beyond two standard deviations drawn again.

    Args:
        mean: the mean.
        stddev: the standard deviation before the cut.
        seed: an integer or `SeedGenerator`.
    """

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        return random.truncated_normal(shape, self.mean, self.stddev, dtype=dtype, seed=self.seed)


class RandomUniform(RandomInitializer):
    """Uniform values in `[minval, maxval)`.

    Args:
        minval: the lower limit.
        maxval: the upper limit.
        seed: an integer or `SeedGenerator`.
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Any = None) -> None:
        self.minval = minval
        self.maxval = maxval
        super().__init__(seed)

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        return random.uniform(shape, self.minval, self.maxval, dtype=dtype, seed=self.seed)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "minval": self.minval, "maxval": self.maxval}


class VarianceScaling(RandomInitializer):
    """Values of variance `scale / n`, n the number of inputs, outputs or their mean.

    Normal values have the standard deviation `sqrt(scale / n)` (after the cut, if truncated),
    uniform ones the limits `+-sqrt(3 * scale / n)`.

    Args:
        scale: a positive factor.
        mode: `"fan_in"`, `"fan_out"` or `"fan_avg"`.
        distribution: `"truncated_normal"`, `"untruncated_normal"` or `"uniform"`.
        seed: an integer or `SeedGenerator`.
        input_axes: the axes whose sizes make up fan_in; by default the second last and, for
            convolutions, the receptive field.
        output_axes: likewise for fan_out; by default the last.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
        input_axes: Any = None,
        output_axes: Any = None,
    ) -> None:
        distribution = distribution.lower()
        distribution = "truncated_normal" if distribution == "normal" else distribution
        who = f"narae.initializers.{type(self).__name__}"
        if scale <= 0:
            raise ValueError(f"{who}: expected scale to be positive. Received: scale={scale!r}")
        modes = ("fan_in", "fan_out", "fan_avg")
        if mode not in modes:
            raise ValueError(f"{who}: expected mode to be one of {modes}. Received: mode={mode!r}")
        distributions = ("truncated_normal", "untruncated_normal", "uniform")
        if distribution not in distributions:
            raise ValueError(
                f"{who}: expected distribution to be one of {distributions}. "
                f"Received: distribution={distribution!r}"
            )
        self.scale = scale
        self.mode = mode
        self.distribution = distribution
        self.input_axes = input_axes
        self.output_axes = output_axes
        super().__init__(seed)

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return random.uniform(shape, -limit, limit, dtype=dtype, seed=self.seed)
        stddev = math.sqrt(variance)
        if self.distribution == "untruncated_normal":
            return random.normal(shape, 0.0, stddev, dtype=dtype, seed=self.seed)
        stddev /= _TRUNCATED_STDDEV
        return random.truncated_normal(shape, 0.0, stddev, dtype=dtype, seed=self.seed)

    def get_config(self) -> dict[str, Any]:
        base = {
            **super().get_config(),
            "scale": self.scale,
            "mode": self.mode,
            "distribution": self.distribution,
            "input_axes": self.input_axes,
            "output_axes": self.output_axes,
        }
        if type(self) is not VarianceScaling and isinstance(self, _Named):
            base = {key: base[key] for key in ("seed", "input_axes", "output_axes")}
        return base


class _Named(VarianceScaling):
    """A `VarianceScaling` with fixed scale, mode and distribution."""

    _fixed: tuple[float, str, str]

    def __init__(self, seed: Any = None, input_axes: Any = None, output_axes: Any = None) -> None:
        super().__init__(*self._fixed, seed, input_axes, output_axes)


class GlorotUniform(_Named):
    """Uniform values in `+-sqrt(6 / (fan_in + fan_out))`, also called Xavier; Keras's default.

    Source: Glorot and Bengio, 2010.

    Args:
        seed: an integer or `SeedGenerator`.
        input_axes: the axes of fan_in, see `VarianceScaling`.
        output_axes: the axes of fan_out.
    """

    _fixed = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Named):
    """Truncated normal values of variance `2 / (fan_in + fan_out)`.

    Source: Glorot and Bengio, 2010.

    Args:
        seed: an integer or `SeedGenerator`.
        input_axes: the axes of fan_in, see `VarianceScaling`.
        output_axes: the axes of fan_out.
    """

    _fixed = (1.0, "fan_avg", "truncated_normal")


class LecunUniform(_Named):
    """Uniform values in `+-sqrt(3 / fan_in)`.

    Source: LeCun et al., 1998, "Efficient backprop".

    Args:
        seed: an integer or `SeedGenerator`.
        input_axes: the axes of fan_in, see `VarianceScaling`.
        output_axes: the axes of fan_out.
    """

    _fixed = (1.0, "fan_in", "uniform")


class LecunNormal(_Named):
    """Truncated normal values of variance `1 / fan_in`; goes with selu.

    Source: LeCun et al., 1998, "Efficient backprop".

    Args:
        seed: an integer or `SeedGenerator`.
        input_axes: the axes of fan_in, see `VarianceScaling`.
        output_axes: the axes of fan_out.
    """

    _fixed = (1.0, "fan_in", "truncated_normal")


class HeUniform(_Named):
    """Uniform values in `+-sqrt(6 / fan_in)`; goes with relu.

    Source: He et al., 2015, arXiv:1502.01852.

    Args:
        seed: an integer or `SeedGenerator`.
        input_axes: the axes of fan_in, see `VarianceScaling`.
        output_axes: the axes of fan_out.
    """

    _fixed = (2.0, "fan_in", "uniform")


class HeNormal(_Named):
    """Truncated normal values of variance `2 / fan_in`; goes with relu.

    Source: He et al., 2015, arXiv:1502.01852.

    Args:
        seed: an integer or `SeedGenerator`.
        input_axes: the axes of fan_in, see `VarianceScaling`.
        output_axes: the axes of fan_out.
    """

    _fixed = (2.0, "fan_in", "truncated_normal")


class Orthogonal(RandomInitializer):
    """A matrix with orthonormal rows or columns, by QR of normal values; leading axes are merged.

    Source: Saxe et al., 2013, arXiv:1312.6120.

    Args:
        gain: a factor.
        seed: an integer or `SeedGenerator`.
    """

    def __init__(self, gain: float = 1.0, seed: Any = None) -> None:
        self.gain = gain
        super().__init__(seed)

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        shape = tuple(shape)
        if len(shape) < 2:
            raise ValueError(
                "narae.initializers.Orthogonal: expected a shape with two axes or more. "
                f"Received: shape={shape}"
            )
        rows, columns = math.prod(shape[:-1]), shape[-1]
        tall = (max(rows, columns), min(rows, columns))
        q, r = np.linalg.qr(random.normal(tall, dtype="float64", seed=self.seed).numpy())
        q *= np.sign(np.diag(r))
        q = q.T if rows < columns else q
        return convert_to_tensor(self.gain * q.reshape(shape), dtype=dtype or config.floatx())

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gain": self.gain}


def compute_fans(shape: Any, input_axes: Any = None, output_axes: Any = None) -> tuple[int, int]:
    """Gives the numbers of inputs and outputs of a weight of this shape.

    >>> narae.initializers.compute_fans((3, 3, 16, 32))
    (144, 288)
    """
    shape = tuple(shape)
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[i] for i in input_axes), math.prod(shape[i] for i in output_axes)
    if len(shape) < 2:
        fan = shape[0] if shape else 1
        return fan, fan
    field = math.prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field


zeros, ones, constant, identity = Zeros, Ones, Constant, Identity
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
variance_scaling, orthogonal = VarianceScaling, Orthogonal
glorot_uniform, glorot_normal = GlorotUniform, GlorotNormal
lecun_uniform, lecun_normal = LecunUniform, LecunNormal
he_uniform, he_normal = HeUniform, HeNormal
IdentityInitializer, OrthogonalInitializer = Identity, Orthogonal

_CLASSES = (
    Initializer,
    Zeros,
    Ones,
    Constant,
    Identity,
    RandomNormal,
    TruncatedNormal,
    RandomUniform,
    VarianceScaling,
    GlorotUniform,
    GlorotNormal,
    LecunUniform,
    LecunNormal,
    HeUniform,
    HeNormal,
    Orthogonal,
)
_OBJECTS: dict[str, Any] = {naming.to_snake_case(cls.__name__): cls for cls in _CLASSES}
_OBJECTS |= {cls.__name__: cls for cls in _CLASSES}
_OBJECTS |= {"zero": Zeros, "one": Ones, "normal": RandomNormal, "uniform": RandomUniform}
_OBJECTS |= {"IdentityInitializer": Identity, "OrthogonalInitializer": Orthogonal}


def get(identifier: Any) -> Any:
    """Finds an initializer by name (`"he_normal"`), config, class, function or array.

    >>> narae.initializers.get("ones")((2,)).numpy().tolist()
    [1.0, 1.0]
    """
    if isinstance(identifier, (Tensor, np.ndarray, np.generic)):
        return _from_array(identifier)
    return lookup.find("initializers", identifier, _OBJECTS)


def _from_array(values: Any) -> Any:
    def initialize(shape: Any, dtype: Any = None) -> Tensor:
        if tuple(shape) != tuple(values.shape):
            raise ValueError(
                "narae.initializers.get: expected the shape of the array given as initializer, "
                f"{tuple(values.shape)}. Received: shape={tuple(shape)}"
            )
        return convert_to_tensor(values, dtype=dtype or config.floatx())

    return initialize


def serialize(initializer: Any) -> Any:
    """Gives the config of an initializer."""
    return lookup.to_config(initializer)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """Makes an initializer from what `serialize` gave, or from a name."""
    return lookup.find("initializers", config, _OBJECTS, custom_objects=custom_objects)
