"""Normalization layers."""

from collections.abc import Sequence

from narae import ops
from narae.layers.arguments import config_of, is_integer, parse, positive, who
from narae.layers.input_spec import InputSpec
from narae.layers.layer import Layer

_AFFINE = (
    "beta_initializer",
    "gamma_initializer",
    "beta_regularizer",
    "gamma_regularizer",
    "beta_constraint",
    "gamma_constraint",
)


class _Normalization(Layer):
    """A layer that normalizes its input and may scale it by gamma and shift it by beta."""

    def __init__(self, axis, epsilon, center=True, scale=True, **kwargs):
        affine = {name: kwargs.pop(name) for name in _AFFINE if name in kwargs}
        super().__init__(**kwargs)
        self.axis = axis
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self.supports_masking = True
        parse(self, **affine)

    def _axes(self) -> list[int]:
        return [self.axis] if isinstance(self.axis, int) else list(self.axis)

    def _sizes(self, input_shape) -> tuple[int, ...]:
        """Sizes of the axes that gamma and beta run along."""
        axes, rank = self._axes(), len(input_shape)
        if any(not -rank <= axis < rank for axis in axes):
            raise ValueError(
                f"{who(self)}: expected axis to be within the input's {rank} axes. "
                f"Received: axis={self.axis}, inputs.shape={tuple(input_shape)}"
            )
        sizes = tuple(input_shape[axis] for axis in axes)
        if None in sizes:
            raise ValueError(
                f"{who(self)}: expected the normalized axes to have known sizes. "
                f"Received: axis={self.axis}, inputs.shape={tuple(input_shape)}"
            )
        return sizes

    def _add_affine(self, shape: tuple[int, ...]) -> None:
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_weight(
                name="gamma",
                shape=shape,
                initializer=self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
                autocast=False,
            )
        if self.center:
            self.beta = self.add_weight(
                name="beta",
                shape=shape,
                initializer=self.beta_initializer,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
                autocast=False,
            )

    def compute_output_shape(self, input_shape):
        self._sizes(input_shape)
        return tuple(input_shape)


