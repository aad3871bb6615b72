"""Recurrent networks over whole sequences: one call forward, one call back through time."""

from narae import _core, ops
from narae.engine import Tensor, convert_to_tensor, is_tracked, op, record
from narae.ops.elementwise import in_float32
from narae.ops.softmax import to_float

__all__ = ["gru", "lstm", "simple_rnn"]


def _checked(who, gates, x, kernel, recurrent_kernel, states, mask):
    """Returns x, both kernels, the initial states and the mask as tensors that fit, or raises."""
    x = to_float(x)
    kernel, recurrent_kernel = (convert_to_tensor(k, x.dtype) for k in (kernel, recurrent_kernel))
    if x.ndim != 3:
        raise ValueError(
            f"narae.ops.{who}: expected x of shape (batch, steps, features). "
            f"Received: x.shape={x.shape}"
        )
    units = recurrent_kernel.shape[0] if recurrent_kernel.ndim else 0
    expected = {"kernel": (x.shape[2], gates * units), "recurrent_kernel": (units, gates * units)}
    for name, tensor in (("kernel", kernel), ("recurrent_kernel", recurrent_kernel)):
        if tensor.shape != expected[name]:
            raise ValueError(
                f"narae.ops.{who}: expected {name} of shape {expected[name]} for {units} units. "
                f"Received: {name}.shape={tensor.shape}, x.shape={x.shape}"
            )
    shape = (x.shape[0], units)
    states = [
        ops.zeros(shape, x.dtype) if s is None else convert_to_tensor(s, x.dtype) for s in states
    ]
    for s in states:
        if s.shape != shape:
            raise ValueError(
                f"narae.ops.{who}: expected initial states of shape {shape}. "
                f"Received: shape {s.shape}"
            )
    if mask is not None:
        mask = ops.cast(convert_to_tensor(mask), "bool")
        if mask.shape != x.shape[:2]:
            raise ValueError(
                f"narae.ops.{who}: expected mask of shape {x.shape[:2]}. "
                f"Received: mask.shape={mask.shape}"
            )
    return x, kernel, recurrent_kernel, states, mask


def _vector(who, bias, size, dtype):
    if bias is None:
        return None
    bias = convert_to_tensor(bias, dtype)
    if bias.shape != (size,):
        raise ValueError(
            f"narae.ops.{who}: expected bias of shape {(size,)}. Received: bias.shape={bias.shape}"
        )
    return bias


def _rows(array):
    return array.reshape(array.shape[0] * array.shape[1], array.shape[2])


def _array(x):
    return None if x is None else x.array


def _run(name, x, w, u, b, bias, states, mask, reverse, activation="tanh"):
    """Returns y and the final states. b is added to x @ w, bias (gru's) to h @ u."""
    forward, backward_kernel = getattr(_core, f"{name}_forward"), getattr(_core, f"{name}_backward")
    h0, c0 = states[0].array, states[1].array if len(states) > 1 else None
    gates = _core.matmul(_rows(x.array), w.array, bias=_array(b))
    gates = gates.reshape(x.shape[0], x.shape[1], w.shape[1])
    options = {"mask": _array(mask), "reverse": reverse, "activation": activation}
    y, h, c, kept = forward(gates, u.array, h0, c0, _array(bias), **options)

    inputs = (x, w, u, *(p for p in (b, bias) if p is not None), *states)
    wanted = [is_tracked(t) for t in inputs]

    def backward(dy, dh, dc=None):
        da, dha, dh0, dc0 = backward_kernel(
            dy.array, dh.array, _array(dc), gates, u.array, y, kept, h0, c0, **options
        )
        da, dha = _rows(da), _rows(dha)
        gradients = [
            lambda: _core.matmul(da, w.array, transpose_x2=True).reshape(x.shape),
            lambda: _core.matmul(_rows(x.array), da, transpose_x1=True),
            lambda: _core.matmul(
                _rows(_core.recurrent_previous(y, h0, reverse)), dha, transpose_x1=True
            ),
        ]
        gradients += [] if b is None else [lambda: _core.bias_backward(da)]
        gradients += [] if bias is None else [lambda: _core.bias_backward(dha)]
        gradients += [lambda: dh0] if c0 is None else [lambda: dh0, lambda: dc0]
        return tuple(Tensor(g()) if want else None for g, want in zip(gradients, wanted))

    outputs = (Tensor(y), Tensor(h)) if c0 is None else (Tensor(y), Tensor(h), Tensor(c))
    return record(outputs, inputs, backward)


