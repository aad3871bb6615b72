"""Optimizer kernels, on flat memory, against the float64 reference."""

import inspect

import numpy as np
import pytest
from ml_dtypes import bfloat16

from helpers import randn
from narae import _core
from narae.engine.tensor import Tensor
from narae.engine.variable import Variable
from narae.ops.gemm import Product
from narae.ops.optimizer import HYPER_SIZE, FlatGroup
from reference import optimizer as reference

SHAPES = [(3, 5), (1,), (16,), (2, 3, 7), (17,)]  # below, at and above a register, and ragged
LR, B1, B2, EPS = 0.01, 0.8, 0.95, 1e-3


class Bench:
    """Variables in a FlatGroup, and the same weights in float64 for the reference."""

    def __init__(self, dtype="float32", shapes=SHAPES, slots=0, start=0.0, hyper=(), every=1):
        self.w = [randn(shape, dtype, seed=i) for i, shape in enumerate(shapes)]
        self.variables = [Variable(w, dtype=dtype) for w in self.w]
        self.hyper = np.zeros(HYPER_SIZE)
        self.hyper[:4] = 0.0, 1.0, np.inf, 0.9
        self.hyper[4 : 4 + len(hyper)] = hyper
        self.rate = Variable(LR, dtype="float32", trainable=False)
        self.iteration = Variable(0, dtype="int64", trainable=False)
        self.group = FlatGroup(self.variables, self.hyper, self.rate, self.iteration, every)
        self.slots = [self.zeros(start if s == 0 else 0.0) for s in range(slots)]
        self.group.slots = [self.group.gather(slot) for slot in self.slots]
        self.expected = [w.astype("float64") for w in self.w]
        self.expected_slots = [
            [np.full(w.shape, start if s == 0 else 0.0) for s in range(slots)] for w in self.w
        ]

    def zeros(self, value=0.0):
        return [Variable(np.full_like(w, value), dtype=w.dtype.name) for w in self.w]

    def gradients(self, step):
        dtype = self.w[0].dtype.name
        return [randn(w.shape, dtype, seed=100 * step + i) for i, w in enumerate(self.w)]

    def check(self, rule, update, steps=4, **update_arguments):
        lr = float(np.float32(LR))  # the learning rate is a float32
        for t in range(1, steps + 1):
            gradients = self.gradients(t)
            self.group.update(rule, gradients)
            self.iteration.array += 1
            for i, g in enumerate(gradients):
                arguments = {"lr": lr, **update_arguments}
                if "t" in inspect.signature(update).parameters:
                    arguments["t"] = t
                self.expected[i], *self.expected_slots[i] = update(
                    self.expected[i], g.astype("float64"), *self.expected_slots[i], **arguments
                )
        self.compare()

    def compare(self):
        eps = np.finfo(self.w[0].dtype).eps
        for i, variable in enumerate(self.variables):
            pairs = [(variable.array, self.expected[i])]
            pairs += [(s[i].array, e) for s, e in zip(self.slots, self.expected_slots[i])]
            for actual, expected in pairs:
                # Some twenty roundings a step, of numbers near one.
                np.testing.assert_allclose(actual, expected, rtol=100 * eps, atol=100 * eps)


dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
moments = {"beta_1": B1, "beta_2": B2, "epsilon": EPS}


def plain_sgd(w, dw, lr):
    return (reference.sgd(w, dw, 0.0, lr)[0],)


@dtypes
def test_sgd(isa, dtype):
    Bench(dtype).check("sgd", plain_sgd)


@dtypes
@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum(isa, dtype, nesterov):
    rule = "nesterov" if nesterov else "momentum"
    Bench(dtype, slots=1, hyper=(0.9,)).check(rule, reference.sgd, momentum=0.9, nesterov=nesterov)


@dtypes
@pytest.mark.parametrize("rule", ["adam", "amsgrad", "adamax"])
def test_moments(isa, dtype, rule):
    slots = 3 if rule == "amsgrad" else 2
    Bench(dtype, slots=slots, hyper=(B1, B2, EPS)).check(rule, getattr(reference, rule), **moments)


@dtypes
def test_nadam(isa, dtype):
    bench = Bench(dtype, slots=2, hyper=(B1, B2, EPS))
    bench.group.product = Variable(1.0, dtype="float64", trainable=False)
    for slots in bench.expected_slots:
        slots.append(1.0)
    bench.check("nadam", reference.nadam, **moments)
    assert float(bench.group.product.array) == pytest.approx(bench.expected_slots[0][2], rel=1e-12)


