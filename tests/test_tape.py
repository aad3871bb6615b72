"""GradientTape, grad, value_and_grad, custom_gradient: semantics, not single ops."""

import numpy as np
import pytest

import narae
from narae import _core, ops


def test_gradient_of_a_variable():
    w = narae.Variable([1.0, 2.0])
    with narae.GradientTape() as tape:
        y = ops.sum(w * w * 3.0)
    np.testing.assert_allclose(tape.gradient(y, w).numpy(), [6.0, 12.0])


def test_structure_of_sources_is_kept():
    a, b = narae.Variable(2.0), narae.Variable(3.0)
    with narae.GradientTape() as tape:
        y = a * b
    gradients = tape.gradient(y, {"a": a, "rest": [b]})
    assert float(gradients["a"]) == 3.0 and float(gradients["rest"][0]) == 2.0


def test_a_value_used_twice_adds_its_gradients():
    x = narae.Variable(3.0)
    with narae.GradientTape() as tape:
        y = x * x + x
    assert float(tape.gradient(y, x)) == 7.0


def test_constants_are_followed_only_when_watched():
    x = ops.convert_to_tensor(3.0)
    with narae.GradientTape() as tape:
        y = x * x
    assert tape.gradient(y, x) is None
    with narae.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    assert float(tape.gradient(y, x)) == 6.0


def test_untrainable_variables_are_not_followed():
    w = narae.Variable(3.0, trainable=False)
    with narae.GradientTape() as tape:
        y = w * w
    assert tape.gradient(y, w) is None


def test_unconnected_gradients():
    x, y = narae.Variable([1.0, 2.0]), narae.Variable(1.0)
    with narae.GradientTape(persistent=True) as tape:
        z = y * 2.0
    assert tape.gradient(z, x) is None
    np.testing.assert_array_equal(
        tape.gradient(z, x, unconnected_gradients="zero").numpy(), [0.0, 0.0]
    )
    with pytest.raises(ValueError, match="unconnected_gradients"):
        tape.gradient(z, x, unconnected_gradients="nothing")


def test_only_a_persistent_tape_is_used_twice():
    x = narae.Variable(3.0)
    with narae.GradientTape() as tape:
        y = x * x
    tape.gradient(y, x)
    with pytest.raises(RuntimeError, match="persistent"):
        tape.gradient(y, x)
    with narae.GradientTape(persistent=True) as tape:
        y = x * x
    assert float(tape.gradient(y, x)) == float(tape.gradient(y, x)) == 6.0


def test_gradient_of_an_intermediate_value():
    x = narae.Variable(3.0)
    with narae.GradientTape() as tape:
        y = x * x
        z = y * y
    dy, dx = tape.gradient(z, [y, x])
    assert float(dy) == 18.0 and float(dx) == 108.0


def test_output_gradients():
    x = narae.Variable([1.0, 2.0])
    with narae.GradientTape() as tape:
        y = x * x
    gradient = tape.gradient(y, x, output_gradients=ops.convert_to_tensor([10.0, 1.0]))
    np.testing.assert_array_equal(gradient.numpy(), [20.0, 4.0])


def test_an_old_graph_is_not_walked_by_a_new_tape():
    x = narae.Variable(2.0)
    with narae.GradientTape():
        y = x * x
    with narae.GradientTape() as tape:
        z = y * x
    assert float(tape.gradient(z, x)) == 4.0  # y is a constant for the second tape


def test_second_derivative():
    x = narae.Variable(3.0)
    with narae.GradientTape() as outer:
        with narae.GradientTape() as inner:
            y = x * x * x
        dy = inner.gradient(y, x)
    assert float(outer.gradient(dy, x)) == 18.0
    assert float(narae.grad(narae.grad(lambda v: ops.exp(v * 2.0)))(0.0)) == 4.0


def test_second_derivative_of_a_kernel_raises():
    """A gradient made by one kernel must not pass for a constant."""
    x = narae.Variable([[0.5, 1.0]])
    with narae.GradientTape() as outer:
        with narae.GradientTape() as inner:
            y = ops.sum(ops.layer_normalization(x) ** 2)
        slope = ops.sum(inner.gradient(y, x))
    with pytest.raises(NotImplementedError, match="second derivative"):
        outer.gradient(slope, x)


def test_stop_gradient():
    x = narae.Variable(3.0)
    with narae.GradientTape() as tape:
        y = x * ops.stop_gradient(x)
    assert float(tape.gradient(y, x)) == 3.0


def test_value_and_grad_gives_one_gradient_per_argument():
    value, (da, db) = narae.value_and_grad(lambda a, b: a * a * b)(3.0, 4.0)
    assert (float(value), float(da), float(db)) == (36.0, 24.0, 9.0)
    x = ops.convert_to_tensor(2.0)
    assert [float(g) for g in narae.grad(lambda a, b: a * a * b)(x, x)] == [8.0, 4.0]


def test_custom_gradient():
    @ops.custom_gradient
    def straight_through(x):
        return ops.round(x), lambda dy: dy

    assert float(narae.grad(straight_through)(1.7)) == 1.0


def test_bad_arguments():
    with narae.GradientTape() as tape, pytest.raises(TypeError, match="watch"):
        tape.watch(3.0)
    with pytest.raises(TypeError, match="target"):
        tape.gradient(3.0, [])


def test_the_backward_pass_lets_go_of_what_it_has_used():
    x = narae.Variable(np.ones((256, 1024), "float32"))
    with narae.GradientTape() as tape:
        y = x
        for _ in range(20):
            y = ops.exp(y * 0.5)
        total = ops.sum(y)
    del y
    saved = narae.config.memory_stats()["allocated_bytes"]
    _core.reset_peak_memory()
    gradient = tape.gradient(total, x)
    assert narae.config.memory_stats()["peak_bytes"] < saved + 5 * x.array.nbytes
    del gradient
    assert narae.config.memory_stats()["allocated_bytes"] < saved - 20 * x.array.nbytes


def test_a_persistent_tape_keeps_it():
    x = narae.Variable([1.0, 2.0])
    with narae.GradientTape(persistent=True) as tape:
        y = ops.sum(ops.exp(x * x))
    first, second = tape.gradient(y, x), tape.gradient(y, x)
    np.testing.assert_array_equal(first.numpy(), second.numpy())
