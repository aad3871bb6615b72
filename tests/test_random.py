"""Random draws: the words of Philox, distributions, dropout's mask, repeatability, bad input.

The seeds are fixed, so a statistical test passes or fails for good. Its tolerance is 5 standard
deviations of what it measures (a chance of 6e-7 that a right generator misses one of them).
"""

import math
import statistics

import numpy as np
import pytest

from helpers import assert_close
from narae import _core, ops, random
from narae.engine import GradientTape, KerasTensor, SeedGenerator, Tensor
from narae.engine.random import next_key, set_random_seed
from narae.engine.recording import RecordedStep
from reference import random as reference

SIZES = [0, 1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 64, 65, 1001, 40000]
FLOATS = ["float32", "float64"]


def key_of(seed, counter=0):
    return np.array([seed, counter], "int64")


def pairs(words):
    """The 64-bit numbers that pairs of words make, the low word first."""
    low, high = np.asarray(words, np.uint64).reshape(-1, 2).T
    return low | high << np.uint64(32)


def units(key, size, dtype):
    """The numbers in [0, 1) that draws are made of."""
    if dtype == "float32":
        return reference.uniform(reference.bits(*key.tolist(), size))
    return (pairs(reference.bits(*key.tolist(), 2 * size)) >> np.uint64(11)) * 2.0**-53


def within(measured, expected, deviation):
    """Asserts that a mean (a count, ...) is within 5 of its standard deviations."""
    assert abs(measured - expected) <= 5 * deviation, (measured, expected, deviation)