@dtypes
@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("centered", [False, True])
def test_rmsprop(isa, dtype, momentum, centered):
    bench = Bench(dtype, slots=3, hyper=(0.9, momentum, EPS))
    if not momentum:
        bench.group.slots[1] = None
    if not centered:
        bench.group.slots[2] = None
    bench.slots = bench.slots[:1]
    bench.check(
        "rmsprop", reference.rmsprop, rho=0.9, momentum=momentum, epsilon=EPS, centered=centered
    )


@dtypes
def test_adagrad(isa, dtype):
    Bench(dtype, slots=1, start=0.1, hyper=(EPS,)).check("adagrad", reference.adagrad, epsilon=EPS)


@dtypes
def test_adadelta(isa, dtype):
    Bench(dtype, slots=2, hyper=(0.9, EPS)).check(
        "adadelta", reference.adadelta, rho=0.9, epsilon=EPS
    )


@dtypes
@pytest.mark.parametrize("power", [-0.5, -0.7, 0.0])
def test_ftrl(isa, dtype, power):
    lr = float(np.float32(LR))
    numbers = {"l1": 0.01, "l2": 0.02, "l2_shrinkage": 0.03, "beta": 0.1}
    bench = Bench(dtype, slots=2, start=0.1, hyper=(-power, *numbers.values()))
    for t in (1, 2, 3):
        gradients = bench.gradients(t)
        bench.group.update("ftrl", gradients)
        for i, g in enumerate(gradients):
            bench.expected[i], *bench.expected_slots[i] = reference.ftrl(
                bench.expected[i],
                g.astype("float64"),
                *bench.expected_slots[i],
                lr,
                power,
                **numbers,
            )
    eps = np.finfo(dtype).eps
    for i, variable in enumerate(bench.variables):
        # linear sums terms of size 1 / lr, and w is their difference times lr.
        np.testing.assert_allclose(variable.array, bench.expected[i], atol=400 * eps)
        np.testing.assert_allclose(
            bench.slots[1][i].array, bench.expected_slots[i][1], rtol=100 * eps, atol=400 / LR * eps
        )


@dtypes
def test_lion(isa, dtype):
    Bench(dtype, slots=1, hyper=(0.9, 0.99)).check("lion", reference.lion)


def test_lion_keeps_nan_and_zero(isa):
    bench = Bench(shapes=[(3,)], slots=1, hyper=(0.9, 0.99))
    before = bench.variables[0].numpy()
    bench.group.update("lion", [np.array([0.0, np.nan, -0.0], "float32")])
    after = bench.variables[0].array
    assert after[0] == before[0] and np.isnan(after[1]) and after[2] == before[2]


@dtypes
def test_weight_decay_factor_and_clipvalue(isa, dtype):
    bench = Bench(dtype)
    bench.hyper[:3] = 0.3, 0.5, 0.2
    bench.group.layout[1::2, 2] = 0  # every other variable does not decay
    gradients = bench.gradients(1)
    bench.group.update("sgd", gradients)
    lr = float(np.float32(LR))
    for i, g in enumerate(gradients):
        w = bench.expected[i]
        w = w if i % 2 else reference.weight_decay(w, lr, 0.3)
        bench.expected[i] = w - lr * reference.clip_by_value(g.astype("float64") * 0.5, 0.2)
    bench.compare()


def test_missing_gradient_leaves_its_variable(isa):
    bench = Bench(slots=1, hyper=(0.9,))
    bench.hyper[0] = 0.5
    gradients = bench.gradients(1)
    gradients[2] = None
    bench.group.update("momentum", gradients)
    np.testing.assert_array_equal(bench.variables[2].array, bench.w[2])
    assert not bench.slots[0][2].array.any() and bench.slots[0][1].array.any()
    assert (bench.variables[1].array != bench.w[1]).all()


@dtypes
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("shapes", [SHAPES, [(9000,), (3,), (70, 501)]])  # several chunks
def test_clip(isa, dtype, together, shapes):
    bench = Bench(dtype, shapes=shapes)
    bench.hyper[1] = 0.5
    gradients = bench.gradients(1)
    halves = [0.5 * g.astype("float64") for g in gradients]
    limit = 2.0
    scale = bench.group.clip(gradients, limit, together)
    if together:
        clipped = reference.clip_by_global_norm(halves, limit)
    else:
        clipped = [reference.clip_by_norm(g, limit) for g in halves]
    for factor, half, expected in zip(scale, halves, clipped):
        np.testing.assert_allclose(factor * half, expected, rtol=20 * np.finfo(dtype).eps)
    bench.group.update("sgd", gradients, scale)
    lr = float(np.float32(LR))
    bench.expected = [w - lr * g for w, g in zip(bench.expected, clipped)]
    bench.compare()