class BatchNormalization(_Normalization):
    """Normalizes each channel over the batch.

    `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta`. While training, mean and variance
    are the batch's, and `moving = moving * momentum + batch * (1 - momentum)`; otherwise, and when
    `trainable` is False, they are the moving ones.

    Source: Ioffe and Szegedy, 2015, arXiv:1502.03167.

    Args:
        axis: the channels' axis.
        momentum: of the moving statistics.
        epsilon: added to the variance.
        center, scale: whether there are beta and gamma.
        beta_initializer, gamma_initializer, moving_mean_initializer,
            moving_variance_initializer: of the weights, each (channels,).
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: of beta and gamma.
        renorm, synchronized: not supported; must be False.

    Call arguments:
        inputs: any rank.
        training: whether to use and update with the batch's statistics.
        mask: boolean, the shape of `inputs` without the last axis; False does not count.

    >>> x = narae.ops.array([[1.0, 5.0], [3.0, 5.0]])
    >>> narae.layers.BatchNormalization()(x, training=True).numpy().round(2)
    array([[-1.,  0.],
           [ 1.,  0.]], dtype=float32)
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        moving_mean_initializer="zeros",
        moving_variance_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        renorm: bool = False,
        renorm_clipping=None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs,
    ):
        super().__init__(
            int(axis),
            float(epsilon),
            center,
            scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            **kwargs,
        )
        if renorm or synchronized:
            raise ValueError(
                f"{who(self)}: expected renorm and synchronized to be False. "
                f"Received: renorm={renorm}, synchronized={synchronized}"
            )
        self.momentum = float(momentum)
        self.synchronized = synchronized
        self.renorm = renorm
        self.renorm_clipping = renorm_clipping
        self.renorm_momentum = renorm_momentum
        parse(
            self,
            moving_mean_initializer=moving_mean_initializer,
            moving_variance_initializer=moving_variance_initializer,
        )

    def build(self, input_shape):
        shape = self._sizes(input_shape)
        self._add_affine(shape)
        self.moving_mean = self.add_weight(
            name="moving_mean",
            shape=shape,
            initializer=self.moving_mean_initializer,
            trainable=False,
            autocast=False,
        )
        self.moving_variance = self.add_weight(
            name="moving_variance",
            shape=shape,
            initializer=self.moving_variance_initializer,
            trainable=False,
            autocast=False,
        )
        axis = self.axis % len(input_shape)
        self.input_spec = InputSpec(ndim=len(input_shape), axes={axis: shape[0]})

    def call(self, inputs, training=None, mask=None):
        if mask is not None and len(mask.shape) != len(inputs.shape) - 1:
            raise ValueError(
                f"{who(self)}: expected mask to have one axis less than the input. "
                f"Received: mask.shape={mask.shape}, inputs.shape={inputs.shape}"
            )
        if training and self.trainable and mask is None:
            y, mean, variance = ops.batch_normalization_training(
                inputs, self.gamma, self.beta, self.axis, self.epsilon
            )
            self._move(mean, variance)
            return ops.cast(y, self.compute_dtype)
        mean, variance = self.moving_mean, self.moving_variance
        if training and self.trainable:
            mean, variance = self._masked_moments(ops.cast(inputs, mean.dtype), mask)
            self._move(mean, variance)
        y = ops.batch_normalization(
            inputs,
            mean,
            variance,
            self.axis,
            offset=self.beta,
            scale=self.gamma,
            epsilon=self.epsilon,
        )
        return ops.cast(y, self.compute_dtype)

    def _masked_moments(self, x, mask) -> tuple:
        """Mean and variance per channel over the positions that the mask keeps."""
        axis = self.axis % len(x.shape)
        others = tuple(i for i in range(len(x.shape)) if i != axis)
        kept = ops.broadcast_to(ops.expand_dims(ops.cast(mask, "bool"), -1), x.shape)
        zeros = ops.zeros_like(x)
        count = ops.sum(ops.cast(kept, x.dtype), axis=others, keepdims=True) + 1e-7
        mean = ops.sum(ops.where(kept, x, zeros), axis=others, keepdims=True) / count
        squares = ops.where(kept, ops.square(x - mean), zeros)
        variance = ops.sum(squares, axis=others, keepdims=True) / count
        return ops.squeeze(mean, others), ops.squeeze(variance, others)

    def _move(self, mean, variance) -> None:
        """Moves the moving statistics towards the batch's."""
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            batch = ops.cast(ops.stop_gradient(batch), moving.dtype)
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))

    def get_config(self):
        names = (
            "axis",
            "momentum",
            "epsilon",
            "center",
            "scale",
            "moving_mean_initializer",
            "moving_variance_initializer",
            *_AFFINE,
            "synchronized",
            "renorm",
            "renorm_clipping",
            "renorm_momentum",
        )
        return {**super().get_config(), **config_of(self, *names)}


class LayerNormalization(_Normalization):
    """Normalizes each sample over its features: mean 0 and variance 1 along `axis`.

    `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta`.

    Source: Ba, Kiros and Hinton, 2016, arXiv:1607.06450.

    Args:
        axis: the axis or axes to normalize over.
        epsilon: added to the variance.
        center, scale: whether there are beta and gamma, each of the sizes of `axis`.
        beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer, beta_constraint,
            gamma_constraint: of beta and gamma.

    >>> narae.layers.LayerNormalization()(np.array([[1, 3], [5, 25]])).numpy().round(2)
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    """

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        **kwargs,
    ):
        rms_scaling = kwargs.pop("rms_scaling", False)
        if not isinstance(axis, (int, list, tuple)):
            raise TypeError(
                f"{who(self)}: expected axis to be an integer or integers. Received: axis={axis!r}"
            )
        super().__init__(
            axis if isinstance(axis, int) else list(axis),
            epsilon,
            center,
            scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            **kwargs,
        )
        if rms_scaling:
            raise ValueError(
                f"{who(self)}: expected rms_scaling to be False, use RMSNormalization. "
                f"Received: rms_scaling={rms_scaling}"
            )
        self.rms_scaling = rms_scaling
        self.autocast = False

    def build(self, input_shape):
        if not isinstance(self.axis, int):
            self.axis = sorted(self.axis)
        self._add_affine(self._sizes(input_shape))

    def call(self, inputs):
        y = ops.layer_normalization(
            inputs, gamma=self.gamma, beta=self.beta, axis=self.axis, epsilon=self.epsilon
        )
        return ops.cast(y, self.compute_dtype)

    def get_config(self):
        names = ("axis", "epsilon", "center", "scale", "rms_scaling", *_AFFINE)
        return {**super().get_config(), **config_of(self, *names)}


