"""Layers that regularize: dropout in its forms, noise, activity penalties."""

import math
from collections.abc import Sequence

from narae import ops, random, regularizers
from narae.layers.arguments import check_data_format, config_of, rate_between_0_and_1
from narae.layers.input_spec import InputSpec
from narae.layers.layer import Layer


class _Noise(Layer):
    """A layer that changes its input at random while training, and only then."""

    def __init__(self, what: str, amount: float, seed: int | None, **kwargs):
        super().__init__(**kwargs)
        setattr(self, what, rate_between_0_and_1(self, what, amount))
        self.supports_masking = True
        self.seed = seed
        if amount > 0:
            self.seed_generator = random.SeedGenerator(seed)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)


class Dropout(_Noise):
    """Sets each input to 0 with probability `rate` while training, and scales the rest up.

    `y = x / (1 - rate)` where kept, `0` where dropped: the expected sum stays. The mask is drawn
    anew each call and drawn again, not stored, for the gradient.

    Source: Srivastava et al., 2014, JMLR 15.

    Args:
        rate: fraction to drop, in [0, 1].
        noise_shape: shape of the mask, 1 (shared) or None (the input's size) per axis:
            `(None, 1, None)` drops the same features at every timestep.
        seed: integer for a repeatable stream.

    >>> narae.layers.Dropout(0.5)(narae.ops.ones((2, 3)), training=False).shape
    (2, 3)
    """

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__("rate", rate, seed, **kwargs)
        self.noise_shape = noise_shape

    def _mask_shape(self, inputs) -> tuple[int, ...] | None:
        if self.noise_shape is None:
            return None
        return tuple(n if n is not None else s for n, s in zip(self.noise_shape, inputs.shape))

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        return random.dropout(
            inputs, self.rate, noise_shape=self._mask_shape(inputs), seed=self.seed_generator
        )

    def get_config(self):
        return {**super().get_config(), **config_of(self, "rate", "seed", "noise_shape")}


class _SpatialDropout(Dropout):
    """Dropout of whole channels."""

    rank = 0

    def __init__(self, rate, data_format=None, seed=None, name=None, dtype=None):
        super().__init__(rate, seed=seed, name=name, dtype=dtype)
        self.data_format = check_data_format(self, data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def _mask_shape(self, inputs):
        ones = (1,) * self.rank
        if self.data_format == "channels_first":
            return (inputs.shape[0], inputs.shape[1], *ones)
        return (inputs.shape[0], *ones, inputs.shape[-1])

    def get_config(self):
        return config_of(self, "rate", "seed", "name", "dtype", "data_format")


class SpatialDropout1D(_SpatialDropout):
    """Drops whole channels of a sequence (batch, steps, channels) while training.

    Args:
        rate: fraction of the channels to drop.
        seed: integer for a repeatable stream.
    """

    rank = 1

    def __init__(self, rate: float, seed: int | None = None, name: str | None = None, dtype=None):
        super().__init__(rate, "channels_last", seed=seed, name=name, dtype=dtype)

    def get_config(self):
        config = super().get_config()
        del config["data_format"]
        return config


class SpatialDropout2D(_SpatialDropout):
    """Drops whole channels of an image (batch, height, width, channels) while training.

    Args:
        rate: fraction of the channels to drop.
        data_format: "channels_last" or "channels_first".
        seed: integer for a repeatable stream.
    """

    rank = 2


class SpatialDropout3D(_SpatialDropout):
    """Drops whole channels of a volume (batch, depth, height, width, channels) while training.

    Args:
        rate: fraction of the channels to drop.
        data_format: "channels_last" or "channels_first".
        seed: integer for a repeatable stream.
    """

    rank = 3


class GaussianNoise(_Noise):
    """Adds noise from N(0, stddev^2) while training.

    Args:
        stddev: standard deviation of the noise, in [0, 1].
        seed: integer for a repeatable stream.
    """

    def __init__(self, stddev: float, seed: int | None = None, **kwargs):
        super().__init__("stddev", stddev, seed, **kwargs)

    def call(self, inputs, training=False):
        if not training or self.stddev == 0:
            return inputs
        noise = random.normal(
            inputs.shape, stddev=self.stddev, dtype=inputs.dtype, seed=self.seed_generator
        )
        return inputs + noise

    def get_config(self):
        return {**super().get_config(), **config_of(self, "stddev", "seed")}


class GaussianDropout(_Noise):
    """Multiplies by noise from N(1, rate / (1 - rate)) while training.

    Args:
        rate: the dropout rate with the same variance, in [0, 1).
        seed: integer for a repeatable stream.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs):
        super().__init__("rate", rate, seed, **kwargs)

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        noise = random.normal(
            inputs.shape,
            mean=1.0,
            stddev=math.sqrt(self.rate / (1.0 - self.rate)),
            dtype=inputs.dtype,
            seed=self.seed_generator,
        )
        return inputs * noise

    def get_config(self):
        return {**super().get_config(), **config_of(self, "rate", "seed")}


class AlphaDropout(Dropout):
    """Dropout that keeps mean and variance of self-normalizing (SELU) networks.

    Dropped inputs become SELU's limit `alpha' = -1.758`, then `a * x + b` restores mean 0 and
    variance 1, `a = ((1 - rate) * (1 + rate * alpha'^2))^-1/2`, `b = -a * alpha' * rate`.

    Source: Klambauer et al., 2017, arXiv:1706.02515.

    Args:
        rate: fraction to drop, in [0, 1].
        noise_shape: shape of the mask, as `Dropout`'s.
        seed: integer for a repeatable stream.
    """

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        limit = -1.6732632423543772 * 1.0507009873554805
        draws = random.uniform(self._mask_shape(inputs) or inputs.shape, seed=self.seed_generator)
        kept = ops.cast(draws >= self.rate, inputs.dtype)
        a = ((1 - self.rate) * (1 + self.rate * limit**2)) ** -0.5
        b = -a * limit * self.rate
        return a * (inputs * kept + limit * (1 - kept)) + b


class ActivityRegularization(Layer):
    """Hands its input on and adds `l1 * sum(|x|) + l2 * sum(x^2)`, per sample, to the loss.

    Args:
        l1: weight of the absolute values.
        l2: weight of the squares.
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs):
        super().__init__(activity_regularizer=regularizers.L1L2(l1=l1, l2=l2), **kwargs)
        self.supports_masking = True
        self.l1 = l1
        self.l2 = l2

    def call(self, inputs):
        return inputs

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        config = super().get_config()
        config.pop("activity_regularizer", None)
        return {**config, **config_of(self, "l1", "l2")}