def test_clip_of_infinite_norms(isa):
    bench = Bench(shapes=[(3,), (2,)])
    gradients = [np.array([np.inf, 1, 1], "float32"), np.ones(2, "float32")]
    assert np.isnan(bench.group.clip(gradients, 1.0, True)).all()
    np.testing.assert_allclose(bench.group.clip(gradients, 1.0, False), [0, 1 / np.sqrt(2)])


def test_clip_and_update_do_not_depend_on_threads():
    results = []
    before = _core.num_threads()
    for threads in (1, 2, 3):
        _core.set_num_threads(threads)
        bench = Bench(shapes=[(40001,), (5,), (33333,)], slots=2, hyper=(B1, B2, EPS))
        gradients = bench.gradients(1)
        bench.group.update("adam", gradients, bench.group.clip(gradients, 1.0, True))
        results.append(bench.group.w.copy())
    _core.set_num_threads(before)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@dtypes
def test_accumulation(isa, dtype):
    """Three gradients make one update by their mean; the first two change no weight."""
    bench = Bench(dtype, slots=2, hyper=(B1, B2, EPS), every=3)
    bench.hyper[1] = 1 / 3
    totals = bench.zeros()
    bench.group.gather(totals)
    bench.group.accumulated = [v.array for v in totals]
    lr = float(np.float32(LR))
    for t in (1, 2):
        history = []
        for step in range(3):
            history.append(bench.gradients(10 * t + step))
            bench.group.update("adam", bench.group.accumulate(history[-1]))
            bench.iteration.array += 1
            if step < 2:
                bench.compare()
        for i in range(len(bench.w)):
            mean = np.mean([g[i].astype("float64") for g in history], axis=0)
            bench.expected[i], *bench.expected_slots[i] = reference.adam(
                bench.expected[i], mean, *bench.expected_slots[i], t, lr, **moments
            )
        bench.compare()


@dtypes
def test_average(isa, dtype):
    bench = Bench(dtype)
    averages = bench.zeros()
    bench.group.average = bench.group.gather(averages)
    lr = float(np.float32(LR))
    expected = None
    for step in range(5):
        gradients = bench.gradients(step)
        bench.group.update("sgd", gradients)
        bench.group.update_average(overwrite_every=4)
        bench.iteration.array += 1
        bench.expected = [w - lr * g.astype("float64") for w, g in zip(bench.expected, gradients)]
        if expected is None:
            expected = bench.expected
        else:
            expected = [0.9 * a + 0.1 * w for a, w in zip(expected, bench.expected)]
        if step == 3:
            bench.expected = expected
        bench.compare()
        for average, e in zip(averages, expected):
            np.testing.assert_allclose(
                average.array, e, rtol=100 * np.finfo(dtype).eps, atol=100 * np.finfo(dtype).eps
            )


def test_replay_reads_memory():
    """A recorded update follows the learning rate, the iteration and the gradients."""
    eager, replayed = (Bench(slots=2, hyper=(B1, B2, EPS)) for _ in range(2))
    buffers = [g.copy() for g in replayed.gradients(1)]
    recording = _core.Recording()
    for t in (1, 2, 3):
        gradients = eager.gradients(t)
        rate = np.float32(0.1 / t)
        for bench in (eager, replayed):
            bench.rate.array[...] = rate
        eager.group.update("adam", gradients, eager.group.clip(gradients, 0.5, True))
        for buffer, g in zip(buffers, gradients):
            buffer[...] = g
        if t == 1:
            recording.begin()
            replayed.group.update("adam", buffers, replayed.group.clip(buffers, 0.5, True))
            recording.end()
        else:
            recording.replay()
        for bench in (eager, replayed):
            bench.iteration.array += 1
        np.testing.assert_array_equal(eager.group.w, replayed.group.w)


