"""Recurrent networks: cells for one step, and whole sequences with backpropagation through time.

x (B, T, F), w (F, G * U), u (U, G * U), b (G * U,) for G gates of U units; states (B, U).
A cell returns its new states as a tuple, the output first. Where mask (B, T) is false the states
stay as they were, and y is the state that stays. b, h0 and c0 may be None: zeros.
"""

import numpy as np

from .unary import unary, unary_backward


def _zero(b):
    return 0.0 if b is None else b


def simple_rnn_cell(x, h, w, u, b=None, activation="tanh"):
    """h = activation(x @ w + h @ u + b)."""
    return (unary(x @ w + h @ u + _zero(b), activation),)


def simple_rnn_cell_backward(dy, x, h, w, u, b=None, activation="tanh"):
    """da = dy * activation'(a), then as in two dense layers: dx, dh, dw, du, db."""
    da = unary_backward(dy[0], x @ w + h @ u + _zero(b), activation)
    return da @ w.T, da @ u.T, x.T @ da, h.T @ da, None if b is None else da.sum(0)


def lstm_cell(x, h, c, w, u, b=None, activation="tanh", recurrent_activation="sigmoid"):
    """c = f * c + i * g, h = o * activation(c); x @ w + h @ u + b holds the gates i, f, g, o.

    i, f, o = recurrent_activation of theirs, g = activation of its own.
    """
    a_i, a_f, a_g, a_o = np.split(x @ w + h @ u + _zero(b), 4, -1)
    i, f, o = (unary(a, recurrent_activation) for a in (a_i, a_f, a_o))
    c = f * c + i * unary(a_g, activation)
    return o * unary(c, activation), c


def lstm_cell_backward(
    dy, x, h, c, w, u, b=None, activation="tanh", recurrent_activation="sigmoid"
):
    """dx, dh, dc, dw, du, db for dy = (dh, dc) of the new states."""
    dh_new, dc_new = dy
    a_i, a_f, a_g, a_o = np.split(x @ w + h @ u + _zero(b), 4, -1)
    i, f, o = (unary(a, recurrent_activation) for a in (a_i, a_f, a_o))
    g = unary(a_g, activation)
    c_new = f * c + i * g
    dc_new = dc_new + unary_backward(dh_new * o, c_new, activation)
    da_i = unary_backward(dc_new * g, a_i, recurrent_activation)
    da_f = unary_backward(dc_new * c, a_f, recurrent_activation)
    da_g = unary_backward(dc_new * i, a_g, activation)
    da_o = unary_backward(dh_new * unary(c_new, activation), a_o, recurrent_activation)
    da = np.concatenate([da_i, da_f, da_g, da_o], -1)
    db = None if b is None else da.sum(0)
    return da @ w.T, da @ u.T, dc_new * f, x.T @ da, h.T @ da, db


def gru_cell(
    x, h, w, u, b=None, activation="tanh", recurrent_activation="sigmoid", reset_after=True
):
    """h = z * h + (1 - z) * g; gates in the order z, r, g.

    z, r = recurrent_activation(x @ w + h @ u + b), each its third.
    reset_after: g = activation(x @ w_g + b_g + r * (h @ u_g + b'_g)), b (2, 3 * U) for x and h;
    otherwise:   g = activation(x @ w_g + b_g + (r * h) @ u_g), b (3 * U,).
    """
    return (_gru_gates(x, h, w, u, b, activation, recurrent_activation, reset_after)[0],)


def _gru_gates(x, h, w, u, b, activation, recurrent_activation, reset_after):
    b_x, b_h = (_zero(b), 0.0) if b is None or not reset_after else b
    x_z, x_r, x_g = np.split(x @ w + b_x, 3, -1)
    h_z, h_r, h_g = np.split(h @ u + b_h, 3, -1)
    a_z, a_r = x_z + h_z, x_r + h_r
    z, r = unary(a_z, recurrent_activation), unary(a_r, recurrent_activation)
    a_g = x_g + (r * h_g if reset_after else (r * h) @ np.split(u, 3, -1)[2])
    g = unary(a_g, activation)
    return z * h + (1 - z) * g, a_z, a_r, a_g, z, r, g, h_g


