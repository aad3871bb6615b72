"""What the layers share: argument checks, configs, and the sizes of windowed outputs."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from narae import activations, constraints, initializers, regularizers
from narae.engine import config as engine_config

# An attribute's last word says which module parses and serializes it.
_MODULES = {
    "activation": activations,
    "initializer": initializers,
    "regularizer": regularizers,
    "constraint": constraints,
}


def parse(layer, **arguments) -> None:
    """Sets activations, initializers, regularizers and constraints given as string or object."""
    for name, value in arguments.items():
        setattr(layer, name, _MODULES[name.rsplit("_", 1)[-1]].get(value))


def config_of(layer, *names: str) -> dict:
    """The named attributes, serialized, as `get_config` wants them."""
    config = {}
    for name in names:
        value = getattr(layer, name)
        module = _MODULES.get(name.rsplit("_", 1)[-1])
        config[name] = value if module is None or value is None else module.serialize(value)
    return config


def who(layer) -> str:
    """The layer's public name, as error messages start."""
    return f"narae.layers.{type(layer).__name__}"


def accepts(layer, argument: str) -> bool:
    """Whether `layer.call` takes an argument of this name."""
    return argument in inspect.signature(layer.call).parameters


def is_integer(value) -> bool:
    """Whether value is an integer (NumPy's count, booleans do not)."""
    return hasattr(value, "__index__") and not isinstance(value, bool)


def positive(layer, name: str, value: Any) -> int:
    """Checks a positive integer argument."""
    if not is_integer(value) or value <= 0:
        raise ValueError(
            f"{who(layer)}: expected {name} to be a positive integer. Received: {name}={value!r}"
        )
    return int(value)


def one_of(layer, name: str, value: Any, allowed: Sequence) -> Any:
    """Checks an argument that has a few allowed values."""
    if value not in allowed:
        raise ValueError(
            f"{who(layer)}: expected {name} to be one of {list(allowed)}. "
            f"Received: {name}={value!r}"
        )
    return value


def rate_between_0_and_1(layer, name: str, value: Any) -> float:
    """Checks a number in [0, 1]."""
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(
            f"{who(layer)}: expected {name} to be a number between 0 and 1. "
            f"Received: {name}={value!r}"
        )
    return value


def int_tuple(layer, name: str, value: Any, rank: int, minimum: int = 1) -> tuple[int, ...]:
    """An integer or a sequence of `rank` integers, as a tuple of `rank` integers."""
    values = (value,) * rank if is_integer(value) else value
    try:
        values = tuple(values)
    except TypeError:
        values = ()
    if len(values) != rank or not all(is_integer(v) and v >= minimum for v in values):
        raise ValueError(
            f"{who(layer)}: expected {name} to be an integer or {rank} integers, each at least "
            f"{minimum}. Received: {name}={value!r}"
        )
    return tuple(int(v) for v in values)


def int_pairs(layer, name: str, value: Any, rank: int) -> tuple[tuple[int, int], ...]:
    """Amounts before and after each of `rank` axes: an integer, `rank` integers or pairs."""
    if is_integer(value):
        value = (value,) * rank
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != rank:
        raise ValueError(
            f"{who(layer)}: expected {name} to be an integer, {rank} integers or {rank} pairs of "
            f"integers. Received: {name}={value!r}"
        )
    return tuple(int_tuple(layer, name, v, 2, minimum=0) for v in value)


def padding_mode(layer, value: Any, causal: bool = False) -> str:
    """Checks a padding string."""
    mode = value.lower() if isinstance(value, str) else value
    return one_of(layer, "padding", mode, ("valid", "same", "causal")[: 3 if causal else 2])


def check_data_format(layer, value: Any) -> str:
    """Checks a data format; None takes `narae.config.image_data_format()`."""
    value = engine_config.image_data_format() if value is None else value
    value = value.lower() if isinstance(value, str) else value
    return one_of(layer, "data_format", value, ("channels_last", "channels_first"))


def channel_axis(layer) -> int:
    """Where the layer's data format keeps the channels."""
    return -1 if layer.data_format == "channels_last" else 1


def image_shape(layer, input_shape: Sequence, spatial: Sequence, channels: Any) -> tuple:
    """Puts batch, spatial sizes and channels in the order of the layer's data format."""
    if layer.data_format == "channels_last":
        return (input_shape[0], *spatial, channels)
    return (input_shape[0], channels, *spatial)


def spatial_shape(layer, input_shape: Sequence) -> tuple:
    """The sizes between batch and channels."""
    return tuple(input_shape[1:-1] if layer.data_format == "channels_last" else input_shape[2:])


def windowed(layer, input_shape: Sequence, window: Sequence[int], dilation: Sequence[int]) -> tuple:
    """Spatial output sizes of a convolution or pooling.

    valid: `floor((n - dilation * (window - 1) - 1) / stride) + 1`; same, causal:
    `ceil(n / stride)`. An unknown size stays unknown.
    """
    sizes = []
    for n, k, d, s in zip(spatial_shape(layer, input_shape), window, dilation, layer.strides):
        if n is not None:
            n = (n - d * (k - 1) - 1) // s + 1 if layer.padding == "valid" else -(-n // s)
            if n <= 0:
                raise ValueError(
                    f"{who(layer)}: expected every spatial axis to be at least as long as the "
                    f"window {tuple(window)}. Received: inputs.shape={tuple(input_shape)}, "
                    f"strides={layer.strides}, padding={layer.padding!r}"
                )
        sizes.append(n)
    return tuple(sizes)


# Activations that kernels apply in their epilogue, by the name the kernels know.
_FUSED: dict[Callable | None, str | None] = {None: None, activations.linear: None}
_FUSED.update({getattr(activations, name): name for name in ("relu", "sigmoid", "tanh")})


def split_activation(activation: Callable | None) -> tuple[str | None, Callable | None]:
    """(name that the kernel fuses, function to apply afterwards): one of them, or neither."""
    if activation in _FUSED:
        return _FUSED[activation], None
    return None, activation