RULES = {
    "sgd": (0, ()), "momentum": (1, (0.9,)), "nesterov": (1, (0.9,)), "adam": (2, (B1, B2, EPS)),
    "amsgrad": (3, (B1, B2, EPS)), "adamax": (2, (B1, B2, EPS)), "rmsprop": (3, (0.9, 0.5, EPS)),
    "adagrad": (1, (EPS,)), "adadelta": (2, (0.9, EPS)), "ftrl": (2, (0.5, 0.1, 0.1, 0.1, 0.1)),
    "lion": (1, (0.9, 0.99)), "nadam": (2, (B1, B2, EPS)),
}  # fmt: skip
# (B, K, N): the least; edges of one row or column, of less and more than a register; long sums.
FACTORS = [
    (1, 16, 32), (5, 29, 33), (33, 43, 75), (19, 30, 55), (17, 100, 41), (256, 31, 64), (0, 17, 50),
]  # fmt: skip


@dtypes
@pytest.mark.parametrize("clip", [np.inf, 0.5])
@pytest.mark.parametrize("rule", RULES)
def test_factors_update_as_their_product(isa, dtype, rule, clip):
    slots, hyper = RULES[rule]
    shapes = [(K, N) for _, K, N in FACTORS]
    apart, fused = (Bench(dtype, shapes=shapes, slots=slots, hyper=hyper) for _ in range(2))
    for bench in (apart, fused):
        bench.hyper[:3] = 0.1, 0.5, clip
        bench.group.product = Variable(1.0, dtype="float64", trainable=False)
    for t in range(2):
        pairs = [
            (randn((B, K), dtype, seed=10 * t + i), randn((B, N), dtype, seed=50 + 10 * t + i))
            for i, (B, K, N) in enumerate(FACTORS)
        ]
        apart.group.update(rule, [_core.matmul(x, dy, True, False) for x, dy in pairs])
        fused.group.update(rule, pairs)
        for bench in (apart, fused):
            bench.iteration.array += 1
    # The sums are the same bits, but of a * b - c * d either product may be fused.
    close = {"rtol": 8 * np.finfo(dtype).eps, "atol": 8 * np.finfo(dtype).eps}
    np.testing.assert_allclose(apart.group.w, fused.group.w, **close)
    for one, other in zip(apart.group.slots, fused.group.slots):
        np.testing.assert_allclose(one, other, **close)
    moved = [(v.array != w).mean() for v, w in zip(fused.variables, fused.w)]
    assert min(moved) > 0.9


def test_factors_and_arrays_do_not_depend_on_threads():
    before = _core.num_threads()
    results = []
    try:
        for threads in (1, 3):
            _core.set_num_threads(threads)
            bench = Bench(shapes=[(400, 300), (9000,), (64, 640)], slots=1, hyper=(0.9,))
            pairs = [(randn((32, 400)), randn((32, 300))), (randn((40, 64)), randn((40, 640)))]
            bench.group.update("momentum", [pairs[0], randn((9000,)), pairs[1]])
            results.append(bench.group.w)
    finally:
        _core.set_num_threads(before)
    np.testing.assert_array_equal(*results)


def test_a_product_of_a_variable_is_multiplied_out():
    bench = Bench(shapes=[(20, 40), (20, 40), (7,), (3,)])
    x, dy = (Tensor(randn((16, n))) for n in (20, 40))
    of_variable, vector = Tensor(bench.group.w[:640].reshape(16, 40)), Tensor(randn((7,)))
    gradients = [Product(x, dy), Product(x, of_variable), vector, None]
    taken, aliased, array, none = bench.group.for_kernels(gradients)
    assert taken == (x.array, dy.array) and array is vector.array and none is None
    np.testing.assert_allclose(aliased, x.array.T @ of_variable.array, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("slots", "least"), [(0, 16), (1, 48), (2, 80)])
def test_factors_of_few_samples_are_not_worth_it(isa, slots, least):
    for samples in (least - 1, least):
        x, dy = randn((samples, 20)), randn((samples, 40))
        assert _core.takes_factors(x, dy, slots) == (samples == least and isa != "base")


def test_a_product_is_a_tensor():
    x, dy = (Tensor(randn((4, n), "float64")) for n in (3, 5))
    product = Product(x, dy)
    about = (3, 5), "float64", 2, 15
    assert (product.shape, product.dtype, product.ndim, product.size) == about and product.factors
    np.testing.assert_allclose((product + 0.0).numpy(), x.array.T @ dy.array, rtol=1e-13)
    assert product.factors is None and product.array is product.array
    assert (product.shape, product.dtype, product.ndim, product.size) == about


