"""One update of a weight w by its gradient dw: each returns the new w, then the new slots.

t counts the updates from one. Slots start at zero unless said. Epsilons stand where Keras has them.
"""

import numpy as np


def weight_decay(w, lr, rate):
    """w -= lr * rate * w, before the update that it goes with."""
    return w - lr * rate * w


def sgd(w, dw, m, lr=0.01, momentum=0.0, nesterov=False):
    """m = momentum * m - lr * dw; w += m, or with nesterov w += momentum * m - lr * dw."""
    m = momentum * m - lr * dw
    return w + (momentum * m - lr * dw if nesterov else m), m


def _moments(dw, m, v, beta_1, beta_2):
    return m + (1 - beta_1) * (dw - m), v + (1 - beta_2) * (dw * dw - v)


def adam(w, dw, m, v, t, lr=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    """m, v = running means of dw, dw^2; w -= alpha * m / (sqrt(v) + epsilon).

    alpha = lr * sqrt(1 - beta_2^t) / (1 - beta_1^t)
    """
    m, v = _moments(dw, m, v, beta_1, beta_2)
    alpha = lr * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    return w - alpha * m / (np.sqrt(v) + epsilon), m, v


def amsgrad(w, dw, m, v, v_max, t, lr=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    """adam that divides by the largest v so far: returns w, m, v, v_max."""
    m, v = _moments(dw, m, v, beta_1, beta_2)
    v_max = np.maximum(v_max, v)
    alpha = lr * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    return w - alpha * m / (np.sqrt(v_max) + epsilon), m, v, v_max


def adamw(w, dw, m, v, t, lr=0.001, rate=0.004, **params):
    """weight_decay, then adam."""
    return adam(weight_decay(w, lr, rate), dw, m, v, t, lr, **params)


def nadam(w, dw, m, v, product, t, lr=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    """adam with Nesterov's look ahead; product is that of all u, starts at one.

    u(t) = beta_1 * (1 - 0.96^t / 2); product *= u(t)
    m_hat = u(t + 1) * m / (1 - product * u(t + 1)) + (1 - u(t)) * dw / (1 - product)
    w -= lr * m_hat / (sqrt(v / (1 - beta_2^t)) + epsilon)
    """
    u, u_next = (beta_1 * (1 - 0.5 * 0.96**s) for s in (t, t + 1))
    product = product * u
    m, v = _moments(dw, m, v, beta_1, beta_2)
    m_hat = u_next * m / (1 - product * u_next) + (1 - u) * dw / (1 - product)
    return w - lr * m_hat / (np.sqrt(v / (1 - beta_2**t)) + epsilon), m, v, product


def adamax(w, dw, m, v, t, lr=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    """v = max(beta_2 * v, |dw|); w -= lr / (1 - beta_1^t) * m / (v + epsilon)."""
    m = m + (1 - beta_1) * (dw - m)
    v = np.maximum(beta_2 * v, np.abs(dw))
    return w - lr * m / ((1 - beta_1**t) * (v + epsilon)), m, v


def rmsprop(w, dw, v, m, mean, lr=0.001, rho=0.9, momentum=0.0, epsilon=1e-7, centered=False):
    """v, mean = running means of dw^2, dw; m = momentum * m + lr * dw / sqrt(v + epsilon); w -= m.

    centered takes mean^2 from v first; otherwise mean stays as it is.
    """
    v = rho * v + (1 - rho) * dw * dw
    mean = rho * mean + (1 - rho) * dw if centered else mean
    m = momentum * m + lr * dw / np.sqrt(v - (mean * mean if centered else 0) + epsilon)
    return w - m, v, m, mean


def adagrad(w, dw, total, lr=0.001, epsilon=1e-7):
    """total += dw^2 (it starts at 0.1); w -= lr * dw / sqrt(total + epsilon)."""
    total = total + dw * dw
    return w - lr * dw / np.sqrt(total + epsilon), total


def adadelta(w, dw, v, d, lr=0.001, rho=0.95, epsilon=1e-7):
    """v, d = running means of dw^2, step^2; w += lr * step.

    step = -sqrt(d + epsilon) / sqrt(v + epsilon) * dw, with the d before
    """
    v = rho * v + (1 - rho) * dw * dw
    step = -np.sqrt(d + epsilon) / np.sqrt(v + epsilon) * dw
    return w + lr * step, v, rho * d + (1 - rho) * step * step


def ftrl(w, dw, total, linear, lr=0.001, power=-0.5, l1=0.0, l2=0.0, l2_shrinkage=0.0, beta=0.0):
    """Follow the regularized leader; total, the sum of dw^2, starts at 0.1.

    linear += dw + 2 * l2_shrinkage * w - (new^-power - total^-power) / lr * w, new = total + dw^2
    w = (clip(linear, -l1, l1) - linear) / (new^-power / lr + 2 * l2 + beta / lr)
    """
    new = total + dw * dw
    linear = linear + dw + 2 * l2_shrinkage * w - (new**-power - total**-power) / lr * w
    w = (np.clip(linear, -l1, l1) - linear) / (new**-power / lr + 2 * l2 + beta / lr)
    return w, new, linear


def lion(w, dw, m, lr=0.001, beta_1=0.9, beta_2=0.99):
    """w -= lr * sign(beta_1 * m + (1 - beta_1) * dw); m = beta_2 * m + (1 - beta_2) * dw."""
    w = w - lr * np.sign(beta_1 * m + (1 - beta_1) * dw)
    return w, beta_2 * m + (1 - beta_2) * dw


def lamb(w, dw, m, v, t, lr=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    """w -= lr * |w| / |d| * d, the ratio one where a norm is zero.

    d = m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon)
    """
    m, v = _moments(dw, m, v, beta_1, beta_2)
    d = m / (1 - beta_1**t) / (np.sqrt(v / (1 - beta_2**t)) + epsilon)
    w_norm, d_norm = np.sqrt((w * w).sum()), np.sqrt((d * d).sum())
    ratio = w_norm / d_norm if w_norm > 0 and d_norm > 0 else 1.0
    return w - ratio * lr * d, m, v


def clip_by_value(dw, limit):
    """Every element into [-limit, limit]."""
    return np.clip(dw, -limit, limit)


def clip_by_norm(dw, limit):
    """dw * limit / max(|dw|, limit)."""
    return dw * limit / max(np.sqrt((dw * dw).sum()), limit)


def clip_by_global_norm(dws, limit):
    """Every dw by limit / max(norm of them all, limit), by NaN when the norm is not finite."""
    norm = np.sqrt(sum((dw * dw).sum() for dw in dws))
    scale = limit / max(norm, limit) if np.isfinite(norm) else np.nan
    return [dw * scale for dw in dws]