class GroupNormalization(_Normalization):
    """Normalizes each sample over groups of channels and all other axes but the batch.

    `groups=1` is layer normalization over everything, `groups=-1` instance normalization.

    Source: Wu and He, 2018, arXiv:1803.08494.

    Args:
        groups: number of groups, a divisor of the channels; -1 for one per channel.
        axis: the channels' axis.
        epsilon: added to the variance.
        center, scale: whether there are beta and gamma, each (channels,).
        beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer, beta_constraint,
            gamma_constraint: of beta and gamma.
    """

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        **kwargs,
    ):
        super().__init__(
            axis,
            epsilon,
            center,
            scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            **kwargs,
        )
        self.groups = (
            groups if is_integer(groups) and groups == -1 else positive(self, "groups", groups)
        )
        self.autocast = False

    def build(self, input_shape):
        (channels,) = self._sizes(input_shape)
        if self.groups == -1:
            self.groups = channels
        if channels % self.groups:
            raise ValueError(
                f"{who(self)}: expected the input's channels to be a multiple of groups. "
                f"Received: groups={self.groups}, inputs.shape={tuple(input_shape)}"
            )
        self._add_affine((channels,))
        axis = self.axis % len(input_shape)
        self.input_spec = InputSpec(ndim=len(input_shape), axes={axis: channels})

    def call(self, inputs):
        y = ops.group_normalization(
            inputs, self.gamma, self.beta, self.groups, axis=self.axis, epsilon=self.epsilon
        )
        return ops.cast(y, self.compute_dtype)

    def get_config(self):
        names = ("groups", "axis", "epsilon", "center", "scale", *_AFFINE)
        return {**super().get_config(), **config_of(self, *names)}


class RMSNormalization(_Normalization):
    """Divides by the root of the mean square: `y = scale * x / sqrt(mean(x^2) + epsilon)`.

    Source: Zhang and Sennrich, 2019, arXiv:1910.07467.

    Args:
        axis: the axis or axes to normalize over.
        epsilon: added to the mean square.
    """

    def __init__(self, axis: int | Sequence[int] = -1, epsilon: float = 1e-6, **kwargs):
        super().__init__(axis, epsilon, **kwargs)
        self.supports_masking = False

    def build(self, input_shape):
        if not isinstance(self.axis, int):
            self.axis = sorted(self.axis)
        self.scale = self.add_weight(
            name="scale", shape=self._sizes(input_shape), initializer="ones"
        )

    def call(self, inputs):
        return ops.rms_normalization(inputs, scale=self.scale, axis=self.axis, epsilon=self.epsilon)

    def get_config(self):
        return {**super().get_config(), **config_of(self, "axis", "epsilon")}


class UnitNormalization(_Normalization):
    """Divides by the Euclidean length along `axis`: `y = x / sqrt(max(sum(x^2), 1e-12))`.

    Args:
        axis: the axis or axes to normalize over.
    """

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs):
        if not isinstance(axis, (int, list, tuple)):
            raise TypeError(
                f"{who(self)}: expected axis to be an integer or integers. Received: axis={axis!r}"
            )
        super().__init__(axis if isinstance(axis, int) else list(axis), epsilon=1e-12, **kwargs)

    def call(self, inputs):
        squares = ops.sum(ops.square(inputs), axis=self.axis, keepdims=True)
        return inputs * ops.rsqrt(ops.maximum(squares, self.epsilon))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **config_of(self, "axis")}
