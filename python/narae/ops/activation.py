"""Activation functions: one kernel forward, one backward."""

import math
from typing import Any

from narae import _core
from narae.engine import Tensor, convert_to_tensor, is_tracked, op, record
from narae.ops import elementwise, unary
from narae.ops.elementwise import floating, multiply, subtract

__all__ = [
    "celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu",
    "hard_swish", "hard_tanh", "leaky_relu", "linear", "log_sigmoid", "mish", "relu", "relu6",
    "selu", "sigmoid", "silu", "soft_shrink", "softplus", "softsign", "sparse_plus",
    "sparse_sigmoid", "squareplus", "swish", "tanh", "tanh_shrink", "threshold",
]  # fmt: skip


def _curve(name: str, x, *parameters) -> Tensor:
    """y = f(x) and dx = dy * f'(x), by the kernels `<name>_forward` and `<name>_backward`."""
    x = floating(x)
    y = Tensor(getattr(_core, f"{name}_forward")(x.array, *parameters))
    backward = getattr(_core, f"{name}_backward")
    return record(y, (x,), lambda dy: (Tensor(backward(dy.array, x.array, *parameters)),))


def _pieces(name: str, x, *parameters) -> Tensor:
    """The same for functions made of straight lines: there dx depends on dy alone."""
    x = floating(x)
    y = Tensor(getattr(_core, f"{name}_forward")(x.array, *parameters))
    backward = getattr(_core, f"{name}_backward")
    return record(y, (x,), lambda dy: (_scaled(backward, dy, x.array, parameters),))


def _scaled(backward, dy, x, parameters=()):
    dx = Tensor(backward(dy.array, x, *parameters))
    return record(dx, (dy,), lambda g: (_scaled(backward, g, x, parameters),))


def activated(name: str, x: Tensor, y) -> Tensor:
    """Records y = relu, sigmoid or tanh of x, whose derivatives follow from y alone."""
    return record(Tensor(y), (x,), lambda dy: (activation_backward(name, dy, x, y),))


def activation_backward(name: str, dy: Tensor, x: Tensor, y) -> Tensor:
    """Returns dx for y = relu, sigmoid or tanh of x; y is the array."""
    kernel = getattr(_core, f"{name}_backward")
    if name == "relu":
        return _scaled(kernel, dy, y)
    if not is_tracked(dy) and not is_tracked(x):
        return Tensor(kernel(dy.array, y))
    again = activated(name, x, y)  # the same in ops, for a second derivative
    slope = again if name == "sigmoid" else elementwise.add(again, 1.0)
    return multiply(dy, multiply(slope, subtract(1.0, again)))


def _from_output(name: str, x) -> Tensor:
    x = floating(x)
    return activated(name, x, getattr(_core, f"{name}_forward")(x.array))


@op
def relu(x: Any) -> Tensor:
    """Computes `max(x, 0)`.

    >>> narae.ops.relu([-1.0, 2.0]).numpy()
    array([0., 2.], dtype=float32)
    """
    x = convert_to_tensor(x)
    if x.dtype in ("int32", "int64", "uint8"):
        return elementwise.maximum(x, 0)
    return _from_output("relu", x)


@op
def sigmoid(x: Any) -> Tensor:
    """Computes `1 / (1 + exp(-x))`."""
    return _from_output("sigmoid", x)


@op
def tanh(x: Any) -> Tensor:
    """Computes the hyperbolic tangent."""
    return _from_output("tanh", x)


@op
def relu6(x: Any) -> Tensor:
    """Computes `min(max(x, 0), 6)`."""
    return _pieces("relu6", x)