# ---- words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seed, counter, block, words",
    [  # the known answers that Random123 publishes
        (0, 0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (2**64 - 1, 2**64 - 1, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (0x299F31D0A4093822, 0x0370734413198A2E, 0x85A308D3243F6A88,
         "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)  # fmt: skip
def test_philox_known_answers(isa, seed, counter, block, words):
    key = np.array([seed, counter], "uint64").view("int64")
    found = _core.random_words(key, 4, first_block=block)
    assert " ".join(f"{word:08x}" for word in found) == words


@pytest.mark.parametrize("size", SIZES)
def test_words_are_those_of_the_reference(isa, size):
    np.testing.assert_array_equal(
        _core.random_words(key_of(2**31 + 5, 7), size), reference.bits(2**31 + 5, 7, size)
    )


def test_block_numbers_carry_into_the_second_word(isa):
    key = key_of(3, 2**40)
    words = _core.random_words(key, 64, first_block=2**32 - 8)
    second = _core.random_words(key, 32, first_block=2**32)
    np.testing.assert_array_equal(words[32:], second)
    assert len(set(words.tolist())) == 64


# ---- floats ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", SIZES)
def test_uniform_is_exact(isa, dtype, size):
    key = key_of(11, 3)
    y = _core.random_uniform(key, (size,), 0.0, 1.0, np.dtype(dtype))
    np.testing.assert_array_equal(y, units(key, size, dtype))
    assert y.dtype == dtype


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform_in_a_range(isa, dtype):
    key, n = key_of(5), 100_000
    y = _core.random_uniform(key, (n,), -3.0, 5.0, np.dtype(dtype))
    u = units(key, n, dtype)
    assert_close(y, -3 + 8 * u.astype("float64"), scale=3 + 8 * u)
    within(y.mean(dtype="float64"), 1, 8 / math.sqrt(12 * n))
    assert -3 <= y.min() < -2.99 and 4.99 < y.max() < 5
    counts = np.histogram(y, 50, (-3, 5))[0]
    chi2 = ((counts - n / 50) ** 2 / (n / 50)).sum()  # 49 degrees of freedom: mean 49, variance 98
    within(chi2, 49, math.sqrt(98))


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform_never_reaches_its_bound(isa, dtype):
    one = np.dtype(dtype).type(1)
    high = np.nextafter(one, 2, dtype=dtype)  # only 1 itself lies in [1, high)
    y = _core.random_uniform(key_of(1), (1000,), 1.0, float(high), np.dtype(dtype))
    np.testing.assert_array_equal(y, np.ones(1000))
    y = _core.random_uniform(key_of(1), (1000,), 1e6, 1e6 + 0.5, np.dtype(dtype))
    assert y.min() >= 1e6 and y.max() < 1e6 + 0.5
    np.testing.assert_array_equal(random.uniform((3,), 2.0, 2.0, dtype), [2, 2, 2])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", SIZES)
def test_normal_is_that_of_the_reference(isa, dtype, size):
    key = key_of(12, 1)
    u, v = units(key, size + size % 2, dtype).astype("float64").reshape(-1, 2).T
    r = np.sqrt(-2 * np.log1p(-u))
    z = np.stack([r * np.cos(2 * np.pi * v), r * np.sin(2 * np.pi * v)], -1).reshape(-1)[:size]
    y = _core.random_normal(key, (size,), 0.0, 1.0, np.dtype(dtype))
    assert_close(y, z, scale=np.repeat(r, 2)[:size])
    y = _core.random_normal(key, (size,), 2.0, 3.0, np.dtype(dtype))
    assert_close(y, 2 + 3 * z, scale=2 + 3 * np.repeat(r, 2)[:size])


@pytest.mark.parametrize("dtype", FLOATS)
def test_normal_moments(isa, dtype):
    n = 200_000
    y = _core.random_normal(key_of(13), (n,), 0.0, 1.0, np.dtype(dtype)).astype("float64")
    within(y.mean(), 0, 1 / math.sqrt(n))
    within((y**2).mean(), 1, math.sqrt(2 / n))
    within((y**3).mean(), 0, math.sqrt(15 / n))
    within((y**4).mean(), 3, math.sqrt(96 / n))
    within((y[::2] * y[1::2]).mean(), 0, math.sqrt(2 / n))  # both of a pair
    within((y[1:] * y[:-1]).mean(), 0, 1 / math.sqrt(n))
    assert np.isfinite(y).all()
    p = statistics.NormalDist().cdf(-2)
    within((y < -2).sum(), n * p, math.sqrt(n * p))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [1, 7, 33, 1001])
def test_truncated_normal_is_the_quantile_of_a_uniform(isa, dtype, size):
    key = key_of(14)
    normal = statistics.NormalDist()
    low = normal.cdf(-2)
    u = units(key, size, dtype).astype("float64")
    z = np.array([normal.inv_cdf(low + (1 - 2 * low) * float(x)) for x in u])
    y = _core.random_truncated_normal(key, (size,), 1.0, 0.5, np.dtype(dtype))
    # 8: the quantile's slope is up to 1 / p(2) = 18.5, and steeper towards the ends
    assert_close(y, 1 + 0.5 * z, scale=8 * np.ones(size))


@pytest.mark.parametrize("dtype", FLOATS)
def test_truncated_normal_moments(isa, dtype):
    n = 200_000
    y = _core.random_truncated_normal(key_of(15), (n,), 0.0, 1.0, np.dtype(dtype)).astype("float64")
    assert -2 <= y.min() < -1.99 and 1.99 < y.max() <= 2
    variance = 1 - 4 * statistics.NormalDist().pdf(2) / math.erf(math.sqrt(2))
    within(y.mean(), 0, math.sqrt(variance / n))
    within((y**2).mean(), variance, math.sqrt(1 / n))  # y^4 has mean 1.43
    within((y < 0).mean(), 0.5, 0.5 / math.sqrt(n))


# ---- integers, truth values, orders, classes ---------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("size", [0, 1, 5, 17, 1001])
def test_randint_is_that_of_the_reference(isa, dtype, size):
    key = key_of(21, 2)
    v = pairs(reference.bits(21, 2, 2 * size))
    y = _core.random_randint(key, (size,), 3, 103, np.dtype(dtype))
    np.testing.assert_array_equal(y, [3 + (int(x) * 100 >> 64) for x in v])
    assert y.dtype == dtype


def test_randint_counts(isa):
    n = 60_000
    counts = np.bincount(_core.random_randint(key_of(22), (n,), 0, 6, np.dtype("int32")))
    assert len(counts) == 6
    within(((counts - n / 6) ** 2 / (n / 6)).sum(), 5, math.sqrt(10))


def test_randint_over_all_of_int64(isa):
    low, high = -(2**63), 2**63 - 1
    y = _core.random_randint(key_of(23), (1000,), low, high, np.dtype("int64"))
    assert y.min() < -(2**62) and y.max() > 2**62
    assert random.randint((4,), 2**31 - 1, 2**31).numpy().tolist() == [2**31 - 1] * 4


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
def test_bernoulli(isa, p):
    n = 50_000
    y = random.bernoulli((n,), p, seed=31)
    assert y.dtype == "bool"
    within(y.numpy().sum(), n * p, math.sqrt(n * p * (1 - p)))
    kept = reference.bits(31, 0, n) >> np.uint32(1) >= round((1 - p) * 2**31)
    np.testing.assert_array_equal(y, kept)
    assert random.bernoulli((3,), 1.0, dtype="float32").numpy().tolist() == [1, 1, 1]


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("n", [0, 1, 2, 17, 1000])
def test_permutation_holds_each_number_once(isa, dtype, n):
    y = random.permutation(n, dtype, seed=41)
    np.testing.assert_array_equal(np.sort(y), np.arange(n))
    assert y.dtype == dtype
    if n == 1000:
        assert 0 < (y.numpy() == np.arange(n)).sum() + 1 < 10  # about one stays in place


def test_all_orders_are_equally_likely(isa):
    n = 6000
    orders = [tuple(random.permutation(3, seed=seed).numpy().tolist()) for seed in range(n)]
    counts = np.array([orders.count(order) for order in set(orders)])
    assert len(counts) == 6
    within(((counts - n / 6) ** 2 / (n / 6)).sum(), 5, math.sqrt(10))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_shuffle(axis):
    x = np.arange(60, dtype="float32").reshape(3, 4, 5)
    y = random.shuffle(x, axis, seed=2).numpy()
    order = random.permutation(x.shape[axis], seed=2).numpy()
    np.testing.assert_array_equal(y, x.take(order, axis))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("N, C, S", [(1, 1, 1), (3, 2, 5), (2, 7, 33), (5, 17, 4), (2, 100, 3)])
def test_categorical_inverts_the_sums_of_probabilities(isa, dtype, N, C, S):
    logits = np.random.default_rng(0).normal(size=(N, C)).astype(dtype) * 3
    key = key_of(51, 9)
    y = _core.random_categorical(key, logits, S)
    p = np.exp(logits.astype("float64") - logits.max(1, keepdims=True)).cumsum(1)
    u = units(key, N * S, "float64").reshape(N, S)
    for n in range(N):
        np.testing.assert_array_equal(y[n], np.searchsorted(p[n], u[n] * p[n, -1], side="right"))


def test_categorical_counts_and_impossible_classes(isa):
    p, n = np.array([0.0, 0.5, 0.3, 0.2, 0.0]), 100_000
    with np.errstate(divide="ignore"):
        y = random.categorical(np.log(p)[None] + 1000.0, n, seed=52)
    assert y.shape == (1, n) and y.dtype == "int32"
    counts = np.bincount(y.numpy()[0], minlength=5)
    assert counts[0] == counts[4] == 0
    chi2 = ((counts - n * p)[1:4] ** 2 / (n * p)[1:4]).sum()
    within(chi2, 2, math.sqrt(4))


# ---- dropout -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", SIZES)
def test_dropout_forward_and_backward_have_one_mask(isa, dtype, size):
    x = Tensor(np.random.default_rng(size).normal(size=size).astype(dtype) + 10)
    dy = Tensor(np.random.default_rng(size + 1).normal(size=size).astype(dtype))
    with GradientTape() as tape:
        tape.watch(x)
        y = random.dropout(x, 0.3, seed=61)
    dx = tape.gradient(y, x, output_gradients=dy)
    kept = reference.bits(61, 0, size) >> np.uint32(1) >= round(0.3 * 2**31)
    scale = np.dtype(dtype).type(1 / (1 - 0.3))
    np.testing.assert_array_equal(y, np.where(kept, x.array * scale, 0))
    np.testing.assert_array_equal(dx, np.where(kept, dy.array * scale, 0))


def test_dropout_keeps_the_mean(isa):
    n = 100_000
    y = random.dropout(np.ones(n, "float32"), 0.4, seed=62).numpy()
    within((y == 0).sum(), 0.4 * n, math.sqrt(0.24 * n))
    within(y.mean(dtype="float64"), 1, math.sqrt(0.4 / 0.6 / n))


def test_dropped_values_are_zero_whatever_they_were(isa):
    y = random.dropout(np.full(1000, np.nan, "float32"), 0.5, seed=63).numpy()
    assert set(np.unique(y[~np.isnan(y)])) == {0.0} and 0 < np.isnan(y).sum() < 1000
    y = random.dropout(np.full((10, 10), np.inf, "float32"), 0.5, (10, 1), seed=63).numpy()
    assert set(np.unique(y)) == {0.0, np.inf}


def test_rates_zero_and_one():
    x = np.arange(1.0, 100.0, dtype="float32")
    np.testing.assert_array_equal(random.dropout(x, 0), x)
    np.testing.assert_array_equal(random.dropout(x, 1), np.zeros(99))
    np.testing.assert_array_equal(random.dropout(x[:, None], 1, (1, 1)), np.zeros((99, 1)))


@pytest.mark.parametrize("noise_shape", [(4, 1, 6), (None, 1, None), (1, 5, 1), (1, 1, 1), (6,)])
def test_noise_shape_drops_neighbours_together(isa, noise_shape):
    x = Tensor(np.random.default_rng(1).normal(size=(4, 5, 6)).astype("float32") + 10)
    with GradientTape() as tape:
        tape.watch(x)
        y = random.dropout(x, 0.5, noise_shape, seed=64)
    dx = tape.gradient(y, x)
    sizes = [n or m for n, m in zip(noise_shape, x.shape[-len(noise_shape) :])]
    kept = reference.bits(64, 0, math.prod(sizes)) >> np.uint32(31) == 1
    kept = np.broadcast_to(kept.reshape(sizes), x.shape)
    np.testing.assert_array_equal(y, np.where(kept, x.array * 2, 0))
    np.testing.assert_array_equal(dx, np.where(kept, 2, 0))


@pytest.mark.parametrize("noise_shape", [None, (3, 1)])
def test_the_gradient_of_dropout_has_a_gradient(noise_shape):
    x = Tensor(np.random.default_rng(2).normal(size=(3, 4)).astype("float64"))
    with GradientTape() as outer:
        outer.watch(x)
        with GradientTape() as inner:
            inner.watch(x)
            y = ops.sum(random.dropout(x, 0.5, noise_shape, seed=65) ** 2)
        g = inner.gradient(y, x)
    mask = random.dropout(np.ones((3, 4)), 0.5, noise_shape, seed=65).numpy()
    np.testing.assert_allclose(outer.gradient(g, x), 2 * mask**2, rtol=1e-15)


# ---- keys, threads, recordings -----------------------------------------------------------------


DRAWS = {
    "uniform": lambda seed: random.uniform((70_001,), -1.0, 2.0, seed=seed),
    "normal": lambda seed: random.normal((70_001,), seed=seed),
    "truncated_normal": lambda seed: random.truncated_normal((70_001,), seed=seed),
    "randint": lambda seed: random.randint((70_001,), 0, 100, seed=seed),
    "bernoulli": lambda seed: random.bernoulli((70_001,), seed=seed),
    "permutation": lambda seed: random.permutation(5000, seed=seed),
    "categorical": lambda seed: random.categorical(ops.zeros((500, 3)), 40, seed=seed),
    "dropout": lambda seed: random.dropout(ops.ones((70_001,)), 0.5, seed=seed),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_threads_do_not_change_the_numbers(isa, draw):
    before, results = _core.num_threads(), []
    for threads in (1, 2, 3, 4):
        _core.set_num_threads(threads)
        results.append(draw(71).numpy().tobytes())
    _core.set_num_threads(before)
    assert len(set(results)) == 1


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_instruction_sets_draw_the_same_numbers(draw):
    before, results = _core.isa(), []
    for name in _core.isas_supported():
        _core.set_isa(name)
        results.append(draw(72).numpy())
    _core.set_isa(before)
    for y in results[1:]:
        if y.dtype == "float32":
            np.testing.assert_allclose(y, results[0], rtol=1e-6, atol=1e-6)
        else:
            np.testing.assert_array_equal(y, results[0])


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_seeds(draw):
    same = [draw(73).numpy() for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert (draw(74).numpy() != same[0]).any()
    generator = SeedGenerator(73)
    first, second = draw(generator).numpy(), draw(generator).numpy()
    np.testing.assert_array_equal(first, same[0])  # its first key is that of the integer
    assert (first != second).any()
    set_random_seed(8)
    third = draw(None).numpy(), draw(None).numpy()
    set_random_seed(8)
    np.testing.assert_array_equal(draw(None), third[0])
    assert (third[0] != third[1]).any()


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_replays_draw_what_eager_steps_draw(draw):
    eager, replayed = SeedGenerator(75), SeedGenerator(75)
    step = RecordedStep(lambda x: draw(replayed))
    for _ in range(4):
        np.testing.assert_array_equal(step(np.zeros(1, "float32")).numpy(), draw(eager).numpy())
    assert step.recorded
    assert replayed.state.numpy().tolist() == eager.state.numpy().tolist() == [75, 4]


def test_a_replayed_gradient_uses_the_mask_of_its_own_step():
    generator = SeedGenerator(76)

    def function(x):
        with GradientTape() as tape:
            tape.watch(x)
            y = random.dropout(x, 0.5, seed=generator)
        return y, tape.gradient(y, x)

    step, masks = RecordedStep(function), set()
    for _ in range(4):
        y, dx = (t.numpy() for t in step(np.ones(64, "float32")))
        np.testing.assert_array_equal(y, dx)
        masks.add(y.tobytes())
    assert step.recorded and len(masks) == 4


def test_next_key_counts():
    generator = SeedGenerator(9)
    keys = [next_key(generator).numpy().tolist() for _ in range(3)]
    assert keys == [[9, 0], [9, 1], [9, 2]]


# ---- shapes, dtypes, bad input -----------------------------------------------------------------


def test_shapes_and_dtypes():
    assert random.normal((2, 0, 3)).shape == (2, 0, 3)
    assert random.uniform(5).shape == (5,) and random.uniform(()).shape == ()
    assert random.normal([2, 3], dtype="float64").dtype == "float64"
    assert random.normal((2,)).dtype == "float32"
    y = random.dropout(KerasTensor((None, 3)), 0.5, seed=1)
    assert y.shape == (None, 3) and y.dtype == "float32"


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: random.uniform((2,), 1.0, 0.0), "minval <= maxval"),
        (lambda: random.uniform((2,), -3e38, 3e38), "finite"),
        (lambda: random.uniform((2,), math.nan, 1.0), "minval"),
        (lambda: random.uniform((-1,)), "non-negative sizes"),
        (lambda: random.normal((2**40, 2**40)), "fits 64 bits"),
        (lambda: random.uniform((2,), dtype="int32"), "expected dtype to be one of"),
        (lambda: random.normal((2,), dtype="bool"), "expected dtype to be one of"),
        (lambda: random.randint((2,), 3, 3), "minval < maxval"),
        (lambda: random.randint((2,), 0, 257, "uint8"), "values that uint8 holds"),
        (lambda: random.randint((2,), -(2**31) - 1, 0), "values that int32 holds"),
        (lambda: random.randint((2,), 0, 5, "float32"), "expected dtype to be one of"),
        (lambda: random.bernoulli((2,), 1.5), "p between 0 and 1"),
        (lambda: random.dropout(np.ones(3), -0.1), "rate between 0 and 1"),
        (lambda: random.dropout(np.ones(3), math.nan), "rate between 0 and 1"),
        (lambda: random.dropout(np.ones((3, 4)), 0.5, (2, 4)), "noise_shape that broadcasts"),
        (lambda: random.dropout(np.ones((3, 4)), 0.5, (1, 3, 4)), "noise_shape that broadcasts"),
        (lambda: random.permutation(-1), "n >= 0"),
        (lambda: random.shuffle(np.ones(3), axis=1), "an axis of x"),
        (lambda: random.categorical(np.ones(3), 1), "logits of shape"),
        (lambda: random.categorical(np.ones((3, 0)), 1), "logits of shape"),
        (lambda: random.categorical(np.ones((3, 2)), -1), "num_samples >= 0"),
        (lambda: random.normal((2,), seed=-1), "seed"),
        (lambda: random.normal((2,), seed=1.5), "seed"),
        (lambda: _core.random_next(np.zeros(3, "int64")), "shape"),
        (lambda: _core.random_words(np.zeros(3, "int64"), 2), "shape"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_key_of_another_dtype_is_a_type_error():
    with pytest.raises(TypeError, match="int64"):
        _core.random_words(np.zeros(2, "int32"), 2)
