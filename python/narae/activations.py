"""Activation functions by name, as layers take them."""

from collections.abc import Callable
from typing import Any

from . import ops
from .engine import lookup
from .engine.tensor import Tensor


def linear(x: Any) -> Any:
    """Gives `x` itself."""
    return x


def relu(
    x: Any, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Tensor:
    """Computes `max(x, 0)`, or with the arguments a leaky, capped or thresholded one.

    `f(x) = max_value` for `x >= max_value`, `x` for `threshold <= x < max_value`, and
    `negative_slope * (x - threshold)` below.

    Args:
        x: any shape.
        negative_slope: slope below the threshold.
        max_value: the largest value; none by default.
        threshold: values below it are damped.

    >>> narae.activations.relu([-1.0, 2.0]).numpy().tolist()
    [0.0, 2.0]
    """
    if threshold == 0 and max_value is None:
        return ops.leaky_relu(x, negative_slope) if negative_slope else ops.relu(x)
    if threshold == 0 and max_value == 6 and not negative_slope:
        return ops.relu6(x)
    x = ops.convert_to_tensor(x)
    y = ops.where(ops.greater(x, threshold), x, 0.0) if threshold else ops.relu(x)
    if max_value is not None:
        y = ops.minimum(y, float(max_value))
    return y - negative_slope * ops.relu(threshold - x) if negative_slope else y


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Tensor:
    """Computes `x` above 0 and `negative_slope * x` below."""
    return ops.leaky_relu(x, negative_slope)


def relu6(x: Any) -> Tensor:
    """Computes `min(max(x, 0), 6)`."""
    return ops.relu6(x)


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """Computes `x` above 0 and `alpha * (exp(x) - 1)` below."""
    return ops.elu(x, alpha)


def celu(x: Any, alpha: float = 1.0) -> Tensor:
    """Computes `max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0)`."""
    return ops.celu(x, alpha)


def selu(x: Any) -> Tensor:
    """Computes `1.0507 * elu(x, 1.6733)`, which keeps mean 0 and variance 1 through layers."""
    return ops.selu(x)


def gelu(x: Any, approximate: bool = False) -> Tensor:
    """Computes `x * Phi(x)`, Phi the normal distribution function (or its tanh approximation)."""
    return ops.gelu(x, approximate)


def silu(x: Any) -> Tensor:
    """Computes `x * sigmoid(x)`, also called swish."""
    return ops.silu(x)


def mish(x: Any) -> Tensor:
    """Computes `x * tanh(softplus(x))`."""
    return ops.mish(x)


def softmax(x: Any, axis: int = -1) -> Tensor:
    """Computes `exp(x) / sum(exp(x))` over `axis`."""
    return ops.softmax(x, axis=axis)


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """Computes `x - log(sum(exp(x)))` over `axis`."""
    return ops.log_softmax(x, axis=axis)


def sigmoid(x: Any) -> Tensor:
    """Computes `1 / (1 + exp(-x))`."""
    return ops.sigmoid(x)


def log_sigmoid(x: Any) -> Tensor:
    """Computes `log(sigmoid(x))`."""
    return ops.log_sigmoid(x)


def hard_sigmoid(x: Any) -> Tensor:
    """Computes `relu6(x + 3) / 6`."""
    return ops.hard_sigmoid(x)


def hard_silu(x: Any) -> Tensor:
    """Computes `x * relu6(x + 3) / 6`."""
    return ops.hard_silu(x)


def tanh(x: Any) -> Tensor:
    """Computes the hyperbolic tangent."""
    return ops.tanh(x)


def softplus(x: Any) -> Tensor:
    """Computes `log(1 + exp(x))`."""
    return ops.softplus(x)


def softsign(x: Any) -> Tensor:
    """Computes `x / (1 + |x|)`."""
    return ops.softsign(x)


def exponential(x: Any) -> Tensor:
    """Computes `exp(x)`."""
    return ops.exp(x)


def glu(x: Any, axis: int = -1) -> Tensor:
    """Computes `a * sigmoid(b)`, a and b the halves of x along `axis`."""
    return ops.glu(x, axis=axis)


def hard_tanh(x: Any) -> Tensor:
    """Computes `min(max(x, -1), 1)`."""
    return ops.clip(x, -1.0, 1.0)


def tanh_shrink(x: Any) -> Tensor:
    """Computes `x - tanh(x)`."""
    x = ops.convert_to_tensor(x)
    return x - ops.tanh(x)


def hard_shrink(x: Any, threshold: float = 0.5) -> Tensor:
    """Computes `x` where `|x| > threshold`, else 0."""
    x = ops.convert_to_tensor(x)
    return ops.where(ops.greater(ops.abs(x), threshold), x, 0.0)


def soft_shrink(x: Any, threshold: float = 0.5) -> Tensor:
    """Computes `sign(x) * max(|x| - threshold, 0)`."""
    x = ops.convert_to_tensor(x)
    return x - ops.clip(x, -threshold, threshold)


def threshold(x: Any, threshold: float, default_value: float) -> Tensor:
    """Computes `x` where `x > threshold`, else `default_value`."""
    x = ops.convert_to_tensor(x)
    return ops.where(ops.greater(x, threshold), x, float(default_value))


def squareplus(x: Any, b: float = 4) -> Tensor:
    """Computes `(x + sqrt(x^2 + b)) / 2`."""
    x = ops.convert_to_tensor(x)
    return 0.5 * (x + ops.sqrt(ops.square(x) + float(b)))


def sparse_plus(x: Any) -> Tensor:
    """Computes 0 below -1, `(x + 1)^2 / 4` up to 1 and `x` above."""
    x = ops.convert_to_tensor(x)
    # max(x, 1) - 1 adds the straight part.
    return 0.25 * ops.square(ops.clip(x, -1.0, 1.0) + 1.0) + ops.relu(x - 1.0)


def sparse_sigmoid(x: Any) -> Tensor:
    """Computes `(x + 1) / 2`, cut to [0, 1]."""
    return 0.5 * (ops.clip(x, -1.0, 1.0) + 1.0)


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