def gru_cell_backward(
    dy, x, h, w, u, b=None, activation="tanh", recurrent_activation="sigmoid", reset_after=True
):
    """dx, dh, dw, du, db for dy = (dh,) of the new state."""
    (dh_new,) = dy
    gates = _gru_gates(x, h, w, u, b, activation, recurrent_activation, reset_after)
    _, a_z, a_r, a_g, z, r, g, h_g = gates
    da_z = unary_backward(dh_new * (h - g), a_z, recurrent_activation)
    da_g = unary_backward(dh_new * (1 - z), a_g, activation)
    u_g = np.split(u, 3, -1)[2]
    dr = da_g * h_g if reset_after else (da_g @ u_g.T) * h
    da_r = unary_backward(dr, a_r, recurrent_activation)
    dx_gates = np.concatenate([da_z, da_r, da_g], -1)
    # What reached h @ u: after the reset all three thirds, before it only z and r.
    dh_gates = np.concatenate([da_z, da_r, da_g * r if reset_after else 0 * da_g], -1)
    dh, du = dh_new * z + dh_gates @ u.T, h.T @ dh_gates
    if not reset_after:
        dh += (da_g @ u_g.T) * r
        du += np.concatenate([0 * u_g, 0 * u_g, (r * h).T @ da_g], -1)
    db = dx_gates.sum(0)
    db = np.stack([db, dh_gates.sum(0)]) if reset_after else db
    return dx_gates @ w.T, dh, x.T @ dx_gates, du, None if b is None else db


def _scan(cell, x, states, parameters, mask, options):
    """[the states before step 0, after step 0, ...]."""
    batch, steps, _ = x.shape
    units = parameters[1].shape[0]
    states = tuple(np.zeros((batch, units)) if s is None else s for s in states)
    history = [states]
    for t in range(steps):
        new = cell(x[:, t], *states, *parameters, **options)
        if mask is not None:
            new = (np.where(mask[:, t, None], n, s) for n, s in zip(new, states, strict=True))
        states = tuple(new)
        history.append(states)
    return history


def _sequence(history):
    return np.stack([states[0] for states in history[1:]], 1), *history[-1]


def _scan_backward(dy, cell, cell_backward, x, states, parameters, mask, options):
    """dx, the gradients of the parameters, the gradients of the initial states."""
    history = _scan(cell, x, states, parameters, mask, options)
    dys, *dstates = dy
    dx = np.zeros_like(x)
    dparameters = [None if p is None else np.zeros_like(p) for p in parameters]
    for t in reversed(range(x.shape[1])):
        dstates[0] = dstates[0] + dys[:, t]
        live = 1.0 if mask is None else mask[:, t, None] * 1.0
        dnew = tuple(live * d for d in dstates)
        grads = cell_backward(dnew, x[:, t], *history[t], *parameters, **options)
        dx[:, t], dbefore, dp = grads[0], grads[1:-3], grads[-3:]
        dstates = [(1 - live) * d + e for d, e in zip(dstates, dbefore, strict=True)]
        dparameters = [None if a is None else a + b for a, b in zip(dparameters, dp, strict=True)]
    dstates = [None if s is None else d for s, d in zip(states, dstates, strict=True)]
    return dx, *dparameters, *dstates


def simple_rnn(x, w, u, b=None, h0=None, mask=None, **options):
    """ys, h: simple_rnn_cell over the steps."""
    return _sequence(_scan(simple_rnn_cell, x, (h0,), (w, u, b), mask, options))


def simple_rnn_backward(dy, x, w, u, b=None, h0=None, mask=None, **options):
    """dx, dw, du, db, dh0 for dy = (dys, dh)."""
    cells = simple_rnn_cell, simple_rnn_cell_backward
    return _scan_backward(dy, *cells, x, (h0,), (w, u, b), mask, options)


def lstm(x, w, u, b=None, h0=None, c0=None, mask=None, **options):
    """ys, h, c: lstm_cell over the steps."""
    return _sequence(_scan(lstm_cell, x, (h0, c0), (w, u, b), mask, options))


def lstm_backward(dy, x, w, u, b=None, h0=None, c0=None, mask=None, **options):
    """dx, dw, du, db, dh0, dc0 for dy = (dys, dh, dc)."""
    cells = lstm_cell, lstm_cell_backward
    return _scan_backward(dy, *cells, x, (h0, c0), (w, u, b), mask, options)


def gru(x, w, u, b=None, h0=None, mask=None, **options):
    """ys, h: gru_cell over the steps."""
    return _sequence(_scan(gru_cell, x, (h0,), (w, u, b), mask, options))


def gru_backward(dy, x, w, u, b=None, h0=None, mask=None, **options):
    """dx, dw, du, db, dh0 for dy = (dys, dh)."""
    return _scan_backward(dy, gru_cell, gru_cell_backward, x, (h0,), (w, u, b), mask, options)