def test_flat_memory():
    bench = Bench()
    for variable, w in zip(bench.variables, bench.w):
        np.testing.assert_array_equal(variable.array, w)
        assert variable.array.__array_interface__["data"][0] % 64 == 0
        assert variable.array.base is bench.group.w
    # A second group of the same variables, or of the last of them, shares the memory.
    again = FlatGroup(bench.variables, bench.hyper, bench.rate, bench.iteration)
    assert np.shares_memory(again.w, bench.group.w) and again.w.size == bench.group.w.size
    tail = FlatGroup(bench.variables[2:], bench.hyper, bench.rate, bench.iteration)
    assert np.shares_memory(tail.w, bench.group.w)
    # Others move the variables, and the first takes them back when it needs them.
    other = FlatGroup(bench.variables[::-1], bench.hyper, bench.rate, bench.iteration)
    assert not np.shares_memory(other.w, bench.group.w)
    other.w += 1
    bench.group.settle()
    np.testing.assert_array_equal(bench.variables[0].array, bench.w[0] + 1)
    assert np.shares_memory(bench.variables[0].array, bench.group.w)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gradients": []}, "expected 1 gradients. Received: 0"),
        ({"gradients": [np.ones(4, "float32")]}, "gradient of its variable's size"),
        ({"gradients": [(np.ones((2, 3), "float32"),)]}, "two arrays as factors of a gradient"),
        (
            {"gradients": [(np.ones((2, 16), "float32"), np.ones((2, 32), "float32"))]},
            r"B <= 512, K >= 16, N >= 32, for 3 weights. Received: \(2, 16\) and \(2, 32\)",
        ),
        ({"slots": [np.ones(5, "float32")]}, "slots of w's size"),
        ({"slots": []}, "expected 1 slots"),
        ({"layout": np.array([[0, 50, 1]])}, "segments of w"),
        ({"layout": np.array([[0, 3]])}, r"shape \(variables, 3\)"),
        ({"hyper": np.ones(3)}, "9 hyperparameters"),
        ({"every": 0}, "every >= 1"),
        ({"scale": np.ones(2)}, "one scale per variable"),
    ],
)
def test_binding_refuses(change, message):
    arguments = {
        "w": np.ones(16, "float32"),
        "layout": np.array([[0, 3, 1]]),
        "gradients": [np.ones(3, "float32")],
        "slots": [np.ones(16, "float32")],
        "hyper": np.ones(9),
        "rate": np.ones((), "float32"),
        "iteration": np.zeros((), "int64"),
        "every": 1,
        "scale": None,
        "product": None,
    }
    _core.momentum_update(*arguments.values())
    with pytest.raises(ValueError, match=message):
        _core.momentum_update(*(arguments | change).values())


@pytest.mark.parametrize(
    ("x", "dy"),
    [
        (np.ones((2, 16)), np.ones((3, 32))),
        (np.ones((257, 16)), np.ones((257, 32))),
        (np.ones((2, 15)), np.ones((2, 32))),
        (np.ones((2, 16)), np.ones((2, 31))),
        (np.ones(16), np.ones((2, 32))),
        (np.ones((2, 16), "float32"), np.ones((2, 32))),
        (np.ones((2, 16), bfloat16), np.ones((2, 32), bfloat16)),
        (np.ones((2, 16)), np.ones((2, 32)).tolist()),
    ],
)
def test_binding_refuses_factors(x, dy):
    if isinstance(dy, np.ndarray):
        assert not _core.takes_factors(x, dy, 0)
    rest = ([], np.ones(9), np.ones((), "float32"), np.zeros((), "int64"), 1, None, None)
    with pytest.raises((ValueError, TypeError), match="optimizer"):
        _core.sgd_update(np.ones(512), np.array([[0, 512, 1]]), [(x, dy)], *rest)


@pytest.mark.parametrize("name", ["accumulate_gradients", "clip_gradients"])
def test_factors_are_not_for_what_reads_them_apart(name):
    pair = np.ones((2, 16)), np.ones((2, 32))
    rest = ([], np.ones(9), np.ones((), "float32"), np.zeros((), "int64"), 1, None, None)
    limit = (1.0, True) if name == "clip_gradients" else ()
    with pytest.raises(ValueError, match="multiplied out"):
        getattr(_core, name)(np.ones(512), np.array([[0, 512, 1]]), [pair], *rest, *limit)


def test_binding_refuses_dtypes():
    ok = [np.ones(3, "float32"), np.array([[0, 3, 1]])]
    rest = ([], np.ones(9), np.ones((), "float32"), np.zeros((), "int64"), 1, None, None)
    with pytest.raises(TypeError, match="expected"):
        _core.sgd_update(*ok, [np.ones(3)], *rest)
    with pytest.raises(TypeError, match="expected"):
        _core.sgd_update(np.ones(3, "int32"), ok[1], [None], *rest)
