"""What tests share: random arrays, gradients, a closeness test whose tolerances are derived."""

import numpy as np

from narae.engine import GradientTape, Tensor, convert_to_tensor

# Spacing of the numbers just above one. Storing a result costs at most half of it, relatively.
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}

# bfloat16 and float16 are stored, float32 is computed in: sums are as good as float32's.
COMPUTED_IN = {"float64": "float64", "float32": "float32", "float16": "float32"}
COMPUTED_IN["bfloat16"] = "float32"

# |actual - expected| <= FACTOR[kind] * EPS[computed in] * scale + EPS[stored in] * |expected|
#
# exact        Moves, indices, masks, comparisons: no rounding at all.
# elementwise  scale = |expected|. A polynomial exp, log, tanh, erf is within 2 ulp, and a function
#              built of them rounds a few times more. Where terms cancel (mish, gelu, x * x - 1 near
#              one) pass scale = the largest term.
# reduction    scale = sum |x|. A running sum of n terms of one sign in L lanes rounds n / L times,
#              each by at most eps / 2 of a partial sum that is half of the whole on average, and
#              with random signs: eps / 4 * sqrt(n / L), under 8 eps for n / L < 1000 (n = 1e5 in
#              8 lanes and 16 chains is 800). Independent of how the sum is cut.
# gemm, conv   scale = |A| @ |B|: the same argument with products as terms, and eps / 2 more for a
#              product that is rounded before it is added. y itself is no scale, its terms may
#              cancel. A linear op's reference gives it: f(|x|, |w|), f_backward(|dy|, |x|, |w|).
# composite    A chain of the above (norm, attention, recurrent): scale = max |expected|, each of
#              some ten steps adding a few eps of it. Pass a larger one for ill-conditioned inputs.
#
# The references are in float64 and round as much as a float64 kernel does: its bound is doubled.
# A result below the smallest normal number may be flushed to zero.
FACTOR = {"exact": 0, "elementwise": 4, "reduction": 8, "gemm": 8, "conv": 8, "composite": 64}


def randn(shape, dtype="float32", seed=0):
    """Standard normal numbers, fixed by shape and seed together."""
    shape = (shape,) if np.ndim(shape) == 0 else tuple(shape)
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype)


def tolerance(expected, dtype, kind="elementwise", scale=None):
    """The largest allowed |actual - expected|, element by element, by the table above."""
    size = np.abs(expected)
    if scale is None:
        if kind in ("gemm", "conv"):
            raise ValueError(f"helpers.tolerance: expected scale = |A| @ |B| for kind={kind!r}.")
        scale = size if kind == "elementwise" else size.max(initial=0)
    if kind == "exact" or dtype not in EPS:
        return np.zeros_like(size)
    both = 2 if dtype == "float64" else 1
    tiny = 2.0**-1022 if dtype == "float64" else 2.0**-126
    return both * (FACTOR[kind] * EPS[COMPUTED_IN[dtype]] * scale + EPS[dtype] * size) + tiny


def assert_close(actual, expected, kind="elementwise", scale=None, dtype=None):
    """Asserts that actual is expected up to rounding: kind and scale as in the table above.

    Tuples compare item by item, None equals None, NaN equals NaN, infinities equal themselves.
    dtype is actual's unless given.
    """
    if isinstance(expected, (tuple, list)):
        scales = scale if isinstance(scale, (tuple, list)) else [scale] * len(expected)
        for items in zip(actual, expected, scales, strict=True):
            assert_close(items[0], items[1], kind, items[2], dtype)
        return
    if expected is None or actual is None:
        assert actual is expected, f"expected {expected}, got {actual}"
        return
    actual = np.asarray(actual)
    dtype = dtype or actual.dtype.name
    assert actual.shape == np.shape(expected), (
        f"expected shape {np.shape(expected)}, got {actual.shape}"
    )
    if dtype in EPS:
        actual, expected = actual.astype(np.float64), np.asarray(expected, np.float64)
    expected = np.asarray(expected)
    with np.errstate(invalid="ignore", over="ignore"):
        same = (actual == expected) | ((actual != actual) & (expected != expected))
        error = np.where(same, 0, np.abs(np.subtract(actual, expected, dtype=np.float64)))
        allowed = np.broadcast_to(tolerance(expected, dtype, kind, scale), error.shape)
        bad = ~same & ~(np.isfinite(expected) & (error <= allowed))
    if not bad.any():
        return
    worst = np.where(bad, np.nan_to_num(error, nan=np.inf) / np.maximum(allowed, 1e-300), -1)
    at = np.unravel_index(worst.argmax(), worst.shape)
    raise AssertionError(
        f"{bad.sum()} of {bad.size} values differ ({dtype}, {kind}, shape {actual.shape}). "
        f"Worst at {tuple(int(i) for i in at)}: actual {actual[at]!s}, expected {expected[at]!s}, "
        f"error {error[at]:.3g}, allowed {allowed[at]:.3g}."
    )


def gradients(f, *xs):
    """The value, and the gradients of sum(f * dy) with random dy, which is returned too."""
    xs = [convert_to_tensor(x) for x in xs]
    with GradientTape() as tape:
        tape.watch(xs)
        y = f(*xs)
    dy = randn(y.shape, y.dtype, seed=99)
    return y.numpy(), tape.gradient(y, xs, output_gradients=Tensor(dy)), dy