@op
@in_float32
def simple_rnn(
    x, h0, kernel, recurrent_kernel, bias, mask=None, activation: str = "tanh", reverse=False
) -> tuple[Tensor, Tensor]:
    """Runs h[t] = activation(x[t] @ kernel + h[t-1] @ recurrent_kernel + bias) over a sequence.

    Args:
        x: (B, T, F).
        h0: initial state (B, U), or None: zeros.
        kernel: (F, U).
        recurrent_kernel: (U, U).
        bias: (U,) or None.
        mask: (B, T) or None. Where it is false the state stays, and is the output.
        activation: `"tanh"`, `"relu"`, `"sigmoid"` or `"linear"`.
        reverse: whether to go from the last step to the first; outputs keep the place of their x.

    Returns:
        The outputs (B, T, U) and the final state (B, U).

    Raises:
        ValueError: shapes that do not fit.
    """
    x, kernel, recurrent_kernel, states, mask = _checked(
        "simple_rnn", 1, x, kernel, recurrent_kernel, [h0], mask
    )
    b = _vector("simple_rnn", bias, kernel.shape[1], x.dtype)
    return _run(
        "simple_rnn", x, kernel, recurrent_kernel, b, None, states, mask, bool(reverse), activation
    )


@op
@in_float32
def lstm(
    x, h0, c0, kernel, recurrent_kernel, bias, mask=None, reverse: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Runs a long short-term memory over a sequence.

    i, f, o = sigmoid and g = tanh of x[t] @ kernel + h[t-1] @ recurrent_kernel + bias, laid out
    i, f, g, o; c[t] = f * c[t-1] + i * g; h[t] = o * tanh(c[t]).

    Args:
        x: (B, T, F).
        h0, c0: initial states (B, U), or None: zeros.
        kernel: (F, 4 * U).
        recurrent_kernel: (U, 4 * U).
        bias: (4 * U,) or None.
        mask: (B, T) or None. Where it is false the states stay, and h is the output.
        reverse: whether to go from the last step to the first; outputs keep the place of their x.

    Returns:
        The outputs (B, T, U) and the final states h and c (B, U).

    Raises:
        ValueError: shapes that do not fit.
    """
    x, kernel, recurrent_kernel, states, mask = _checked(
        "lstm", 4, x, kernel, recurrent_kernel, [h0, c0], mask
    )
    b = _vector("lstm", bias, kernel.shape[1], x.dtype)
    return _run("lstm", x, kernel, recurrent_kernel, b, None, states, mask, bool(reverse))


@op
@in_float32
def gru(
    x,
    h0,
    kernel,
    recurrent_kernel,
    bias,
    mask=None,
    reset_after: bool = True,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """Runs a gated recurrent unit over a sequence.

    z, r = sigmoid(x[t] @ kernel + h[t-1] @ recurrent_kernel + bias), laid out z, r, g;
    g = tanh(x_g + r * (h[t-1] @ recurrent_g + bias_g)), or with `reset_after=False`
    g = tanh(x_g + (r * h[t-1]) @ recurrent_g); h[t] = z * h[t-1] + (1 - z) * g.

    Args:
        x: (B, T, F).
        h0: initial state (B, U), or None: zeros.
        kernel: (F, 3 * U).
        recurrent_kernel: (U, 3 * U).
        bias: (2, 3 * U) for x and for h with `reset_after`, else (3 * U,); or None.
        mask: (B, T) or None. Where it is false the state stays, and is the output.
        reset_after: whether the reset gate is applied after the product, as Keras does by default.
        reverse: whether to go from the last step to the first; outputs keep the place of their x.

    Returns:
        The outputs (B, T, U) and the final state (B, U).

    Raises:
        ValueError: shapes that do not fit.
    """
    x, kernel, recurrent_kernel, states, mask = _checked(
        "gru", 3, x, kernel, recurrent_kernel, [h0], mask
    )
    size = kernel.shape[1]
    if not reset_after:
        b = _vector("gru", bias, size, x.dtype)
        return _gru_reset_before(x, states[0], kernel, recurrent_kernel, b, mask, bool(reverse))
    b_x = b_h = None
    if bias is not None:
        bias = convert_to_tensor(bias, x.dtype)
        if bias.shape != (2, size):
            raise ValueError(
                f"narae.ops.gru: expected bias of shape {(2, size)} with reset_after=True. "
                f"Received: bias.shape={bias.shape}"
            )
        b_x, b_h = bias[0], bias[1]
    return _run("gru", x, kernel, recurrent_kernel, b_x, b_h, states, mask, bool(reverse))


def _gru_reset_before(x, h, kernel, recurrent_kernel, bias, mask, reverse):
    """The older form, composed of ops: its reset gate stands between two products a step."""
    units, steps = h.shape[1], x.shape[1]
    gates = ops.matmul(x, kernel)
    gates = gates if bias is None else gates + bias
    u_zr, u_g = recurrent_kernel[:, : 2 * units], recurrent_kernel[:, 2 * units :]
    outputs = [None] * steps
    for t in reversed(range(steps)) if reverse else range(steps):
        a = gates[:, t]
        zr = ops.sigmoid(a[:, : 2 * units] + ops.matmul(h, u_zr))
        z, r = zr[:, :units], zr[:, units:]
        g = ops.tanh(a[:, 2 * units :] + ops.matmul(r * h, u_g))
        new = z * h + (1 - z) * g
        h = new if mask is None else ops.where(mask[:, t : t + 1], new, h)
        outputs[t] = h
    y = ops.stack(outputs, 1) if steps else ops.zeros((x.shape[0], 0, units), x.dtype)
    return y, h
