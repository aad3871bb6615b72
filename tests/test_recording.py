"""Record and replay: the same bits as eager, what breaks a recording, what makes it anew."""

import numpy as np
import pytest

import narae
from narae import _core, ops
from narae.engine import recording
from narae.engine.recording import RecordedStep


def make_step():
    """A step with state: a running sum of x @ w, and a counter."""
    w = narae.Variable(np.arange(12, dtype="float32").reshape(4, 3))
    total = narae.Variable(np.zeros((2, 3), "float32"))
    count = narae.Variable(0)

    def step(x):
        y = ops.relu(ops.matmul(x, w) - 1.0)
        total.assign_add(y)
        count.assign_add(1)
        return ops.sum(y)

    return step, w, total, count


def test_replay_gives_the_bits_of_eager_steps():
    batches = [np.random.default_rng(i).normal(size=(2, 4)).astype("float32") for i in range(5)]
    eager, _, eager_total, eager_count = make_step()
    values = [float(eager(ops.convert_to_tensor(x))) for x in batches]
    function, _, total, count = make_step()
    step = RecordedStep(function)
    for x, value in zip(batches, values):
        assert float(step(x)) == value
    assert step.recorded and not step.reason
    np.testing.assert_array_equal(total.numpy(), eager_total.numpy())
    assert int(count) == int(eager_count) == 5


def test_each_signature_has_its_own_recording_and_old_ones_go():
    calls = []

    def function(x):
        calls.append(x.shape)
        return x * 2.0

    step = RecordedStep(function, max_slots=2)
    for n in (1, 2, 1, 2, 3, 1):
        x = np.full((n, 2), n, "float32")
        np.testing.assert_array_equal(step(x).numpy(), x * 2)
    assert calls == [(1, 2), (2, 2), (3, 2), (1, 2)]


@pytest.mark.parametrize(
    "read", [float, lambda y: y.numpy(), np.asarray, bool, lambda y: f"{y:.2f}"],
    ids=["float", "numpy", "asarray", "bool", "format"],
)  # fmt: skip
def test_reading_a_value_abandons_the_recording_but_not_the_step(read):
    def function(x):
        y = ops.sum(x)
        read(y)
        return y * 2.0

    step = RecordedStep(function)
    assert [float(step(np.full(3, i, "float32"))) for i in (1, 2, 3)] == [6.0, 12.0, 18.0]
    assert not step.recorded and "reads the value" in step.reason


def test_variables_made_inside_a_step_are_made_once():
    made = []

    def function(x):
        if not made:
            made.append(narae.Variable(np.zeros(3, "float32")))
        made[0].assign_add(x)
        return made[0] * 1.0

    step = RecordedStep(function)
    for i in range(1, 5):
        np.testing.assert_array_equal(step(np.ones(3, "float32")).numpy(), np.full(3, i))


def test_moved_variables_are_recorded_again():
    function, w, *_ = make_step()
    step = RecordedStep(function)
    x = np.ones((2, 4), "float32")
    first = float(step(x))
    assert float(step(x)) == first
    generation = recording.generation()
    w.move_to(_core.empty(w.shape, np.dtype("float32")))
    assert recording.generation() > generation
    w.assign(w * 2.0)
    assert float(step(x)) != first


def test_an_index_out_of_range_raises_in_a_replay_too():
    table = narae.Variable(np.ones((5, 2), "float32"))
    step = RecordedStep(lambda ids: ops.sum(ops.take(table, ids, axis=0)))
    assert float(step(np.array([0, 4], "int32"))) == 4.0
    with pytest.raises(IndexError, match="5"):
        step(np.array([0, 5], "int32"))
    assert float(step(np.array([1, 1], "int32"))) == 4.0


def test_random_numbers_are_fresh_in_every_replay():
    def draws(run_eagerly):
        generator = narae.random.SeedGenerator(7)

        def function(x):
            return x + narae.random.uniform((4,), seed=generator)

        if run_eagerly:
            return [function(ops.zeros(4)).numpy().copy() for _ in range(4)]
        step = RecordedStep(function)
        return [step(np.zeros(4, "float32")).numpy().copy() for _ in range(4)]

    eager, replayed = draws(True), draws(False)
    np.testing.assert_array_equal(eager, replayed)
    assert len(np.unique(eager)) == 16


def test_memory_of_a_recording_is_reused_and_given_back():
    def function(x):
        for _ in range(50):
            x = x + 1.0
        return x

    narae.config.empty_cache()
    before = _core.memory_stats()
    step = RecordedStep(function)
    x = np.zeros(1 << 18, "float32")
    for _ in range(3):
        step(x)
    during = _core.memory_stats()
    # What lies free between live blocks, left by whoever ran before, is cached in both.
    held = [stats["allocated_bytes"] + stats["cached_bytes"] for stats in (before, during)]
    assert held[1] - held[0] < 8 << 20
    del step
    after = _core.memory_stats()
    assert after["allocated_bytes"] <= before["allocated_bytes"]
