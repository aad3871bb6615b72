"""The mean squared error, in one pass forward and one back."""

from typing import Any

from narae import _core
from narae.engine import Tensor, convert_to_tensor, is_tracked, op, record
from narae.ops.elementwise import floating, multiply, negative, square, subtract
from narae.ops.reduce import mean
from narae.ops.shape import expand_dims

__all__ = ["mean_squared_error"]


@op
def mean_squared_error(y_true: Any, y_pred: Any) -> Tensor:
    """Computes `mean((y_true - y_pred)^2)` over the last axis.

    Args:
        y_true: (..., C), or a shape that broadcasts with that of `y_pred`.
        y_pred: (..., C).

    Returns:
        (...), of the dtype of `y_pred`, floatx if that is an integer's.

    >>> narae.ops.mean_squared_error([[0.0, 2.0]], [[1.0, 2.0]]).numpy()
    array([0.5], dtype=float32)
    """
    p = floating(y_pred)
    t = convert_to_tensor(y_true, p.dtype)
    if p.shape != t.shape or p.ndim == 0:
        return mean(square(subtract(p, t)), axis=-1)
    y = Tensor(_core.squared_error_forward(t.array, p.array))
    wanted = is_tracked(t), is_tracked(p)

    def backward(dy):
        if is_tracked(dy) or is_tracked(t) or is_tracked(p):  # a second derivative
            factor = multiply(expand_dims(dy, -1), 2.0 / (p.shape[-1] or 1))
            dp = multiply(factor, subtract(p, t))
        else:
            dp = Tensor(_core.squared_error_backward(dy.array, t.array, p.array))
        return negative(dp) if wanted[0] else None, dp if wanted[1] else None

    return record(y, (t, p), backward)
