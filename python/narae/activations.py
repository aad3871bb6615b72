"""Activation functions by name, as layers take them.

Most are those of `narae.ops`; here are those whose arguments differ, and `get`.
"""

from collections.abc import Callable
from typing import Any

from narae import ops
from narae.engine import lookup
from narae.engine.operation import op
from narae.engine.tensor import Tensor
from narae.ops.activation import (
    celu,
    elu,
    exponential,
    general_relu,
    glu,
    hard_shrink,
    hard_sigmoid,
    hard_silu,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    mish,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softplus,
    softsign,
    sparse_plus,
    sparse_sigmoid,
    squareplus,
    tanh,
    tanh_shrink,
    threshold,
)

_general_relu = op(general_relu)


def linear(x: Any) -> Any:
    """Gives `x` itself."""
    return x


def relu(
    x: Any, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Tensor:
    """Computes `max(x, 0)`, or with the arguments a leaky, capped or thresholded one.

    `max_value` for `x >= max_value`, `x` for `threshold < x < max_value`, and
    `negative_slope * (x - threshold)` below.

    Args:
        x: any shape.
        negative_slope: slope below the threshold.
        max_value: the largest value; none by default.
        threshold: values below it are damped.

    >>> narae.activations.relu([-1.0, 2.0]).numpy().tolist()
    [0.0, 2.0]
    """
    if not negative_slope and max_value is None and not threshold:
        return ops.relu(x)
    return _general_relu(x, negative_slope, max_value, threshold)


def gelu(x: Any, approximate: bool = False) -> Tensor:
    """Computes `x * Phi(x)`, Phi the normal distribution function (or its tanh approximation)."""
    return ops.gelu(x, approximate)


def softmax(x: Any, axis: int = -1) -> Tensor:
    """Computes `exp(x) / sum(exp(x))` over `axis`."""
    return ops.softmax(x, axis=axis)


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """Computes `x - log(sum(exp(x)))` over `axis`."""
    return ops.log_softmax(x, axis=axis)


@op
def sparsemax(x: Any, axis: int = -1) -> Tensor:
    """Computes the point of the simplex nearest to `x` along `axis`, with exact zeros.

    `max(x - tau, 0)` with `tau` such that the values sum to 1.
    """
    x = ops.moveaxis(ops.convert_to_tensor(x), axis, -1)
    ordered = ops.flip(ops.sort(x, axis=-1), axis=-1)
    sums = ops.cumsum(ordered, axis=-1)
    rank = ops.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    support = ops.cast(ops.greater(1.0 + rank * ordered, sums), x.dtype)
    total = ops.sum(support * ordered, axis=-1, keepdims=True)
    tau = (total - 1.0) / ops.sum(support, axis=-1, keepdims=True)
    return ops.moveaxis(ops.relu(x - tau), -1, axis)


swish, hard_swish = silu, hard_silu

_FUNCTIONS = (
    celu,
    elu,
    exponential,
    gelu,
    glu,
    hard_shrink,
    hard_sigmoid,
    hard_silu,
    hard_tanh,
    leaky_relu,
    linear,
    log_sigmoid,
    log_softmax,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softmax,
    softplus,
    softsign,
    sparse_plus,
    sparse_sigmoid,
    sparsemax,
    squareplus,
    tanh,
    tanh_shrink,
    threshold,
)
_OBJECTS: dict[str, Callable[..., Any]] = {fn.__name__: fn for fn in _FUNCTIONS}
_OBJECTS |= {"swish": silu, "hard_swish": hard_silu}


def get(identifier: Any) -> Callable[..., Any]:
    """Finds an activation by name, config, function or layer; `None` gives `linear`.

    >>> narae.activations.get("relu").__name__
    'relu'
    """
    if identifier is None:
        return linear
    return lookup.find("activations", identifier, _OBJECTS)


def serialize(activation: Any) -> Any:
    """Gives the name of a built-in activation, or the config of another one or of a layer."""
    name = getattr(activation, "__name__", None)
    if _OBJECTS.get(name) is activation:
        return name
    return lookup.to_config(activation)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """Makes an activation from what `serialize` gave, or from a name."""
    return lookup.find("activations", config, _OBJECTS, custom_objects=custom_objects)