def general_relu(
    x: Any, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Tensor:
    """Computes Keras's relu with all parameters.

    `max_value` for `x >= max_value`, `x` for `threshold < x < max_value`, and
    `negative_slope * (x - threshold)` below.
    """
    high = math.inf if max_value is None else float(max_value)
    return _pieces("general_relu", x, float(negative_slope), high, float(threshold))


@op
def leaky_relu(x: Any, negative_slope: float = 0.2) -> Tensor:
    """Computes `x` above 0 and `negative_slope * x` below."""
    return _pieces("leaky_relu", x, float(negative_slope))


@op
def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """Computes `x` above 0 and `alpha * (exp(x) - 1)` below."""
    return _curve("elu", x, float(alpha))


@op
def celu(x: Any, alpha: float = 1.0) -> Tensor:
    """Computes `max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))`."""
    return _curve("celu", x, float(alpha))


@op
def selu(x: Any) -> Tensor:
    """Computes `1.0507 * elu(x, alpha=1.6733)`, which keeps mean 0 and variance 1."""
    return _curve("selu", x)


@op
def gelu(x: Any, approximate: bool = True) -> Tensor:
    """Computes `x * Phi(x)`, Phi the normal distribution function.

    Args:
        x: any shape.
        approximate: whether Phi is approximated by
            `(1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2`.
    """
    return _curve("gelu_tanh" if approximate else "gelu", x)


@op
def silu(x: Any) -> Tensor:
    """Computes `x * sigmoid(x)`."""
    return _curve("silu", x)


@op
def swish(x: Any) -> Tensor:
    """Computes `x * sigmoid(x)`; the same as `silu`."""
    return silu(x)


@op
def mish(x: Any) -> Tensor:
    """Computes `x * tanh(softplus(x))`."""
    return _curve("mish", x)


@op
def softplus(x: Any) -> Tensor:
    """Computes `log(1 + exp(x))`."""
    x = floating(x)
    y = Tensor(_core.softplus_forward(x.array))

    def backward(dy):
        if is_tracked(dy) or is_tracked(x):
            return (multiply(dy, sigmoid(x)),)
        return (Tensor(_core.softplus_backward(dy.array, x.array)),)

    return record(y, (x,), backward)


@op
def log_sigmoid(x: Any) -> Tensor:
    """Computes `-log(1 + exp(-x))`."""
    return _curve("log_sigmoid", x)


@op
def softsign(x: Any) -> Tensor:
    """Computes `x / (1 + |x|)`."""
    return _curve("softsign", x)


@op
def hard_sigmoid(x: Any) -> Tensor:
    """Computes `min(max(x / 6 + 1 / 2, 0), 1)`."""
    return _pieces("hard_sigmoid", x)


@op
def hard_silu(x: Any) -> Tensor:
    """Computes `x * hard_sigmoid(x)`."""
    return _curve("hard_silu", x)


@op
def hard_swish(x: Any) -> Tensor:
    """Computes `x * hard_sigmoid(x)`; the same as `hard_silu`."""
    return hard_silu(x)


@op
def hard_tanh(x: Any) -> Tensor:
    """Computes `min(max(x, -1), 1)`."""
    return _pieces("hard_tanh", x)


@op
def hard_shrink(x: Any, threshold: float = 0.5) -> Tensor:
    """Gives 0 where `|x| <= threshold`, else `x`."""
    return _pieces("hard_shrink", x, float(threshold))


@op
def soft_shrink(x: Any, threshold: float = 0.5) -> Tensor:
    """Moves `x` towards 0 by the threshold, and to 0 where `|x| <= threshold`."""
    return _pieces("soft_shrink", x, float(threshold))


@op
def tanh_shrink(x: Any) -> Tensor:
    """Computes `x - tanh(x)`."""
    return _curve("tanh_shrink", x)


@op
def threshold(x: Any, threshold: float, default_value: float) -> Tensor:
    """Gives `x` above the threshold, else `default_value`."""
    return _pieces("threshold", x, float(threshold), float(default_value))


@op
def squareplus(x: Any, b: float = 4) -> Tensor:
    """Computes `(x + sqrt(x**2 + b)) / 2`."""
    return _curve("squareplus", x, float(b))


@op
def sparse_plus(x: Any) -> Tensor:
    """Computes 0 below -1, `(x + 1)**2 / 4` up to 1, and `x` above."""
    return _curve("sparse_plus", x)


@op
def sparse_sigmoid(x: Any) -> Tensor:
    """Computes `min(max((x + 1) / 2, 0), 1)`."""
    return _pieces("sparse_sigmoid", x)


@op
def exponential(x: Any) -> Tensor:
    """Computes `exp(x)`."""
    return unary.exp(x)


@op
def linear(x: Any) -> Tensor:
    """Gives `x` itself."""
    return convert_to_tensor(x)


@op
def glu(x: Any, axis: int = -1) -> Tensor:
    """Computes `a * sigmoid(b)`, a and b the halves of `x` along the axis."""
    from narae.ops.shape import split

    x = floating(x)
    if x.shape[axis] % 2:
        raise ValueError(
            "narae.ops.glu: expected an even size along the axis. "
            f"Received: x.shape={x.shape}, axis={axis}"
        )
    a, b = split(x, 2, axis)
    return multiply(a, sigmoid(b))
